package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"berth/internal/procfs"
)

// What asynchronous invocation must reach on one machine.
const (
	eventClients  = 64
	barAccepted   = 5000 // per second, each synced to disk before its 202
	barAcceptedMS = 50   // p99
	barThrough    = 3000 // per second, run by a Go function
	drainWithin   = time.Minute
)

// events measures how fast events are accepted while a Go function runs them, and how fast it gets through what has piled up.
func (b *bench) events(ctx context.Context, t *target) error {
	function := t.languages[len(t.languages)-1]
	if err := setMemory(ctx, t, function, memoryFor(eventClients)); err != nil {
		return err
	}
	accepted := newSample()
	var before, after int64
	var backlog float64
	var waited time.Duration
	for round := range b.rounds + 1 {
		if round == 1 { // the first made the environments
			var err error
			if before, err = procfs.PSS(t.server.PID()); err != nil {
				return err
			}
		}
		request, err := signedEvent(ctx, t, function)
		if err != nil {
			return err
		}
		measured, err := load(ctx, t.addr, request, eventClients, b.slice)
		if err != nil {
			return err
		}
		if after, err = procfs.PSS(t.server.PID()); err != nil {
			return err
		}
		status, err := t.Events(ctx, function)
		if err != nil {
			return err
		}
		took, err := drained(ctx, t, function, drainWithin)
		if err != nil {
			return err
		}
		if round > 0 {
			accepted.merge(measured)
			backlog += float64(status.Queued + status.InFlight + status.Retrying)
			waited += took
		}
	}
	return b.reportEvents(function, accepted, backlog/waited.Seconds(), (accepted.elapsed + waited).Seconds(), float64(after-before))
}

// reportEvents: through is the rate with nobody publishing; seconds is how long everything took together.
func (b *bench) reportEvents(function string, accepted *sample, through, seconds, memory float64) error {
	for _, line := range []row{
		bar(row{Metric: "events.accepted.throughput", Value: accepted.throughput(), Unit: "1/s"}, fmt.Sprintf("≥ %d", barAccepted), func(r row) bool { return r.Value >= barAccepted }),
		{Metric: "events.accepted.p50", Value: microseconds(accepted.quantile(50)), Unit: "µs"},
		bar(row{Metric: "events.accepted.p99", Value: microseconds(accepted.quantile(99)), Unit: "µs"}, fmt.Sprintf("≤ %d ms", barAcceptedMS), func(r row) bool { return r.Value <= barAcceptedMS*1000 }),
		bar(row{Metric: "events." + function + ".through", Value: through, Unit: "1/s"}, fmt.Sprintf("≥ %d", barThrough), func(r row) bool { return r.Value >= barThrough }),
		{Metric: "events." + function + ".both", Value: float64(accepted.requests) / seconds, Unit: "1/s"},
		{Metric: "events.server.memory", Value: memory / (1 << 20), Unit: "MiB"},
	} {
		if err := b.report.add(line); err != nil {
			return err
		}
	}
	return nil
}

// drained waits until all events of a function are done.
func drained(ctx context.Context, t *target, function string, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	for {
		status, err := t.Events(ctx, function)
		if err != nil {
			return 0, err
		}
		if status.Queued+status.InFlight+status.Retrying == 0 {
			return time.Since(began), nil
		}
		if time.Since(began) > limit {
			return 0, fmt.Errorf("after %v events wait still: %+v: %w", limit, status, os.ErrDeadlineExceeded)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
