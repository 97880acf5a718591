package wire

import (
	"context"
	"errors"
	"slices"
	"time"

	"berth/lambda"
)

// The time limits of calls. A limit that runs out makes the other role unreachable, so each is longer than what the role
// may take itself.
const (
	reuseLimit   = 500 * time.Millisecond // asking for an existing environment never waits for anything
	acquireLimit = 10 * time.Second       // includes a manager's waiting for room and its calls of a worker
	startLimit   = 6 * time.Second        // a worker may be busy starting many; one that is lost ends the call at once
	endLimit     = 15 * time.Second       // killing and taking apart a sandbox
	controlLimit = 2 * time.Second
	pingLimit    = 200 * time.Millisecond
	invokeLimit  = 20 * time.Minute // the longest function time limit, an init phase, and the way
)

// Manager is a manager in another process, as frontends use it.
type Manager struct {
	client *Client
	addr   string
}

// NewManager returns the manager that listens on addr (host:port).
func NewManager(c *Client, addr string) *Manager { return &Manager{c, addr} }

// Acquire asks for an environment. Error: lambda.ErrUnreachable.
func (m *Manager) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	limit := acquireLimit
	if req.ReuseOnly {
		limit = reuseLimit
	}
	out, _, err := exchange[lambda.Answer](ctx, m.client, &request{addr: m.addr, operation: "manager/acquire", in: &req, limit: limit})
	return out, err
}

// Ping reports whether the manager answers, within 200 ms.
func (m *Manager) Ping(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	_, _, err := call[nothing](ctx, m.client, m.addr, "manager/ping", nothing{}, nil)
	return err == nil
}

// Notice is a worker's word to a manager on one environment: it can take another invocation, the given reservation being
// over, or it has ended.
type Notice struct {
	Environment lambda.EnvironmentID `json:"e"`
	Reservation uint64               `json:"n,omitempty"`
	Gone        bool                 `json:"gone,omitempty"`
}

// maxNotices bounds one call of Notify.
const maxNotices = 1000

// Notify tells the manager what became of environments, in order. Error: lambda.ErrUnreachable, and then it may have been
// heard or not.
func (m *Manager) Notify(ctx context.Context, notices []Notice) error {
	return m.notify(ctx, notices, nil)
}

// notify calls sent when the notices are on their way.
func (m *Manager) notify(ctx context.Context, notices []Notice, sent func()) error {
	_, _, err := exchange[nothing](ctx, m.client,
		&request{addr: m.addr, operation: "manager/notify", in: &notices, limit: controlLimit, sent: sent})
	return err
}

// Worker is a worker in another process, as frontends and managers use it.
type Worker struct {
	client *Client
	addr   string
}

// NewWorker returns the worker that listens on addr (host:port).
func NewWorker(c *Client, addr string) *Worker { return &Worker{c, addr} }

// Start asks for a new environment. Errors: lambda.ErrNoCapacity, lambda.ErrUnreachable.
func (w *Worker) Start(ctx context.Context, req lambda.StartRequest) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	_, _, err := call[nothing](ctx, w.client, w.addr, "worker/start", req, nil)
	return err
}

// Prepare makes sure that a version can start there. It has no time limit but the caller's. Errors: those of the version,
// as a *lambda.Error; lambda.ErrUnreachable.
func (w *Worker) Prepare(ctx context.Context, v *lambda.Version) error {
	_, _, err := call[nothing](ctx, w.client, w.addr, "worker/prepare", v, nil)
	return err
}

// maxHoldings bounds one call of Renew.
const maxHoldings = 4000

// Renew renews an owner's lease on its environments, in several calls where they are many. Error: lambda.ErrUnreachable.
func (w *Worker) Renew(ctx context.Context, req lambda.RenewRequest) (answer lambda.RenewAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	for part := range slices.Chunk(req.Holdings, maxHoldings) {
		out, _, err := call[lambda.RenewAnswer](ctx, w.client, w.addr, "worker/renew", lambda.RenewRequest{Owner: req.Owner, Holdings: part}, nil)
		if err != nil {
			return lambda.RenewAnswer{}, err
		}
		answer.Idle, answer.Gone = append(answer.Idle, out.Idle...), append(answer.Gone, out.Gone...)
	}
	return answer, nil
}

// End ends an environment. Error: lambda.ErrUnreachable.
func (w *Worker) End(ctx context.Context, id lambda.EnvironmentID) error {
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	_, _, err := call[nothing](ctx, w.client, w.addr, "worker/end", id, nil)
	return err
}

// invokeMeta and outcomeMeta are an invocation and its outcome without their payloads; a log travels behind the payload.
type invokeMeta struct {
	Reservation lambda.Reservation
	Invocation  lambda.Invocation
	Stream      bool // the response goes out as it comes
}

type outcomeMeta struct {
	Outcome    lambda.Outcome
	PayloadLen int
}

// Invoke runs an invocation. Errors: lambda.ErrUnknownEnvironment when nothing has run, also when the worker was not
// reached at all; ServiceFailure when the worker was lost during the call.
//
// As with a worker in the same process, ctx is looked at before the call only: an invocation runs on to its end although its
// caller has left. Its reservation is given back when ctx has ended already. When the invocation's stream has failed, the
// worker's fails too as soon as it hears of it, and what comes until then is dropped.
func (w *Worker) Invoke(ctx context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	left := ctx.Err()
	ctx = context.WithoutCancel(ctx)
	if left != nil {
		// Without an owner's name it renews nothing. If it is lost, the reservation expires.
		_, _ = w.Renew(ctx, lambda.RenewRequest{Holdings: []lambda.Holding{
			{Environment: r.Environment, Reservation: r.Number, GiveBack: true},
		}})
		return nil, left
	}
	meta := &invokeMeta{r, *inv, inv.Stream != nil}
	meta.Invocation.Payload, meta.Invocation.Stream = nil, nil
	out, raw, err := exchange[outcomeMeta](ctx, w.client,
		&request{addr: w.addr, operation: "worker/invoke", in: meta, raw: inv.Payload, limit: invokeLimit, stream: inv.Stream})
	switch {
	case errors.Is(err, errUnsent):
		return nil, lambda.ErrUnknownEnvironment
	case errors.Is(err, lambda.ErrUnreachable):
		return nil, lambda.Errorf(lambda.ServiceFailure, "the worker that ran the call was lost; whether the function finished is not known")
	case err != nil:
		return nil, err
	case out.PayloadLen < 0 || out.PayloadLen > len(raw):
		return nil, lambda.Errorf(lambda.ServiceFailure, "the worker's answer is damaged")
	}
	out.Outcome.Payload = raw[:out.PayloadLen]
	if len(raw) > out.PayloadLen {
		out.Outcome.Log = raw[out.PayloadLen:]
	}
	return &out.Outcome, nil
}
