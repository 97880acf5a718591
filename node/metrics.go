package node

import (
	"context"
	"fmt"
	"net"

	"berth/events"
	"berth/metrics"
	"berth/store/jetstream"
)

// counted is the data path with what counts its calls; without the metrics' address nothing does.
type counted struct {
	invoker metrics.Invoker
	counts  *metrics.Invocations
}

func newCounted(cfg Config, invoker metrics.Invoker) counted {
	if cfg.Metrics == "" {
		return counted{invoker: invoker}
	}
	counts := metrics.NewInvocations()
	return counted{counts.Of(invoker), counts}
}

// startMetrics serves what this process has done, if it shall. face is nil in a process without the API, poller in one that runs
// no events.
func startMetrics(cfg Config, l *lifecycle, calls counted, face *eventsFace, poller *events.Poller, engine *jetstream.Engine) error {
	if cfg.Metrics == "" {
		return nil
	}
	listener, err := net.Listen("tcp", cfg.Metrics)
	if err != nil {
		return fmt.Errorf("the address of metrics (--metrics): %w", err)
	}
	s := metrics.Sources{Invocations: calls.counts}
	if face != nil {
		s.Accepted = face.Accepted
	}
	if poller != nil {
		s.Events, s.Queued = poller.Totals, engine.Queued
	}
	l.run("metrics", func(ctx context.Context) error { return metrics.Serve(ctx, listener, s) })
	cfg.Log.Info("metrics are served", "url", "http://"+listener.Addr().String()+"/metrics")
	return nil
}
