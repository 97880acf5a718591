package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"berth/lambda"
)

// Invoker runs invocations to their end.
type Invoker interface {
	Invoke(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error)
}

// Invocations counts calls. It costs a call two looks at the clock and a few atomic additions.
type Invocations struct {
	ok, failed, throttled, refused, cold prometheus.Counter
	total                                *prometheus.CounterVec
	duration                             prometheus.Histogram
}

// buckets of durations in seconds: from a warm call of a small function to the longest time limit.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900}

// NewInvocations makes counters that are zero.
func NewInvocations() *Invocations {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "berth_invocations_total",
		Help: "Calls by result: ok, function_error (the function failed), throttled, error (of the server or the request).",
	}, []string{"result"})
	return &Invocations{
		total: total, ok: total.WithLabelValues("ok"), failed: total.WithLabelValues("function_error"),
		throttled: total.WithLabelValues("throttled"), refused: total.WithLabelValues("error"),
		cold: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "berth_cold_starts_total", Help: "Calls for which an environment was started.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "berth_invocation_duration_seconds", Help: "Time of calls that reached a function, waiting and start included.", Buckets: buckets,
		}),
	}
}

func (i *Invocations) collectors() []prometheus.Collector {
	return []prometheus.Collector{i.total, i.cold, i.duration}
}

// Of returns an Invoker that counts what another does.
func (i *Invocations) Of(next Invoker) Invoker { return counted{i, next} }

type counted struct {
	*Invocations
	next Invoker
}

func (c counted) Invoke(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error) {
	began := time.Now()
	out, err := c.next.Invoke(ctx, ref, in)
	c.count(out, err, time.Since(began))
	return out, err
}

func (i *Invocations) count(out *lambda.Outcome, err error, took time.Duration) {
	switch {
	case err != nil && lambda.CodeOf(err) == lambda.TooManyRequests:
		i.throttled.Inc()
		return
	case err != nil:
		i.refused.Inc()
		return
	case out.FunctionError != "":
		i.failed.Inc()
	default:
		i.ok.Inc()
	}
	if out.Cold {
		i.cold.Inc()
	}
	i.duration.Observe(took.Seconds())
}
