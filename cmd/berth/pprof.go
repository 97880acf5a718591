package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// profilerHeaderLimit bounds how long a client of the profiler may take to send its request.
const profilerHeaderLimit = 10 * time.Second

// profiler serves Go's profiles of this process.
type profiler struct {
	server *http.Server
	done   chan struct{}
}

// startProfiler listens on addr, which the command line has checked to be loopback: a profile tells of every account's
// functions.
func startProfiler(addr string, log *slog.Logger) (*profiler, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("the profiler's address: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	p := &profiler{server: &http.Server{Handler: mux, ReadHeaderTimeout: profilerHeaderLimit}, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if err := p.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the profiler stopped serving", "error", err)
		}
	}()
	log.Info("profiles are served", "url", "http://"+listener.Addr().String()+"/debug/pprof/")
	return p, nil
}

// stop ends the profiler, and what is being profiled with it.
func (p *profiler) stop() {
	_ = p.server.Close() // what it could not close ends with the process
	<-p.done
}
