package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"berth/events"
	"berth/lambda"
)

type function func() (*lambda.Outcome, error)

func (f function) Invoke(context.Context, lambda.Ref, *lambda.Invocation) (*lambda.Outcome, error) {
	return f()
}

func TestServe(t *testing.T) {
	calls := NewInvocations()
	for _, f := range []function{
		func() (*lambda.Outcome, error) { return &lambda.Outcome{Cold: true}, nil },
		func() (*lambda.Outcome, error) { return &lambda.Outcome{}, nil },
		func() (*lambda.Outcome, error) { return &lambda.Outcome{FunctionError: "Unhandled"}, nil },
		func() (*lambda.Outcome, error) { return nil, lambda.Errorf(lambda.TooManyRequests, "Rate Exceeded.") },
		func() (*lambda.Outcome, error) { return nil, io.ErrUnexpectedEOF },
	} {
		want, wantErr := f()
		got, err := calls.Of(f).Invoke(t.Context(), lambda.Ref{}, nil)
		if (got == nil) != (want == nil) || (err == nil) != (wantErr == nil) {
			t.Errorf("Invoke = %v, %v, want %v, %v", got, err, want, wantErr)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, l, Sources{
			Invocations: calls, Accepted: func() uint64 { return 12 }, Queued: func() int { return 7 },
			Events: func() events.Totals {
				return events.Totals{Running: 3, Succeeded: 4, Failed: 5, BackedOff: 6, Retried: 8, Redelivered: 9, Told: 10, Dropped: map[string]uint64{"function-gone": 11}}
			},
		})
	}()
	resp, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", resp.Status, err)
	}
	for _, line := range []string{
		`berth_invocations_total{result="ok"} 2`, `berth_invocations_total{result="function_error"} 1`,
		`berth_invocations_total{result="throttled"} 1`, `berth_invocations_total{result="error"} 1`,
		`berth_cold_starts_total 1`, `berth_invocation_duration_seconds_count 3`,
		`berth_events_accepted_total 12`, `berth_events_queued 7`, `berth_events_in_flight 3`,
		`berth_events_attempts_total{result="ok"} 4`, `berth_events_attempts_total{result="function_error"} 5`,
		`berth_events_attempts_total{result="backoff"} 6`, `berth_events_retried_total 8`, `berth_events_redelivered_total 9`,
		`berth_events_destinations_told_total 10`, `berth_events_dropped_total{reason="function-gone"} 11`, `go_goroutines `,
	} {
		if !strings.Contains(string(body), "\n"+line) {
			t.Errorf("there is no line %s", line)
		}
	}
	resp, err = http.Get("http://" + l.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("another path is answered %s", resp.Status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Serve ended with %v", err)
	}
}

// TestSourcesMayBeMissing: a process shows what it has.
func TestSourcesMayBeMissing(t *testing.T) {
	if _, err := Handler(Sources{}); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkCount(b *testing.B) {
	calls := NewInvocations()
	path := calls.Of(function(func() (*lambda.Outcome, error) { return &lambda.Outcome{}, nil }))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := path.Invoke(b.Context(), lambda.Ref{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
