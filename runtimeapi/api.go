package runtimeapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
)

// Config says whose Runtime API this is.
type Config struct {
	FunctionARN string       // for log lines only
	Version     string       // for log lines only
	Log         *slog.Logger // nil discards
}

// API is the Runtime API of one environment.
type API struct{ cfg Config }

var errNotBuilt = errors.New("not built yet")

// New makes an API in the starting state.
func New(cfg Config) *API { return &API{cfg: cfg} }

// ServeHTTP is the HTTP face.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	http.Error(w, errNotBuilt.Error(), http.StatusNotImplemented)
}

// ServeConn is the frames face.
func (a *API) ServeConn(ctx context.Context, c net.Conn) error { return errNotBuilt }

// WaitReady waits until the runtime asked for its first event.
func (a *API) WaitReady(ctx context.Context) error { return errNotBuilt }

// Invoke gives ev to the runtime and waits for its answer.
func (a *API) Invoke(ctx context.Context, ev *Event) (Response, error) {
	return Response{}, errNotBuilt
}

// WaitNext waits until the runtime has asked for its next event.
func (a *API) WaitNext(ctx context.Context) error { return errNotBuilt }

// Reset tells the API that the runtime process is gone.
func (a *API) Reset() {}

// Close ends all waits.
func (a *API) Close() {}
