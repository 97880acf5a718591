// Package extensions serves the Extensions API (2020-01-01), the Telemetry API (2022-07-01) and the older Logs API
// (2020-08-15) of one environment, beside its Runtime API. It knows who has registered, gives out events, and sends telemetry
// into the sandbox; processes, time limits and log lines are its user's.
//
// Life: New → Begin → (external extensions are started) → AwaitRegistered → (the runtime is started) → AwaitIdle → Close of the
// registration by InitDone → Invoke, AwaitIdle → … → Shutdown → Begin again, or Close.
//
// Everything that comes from an extension is hostile: there are at most MaxExtensions, each with one subscription, whose memory is
// bounded; who does not take what it subscribed to loses it, and hears how much.
package extensions

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the API.
const (
	MaxExtensions = 10 // external and internal; developer guide, "Lambda extensions quotas"

	ShutdownExternal = 2 * time.Second        // from the SHUTDOWN event to SIGKILL; developer guide, "Shutdown phase"
	ShutdownInternal = 500 * time.Millisecond // with internal extensions only: from the runtime's SIGTERM to SIGKILL
	ShutdownRuntime  = 300 * time.Millisecond // the runtime's part of ShutdownExternal
)

// ErrClosed is what waiting calls get when the environment ends or begins anew.
var ErrClosed = errors.New("the extensions' host was closed")

// Reason is why an environment shuts down.
type Reason string

// The reasons.
const (
	Spindown Reason = "spindown" // it is not needed any more
	Timeout  Reason = "timeout"  // an invocation or the initialisation took too long
	Failed   Reason = "failure"  // the runtime or an extension ended
)

// Config says whose extensions these are.
type Config struct {
	Account, Function, Version, Handler string // what an extension learns when it registers
	JSON                                bool   // the function's log format: lines that are JSON objects are passed on as such
	// Dial connects to a port in the sandbox, and nowhere else.
	Dial func(ctx context.Context, port uint16) (net.Conn, error)
	// Alarm is told, once in each Begin, that an extension has failed, after Failure knows. It must not block.
	Alarm func()
	// Subscribed is told of each subscription, for the log. Optional.
	Subscribed func(name string, legacy bool, types []string)
	Log        *slog.Logger // nil discards
}

// Failure is how an extension failed.
type Failure struct {
	Type    string // "Extension.Crash", …
	Message string // as in the answer to the caller: "exit code 0"
	OOM     bool   // it was killed for want of memory
}

func (f *Failure) Error() string { return f.Type + ": " + f.Message }

// Host is the extensions of one environment.
type Host struct {
	cfg     Config
	log     *slog.Logger
	routes  func() http.Handler // made when the first request comes
	ctx     context.Context     // of deliveries
	cancel  context.CancelFunc
	sending sync.WaitGroup

	listening atomic.Bool // events and lines are worth telling
	paused    atomic.Bool // the sandbox is frozen: nothing is sent

	mu      sync.Mutex
	closed  bool
	agents  []*Extension
	open    bool // extensions may register and subscribe
	down    bool // shutting down: that extensions end is as it should be
	failure *Failure
	changed chan struct{} // closed at the next change; nil when nobody waits
	early   backlog
	subs    []*subscription
}

// New makes a host without extensions. It starts nothing; subscriptions start a goroutine each, which Close ends.
func New(cfg Config) *Host {
	h := &Host{cfg: cfg, log: cfg.Log}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.routes = sync.OnceValue(h.router)
	return h
}

// Begin starts from the beginning, with these external extensions (names of files), of which the host is told by LaunchFailed and
// Exited what becomes of their processes. What was registered and subscribed before is forgotten.
func (h *Host) Begin(external []string) []*Extension {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forget()
	h.open, h.down, h.failure = !h.closed, false, nil
	for _, name := range external {
		h.agents = append(h.agents, newExtension(name, true))
	}
	h.early = backlog{whole: len(external) > 0}
	h.listening.Store(len(external) > 0)
	return h.agents[:len(external):len(external)]
}

// forget ends all waits and subscriptions; h.mu is held.
func (h *Host) forget() {
	for _, x := range h.agents {
		x.gone = true
		x.signal()
	}
	for _, s := range h.subs {
		s.cancel()
	}
	h.agents, h.subs, h.early = nil, nil, backlog{}
	h.listening.Store(false)
	h.change()
}

// Close ends everything and returns when all goroutines have ended.
func (h *Host) Close() {
	h.mu.Lock()
	h.closed, h.open = true, false
	h.forget()
	h.mu.Unlock()
	h.cancel()
	h.sending.Wait()
}

// change wakes all that wait; h.mu is held.
func (h *Host) change() {
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// fail notes the first failure; h.mu is held.
func (h *Host) fail(f *Failure) {
	if h.failure != nil || h.down || h.closed {
		return
	}
	h.failure = f
	h.change()
	h.cfg.Alarm()
}

// Failure returns the first failure since Begin; nil: none.
func (h *Host) Failure() *Failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failure
}

// AwaitRegistered waits until all external extensions have registered. Errors: *Failure, ErrClosed, ctx's.
func (h *Host) AwaitRegistered(ctx context.Context) error {
	return h.await(ctx, func(x *Extension) bool { return x.state != started })
}

// AwaitIdle waits until all extensions have asked for their next event since they registered, or since the last Invoke.
// Errors: *Failure, ErrClosed, ctx's.
func (h *Host) AwaitIdle(ctx context.Context) error {
	return h.await(ctx, func(x *Extension) bool { return !x.owes })
}

// Idle reports whether AwaitIdle would return nil at once.
func (h *Host) Idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failure == nil && !h.closed && all(h.agents, func(x *Extension) bool { return !x.owes })
}

func (h *Host) await(ctx context.Context, done func(*Extension) bool) error {
	for {
		h.mu.Lock()
		switch {
		case h.failure != nil:
			defer h.mu.Unlock()
			return h.failure
		case h.closed:
			h.mu.Unlock()
			return ErrClosed
		case all(h.agents, done):
			h.mu.Unlock()
			return nil
		}
		if h.changed == nil {
			h.changed = make(chan struct{})
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func all(list []*Extension, is func(*Extension) bool) bool {
	for _, x := range list {
		if !is(x) {
			return false
		}
	}
	return true
}

// InitDone ends the time in which extensions may register and subscribe. It returns how many there are.
func (h *Host) InitDone() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open, h.early = false, backlog{}
	h.listening.Store(len(h.subs) > 0)
	return len(h.agents)
}

// Dismiss says that the environment is being ended: from now on no end of an extension is a failure.
func (h *Host) Dismiss() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = true
}

// Invocation is what extensions learn of one.
type Invocation struct {
	RequestID  string
	Deadline   time.Time
	InvokedARN string
	TraceID    string // X-Ray's; "" if none
}

// Invoke gives the INVOKE event to all extensions that want it. AwaitIdle waits for them.
func (h *Host) Invoke(inv Invocation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var body []byte
	for _, x := range h.agents {
		if !x.invoke {
			continue
		}
		if body == nil {
			body = inv.event()
		}
		x.owes = true
		x.give(body)
	}
}

// Shutdown gives the SHUTDOWN event to all external extensions that want it, and sends all telemetry that waits. It dismisses.
func (h *Host) Shutdown(reason Reason, deadline time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = true
	for _, s := range h.subs {
		s.hurry()
	}
	body := shutdownEvent(reason, deadline)
	for _, x := range h.agents {
		if x.shutdown && x.state != exited {
			x.give(body)
		}
	}
}

// Pause keeps back what is to be sent into the sandbox while it is frozen; or ends that.
func (h *Host) Pause(pause bool) {
	if h.paused.Swap(pause) == pause || pause {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		s.signal()
	}
}

// Quiet reports whether no telemetry waits or is under way.
func (h *Host) Quiet() bool {
	if !h.listening.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		if !s.quiet() {
			return false
		}
	}
	return true
}
