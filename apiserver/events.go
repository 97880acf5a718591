package apiserver

import (
	"context"
	"net/http"
	"sync"
	"time"

	"berth/lambda"
)

// Limits of asynchronous invocations. They are kept in memory until a durable queue takes their place.
const (
	maxEvents  = 1000             // accepted and not done; at most 256 KiB each
	drainLimit = 20 * time.Second // for what was accepted to end, at shutdown
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
	maxRetries = 20 // of an invocation that was throttled or came while its function was being changed: about a minute
)

// events are the asynchronous invocations under way.
type events struct {
	slots  chan struct{}
	ctx    context.Context // of the invocations: they outlive the requests that brought them
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

func newEvents() events {
	ctx, cancel := context.WithCancel(context.Background())
	return events{slots: make(chan struct{}, maxEvents), ctx: ctx, cancel: cancel}
}

// accept answers an Event invocation, and has it run.
func (s *Server) accept(c *call, ref lambda.Ref, in *lambda.Invocation) error {
	_, err := s.cfg.Catalog.Resolve(ref)
	if err != nil && lambda.CodeOf(err) != lambda.ResourceConflict { // a function that is being made can wait a little
		return err
	}
	if !s.events.start(func(ctx context.Context) { s.runEvent(ctx, ref, in) }) {
		return &lambda.Error{Code: lambda.TooManyRequests, Message: "Rate Exceeded.", Reason: lambda.ReasonCallerRate, RetryAfter: time.Second}
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// start runs f, unless too many run or the server is shutting down.
func (e *events) start(f func(context.Context)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	select {
	case e.slots <- struct{}{}:
	default:
		return false
	}
	e.running.Go(func() {
		defer func() { <-e.slots }()
		f(e.ctx)
	})
	return true
}

// drain takes no more, waits for what runs, and breaks it off after drainLimit.
func (e *events) drain() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	timer := time.AfterFunc(drainLimit, e.cancel)
	defer timer.Stop()
	defer e.cancel()
	e.running.Wait()
}

// runEvent runs one asynchronous invocation, again and again while it is throttled.
func (s *Server) runEvent(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) {
	wait := firstRetry
	for n := 0; ; n++ {
		_, err := s.cfg.Invoker.Invoke(ctx, ref, in)
		if err == nil {
			return
		}
		code := lambda.CodeOf(err)
		again := code == lambda.TooManyRequests || code == lambda.ResourceConflict
		if !again || n == maxRetries || !sleep(ctx, wait) {
			s.log.WarnContext(ctx, "asynchronous invocation dropped", "id", in.RequestID, "account", ref.Account,
				"function", ref.Function, "attempts", n+1, "err", err)
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

// sleep waits, and reports false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
