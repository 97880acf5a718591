package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// eventCollector reads the counts of asynchronous calls when it is asked.
type eventCollector struct{ Sources }

var (
	accepted    = prometheus.NewDesc("berth_events_accepted_total", "Asynchronous calls that were answered 202.", nil, nil)
	queued      = prometheus.NewDesc("berth_events_queued", "Events that are stored, of all functions, a few seconds ago; those at work and those that wait for their time included.", nil, nil)
	inFlight    = prometheus.NewDesc("berth_events_in_flight", "Events that this process has at work.", nil, nil)
	attempts    = prometheus.NewDesc("berth_events_attempts_total", "Attempts at events, by result: ok, function_error, backoff (throttled, or an error of the server's own).", []string{"result"}, nil)
	retried     = prometheus.NewDesc("berth_events_retried_total", "Events that were stored again because their function failed.", nil, nil)
	redelivered = prometheus.NewDesc("berth_events_redelivered_total", "Deliveries of events that had been delivered before: after a backoff, or because who had them is gone (then the event may run twice).", nil, nil)
	delivered   = prometheus.NewDesc("berth_events_destinations_told_total", "Records and dead letters that a destination has taken.", nil, nil)
	dropped     = prometheus.NewDesc("berth_events_dropped_total", "Events of which nobody will hear any more, by reason (see berth events --help).", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (c *eventCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{accepted, queued, inFlight, attempts, retried, redelivered, delivered, dropped} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *eventCollector) Collect(to chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	if c.Accepted != nil {
		counter(accepted, c.Accepted())
	}
	if c.Queued != nil {
		to <- prometheus.MustNewConstMetric(queued, prometheus.GaugeValue, float64(c.Queued()))
	}
	if c.Events == nil {
		return
	}
	t := c.Events()
	to <- prometheus.MustNewConstMetric(inFlight, prometheus.GaugeValue, float64(t.Running))
	counter(attempts, t.Succeeded, "ok")
	counter(attempts, t.Failed, "function_error")
	counter(attempts, t.BackedOff, "backoff")
	counter(retried, t.Retried)
	counter(redelivered, t.Redelivered)
	counter(delivered, t.Told)
	for reason, n := range t.Dropped {
		counter(dropped, n, reason)
	}
}
