// Package metrics shows what a process has done, for Prometheus. Counts are those of this process since it started; add them up
// over all processes. Nothing is labelled by function: a server may have 100,000 of them; `berth events` tells of one.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"berth/events"
)

// Sources are what a process has to show; nil is what it has not.
type Sources struct {
	Invocations *Invocations
	Accepted    func() uint64        // events, since the start
	Events      func() events.Totals // of the process's poller
	Queued      func() int           // events of all functions, as this process last saw
}

// Limits of the HTTP server, which only this machine reaches.
const (
	headerLimit = 10 * time.Second
	writeLimit  = 30 * time.Second
	stopLimit   = time.Second // for an answer under way when the process stops
)

// Serve answers GET /metrics on a listener until ctx ends.
func Serve(ctx context.Context, l net.Listener, s Sources) error {
	handler, err := Handler(s)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerLimit, WriteTimeout: writeLimit}
	stopped := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(stopped)
		end, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		if server.Shutdown(end) != nil {
			_ = server.Close() // what it could not close ends with the process
		}
	})()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics: %w", err)
	}
	<-stopped
	return nil
}

// Handler answers with the sources' present values.
func Handler(s Sources) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	list := []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &eventCollector{s},
	}
	if s.Invocations != nil {
		list = append(list, s.Invocations.collectors()...)
	}
	for _, c := range list {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}
