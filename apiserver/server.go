// Package apiserver speaks the AWS Lambda API over HTTP: it verifies who calls, decodes and validates by the API's model,
// changes the catalog, and hands invocations to an Invoker. It keeps no state of its own but the work in progress.
package apiserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"berth/apimodel"
	"berth/catalog"
	"berth/code"
	"berth/functionurl"
	"berth/lambda"
	"berth/store"
)

// Invoker runs invocations to their end. ref is what the caller wrote, not resolved yet; the Invocation's InvokedARN is
// for the invoker to fill from what it resolves. Errors are *lambda.Error (ResourceNotFound, ResourceConflict,
// TooManyRequests, …); a function's own failure is an Outcome.
type Invoker interface {
	Invoke(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error)
}

// Preparer makes a version ready to run: its code unpacked and its runtime found. Errors: InvalidRuntime and InvalidZipFile
// say what the function's owner must change, and become the version's StateReason; so does any other *lambda.Error. Errors
// of other types are the server's own: the preparation is tried again.
type Preparer interface {
	Prepare(ctx context.Context, v *lambda.Version) error
}

// ProvisionState is what there is of a provisioned concurrency.
type ProvisionState struct {
	Allocated int  // initialised environments, those of an alias's version before included until they are replaced
	Ready     bool // all that are asked for are initialised
	Failed    bool // the function failed to initialise
}

// Config is what a Server needs. All members are required unless they say otherwise.
type Config struct {
	Catalog  *catalog.Catalog
	Blobs    store.Blobs
	Invoker  Invoker
	Preparer Preparer
	// Authenticate says whose request it is, or why it is nobody's (*lambda.Error). body is nil when the request carries no
	// signature at all; then it has not been read.
	Authenticate func(r *http.Request, body []byte) (lambda.Caller, error)
	// Inspect verifies an uploaded zip. Errors are *lambda.Error, Lambda's own.
	Inspect func(zip []byte) (code.Info, error)
	// Runtimes tells what the workers have installed. Optional: without it answers show no RuntimeVersionConfig for functions
	// that run in that.
	Runtimes Runtimes
	// Images finds container images. Optional: without it functions and runtimes cannot be such.
	Images Images
	// Provisioned reports what there is of a provisioned concurrency. Optional: without it nothing is ever provisioned.
	Provisioned func(catalog.Provision) ProvisionState
	// Events takes asynchronous invocations. Optional: without it they are refused, and there are no schedules.
	Events Events
	// Queue checks that an SQS queue can be read for event source mappings; the error, queues.ErrNoQueue or another, says why not.
	// Optional: without it queues are not read.
	Queue func(ctx context.Context, arn string) error
	// Tenants lists those of a function. Optional.
	Tenants func(ctx context.Context, account lambda.AccountID, function string) (TenantList, error)
	// JWKS returns the public keys of tenant tokens, as a JSON Web Key Set. Optional: without it there are none.
	JWKS func() ([]byte, error)
	// LinkKey signs the links under which code is downloaded; servers that share it honour each other's. Optional: random.
	LinkKey []byte
	Log     *slog.Logger // optional: slog.Default
}

// Server is an http.Handler. It works while Run does.
type Server struct {
	cfg     Config
	log     *slog.Logger
	model   *apimodel.Model
	routes  map[*apimodel.Operation]handler
	invoke  *apimodel.Operation
	stream  *apimodel.Operation // InvokeWithResponseStream
	prepare preparation
	large   chan struct{} // places for requests with large bodies
}

// New makes a Server. It starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Catalog == nil || cfg.Blobs == nil || cfg.Invoker == nil || cfg.Preparer == nil || cfg.Authenticate == nil || cfg.Inspect == nil {
		return nil, errors.New("apiserver: Config lacks a required member")
	}
	model, err := apimodel.Load()
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.LinkKey == nil {
		cfg.LinkKey = make([]byte, 32)
		rand.Read(cfg.LinkKey) // never fails: it ends the process instead
	}
	s := &Server{cfg: cfg, log: cfg.Log, model: model, prepare: newPreparation(), large: make(chan struct{}, maxLarge)}
	if s.routes, err = s.routeTable(); err != nil {
		return nil, err
	}
	s.invoke, s.stream = model.Operation("Invoke"), model.Operation("InvokeWithResponseStream")
	return s, nil
}

// Run prepares what is pending until ctx ends, and returns when nothing of the server runs any more. Start it when the catalog is Ready.
func (s *Server) Run(ctx context.Context) error {
	s.runPreparations(ctx)
	return nil
}

// call is one request on its way through the server.
type call struct {
	server  *Server
	w       http.ResponseWriter
	r       *http.Request
	op      *apimodel.Operation
	path    apimodel.Path
	body    []byte
	who     lambda.Caller
	account lambda.AccountID // who's
	id      string           // request id

	across *across // nil in most calls
}

// across is what the gates have let through of another account's: handlers touch nothing else of others.
type across struct {
	function catalog.ID
	layer    catalog.LayerID
}

// handler answers one operation's calls: it writes the answer, or returns an error before it has written anything.
type handler func(*call) error

// The headers that are on every answer, in net/http's canonical spelling (names are case-insensitive on the wire).
const requestIDHeader = "X-Amzn-Requestid"

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := call{server: s, w: w, r: r, id: newRequestID()}
	w.Header()[requestIDHeader] = []string{c.id}
	defer s.recover(&c)
	begin := time.Now()
	if err := s.serve(&c); err != nil {
		s.fail(&c, err)
	}
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		s.log.DebugContext(r.Context(), "request", "id", c.id, "account", c.account, "method", r.Method,
			"path", r.URL.Path, "took", time.Since(begin))
	}
}

// serve finds out what the request is, and has it answered.
func (s *Server) serve(c *call) error {
	if id, path, ok := functionurl.Route(c.r); ok {
		return s.serveURL(c, id, path)
	}
	if len(c.r.URL.Path) > len(ownPrefix) && c.r.URL.Path[:len(ownPrefix)] == ownPrefix {
		return s.serveOwn(c)
	}
	if c.r.URL.Path == jwksPath {
		return s.serveJWKS(c)
	}
	var err error
	if c.op, c.path, err = s.model.Match(c.r); err != nil {
		return err
	}
	switch c.op {
	case s.invoke:
		return s.serveInvoke(c)
	case s.stream:
		return s.serveInvokeStream(c)
	}
	done, err := s.admit(c, bodyLimit(c.op.Name))
	if err != nil {
		return err
	}
	defer done()
	return s.routes[c.op](c)
}

// fail answers with an error. What is not a *lambda.Error is logged and told to nobody.
func (s *Server) fail(c *call, err error) {
	var e *lambda.Error
	if !errors.As(err, &e) {
		level := slog.LevelError
		if c.r.Context().Err() != nil {
			level = slog.LevelDebug // the client is gone: that is the reason of most errors then, and nobody reads the answer
		}
		s.log.Log(c.r.Context(), level, "request failed", "id", c.id, "account", c.account, "path", c.r.URL.Path, "err", err)
		e = internalError()
		if errors.Is(err, store.ErrFull) { // not a secret, and what to do about it is clear
			e = lambda.Errorf(lambda.ServiceFailure, "The server's disk is full: nothing was changed. Make room there; the server's log has details under this request id.")
		}
	}
	s.model.WriteError(c.w, e)
}

func internalError() *lambda.Error {
	return lambda.Errorf(lambda.ServiceFailure, "An internal error occurred. The server's log has details under this request id.")
}

// recover answers a request whose handler panicked. http.ErrAbortHandler goes on to net/http, which breaks the connection.
func (s *Server) recover(c *call) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.log.ErrorContext(c.r.Context(), "handler panicked", "id", c.id, "account", c.account, "path", c.r.URL.Path,
		"panic", p, "stack", string(debug.Stack()))
	s.model.WriteError(c.w, internalError())
}
