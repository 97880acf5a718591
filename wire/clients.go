package wire

import (
	"context"
	"errors"
	"time"

	"berth/lambda"
)

// The time limits of calls that have none of their own.
const (
	acquireLimit = 2 * time.Second // includes a manager's own call of a worker
	controlLimit = 5 * time.Second
	loadLimit    = 100 * time.Millisecond
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
	ctx, cancel := context.WithTimeout(ctx, acquireLimit)
	defer cancel()
	out, _, err := call[lambda.Answer](ctx, m.client, m.addr, "manager/acquire", req, nil)
	return out, err
}

// Load reports the manager's share of a pool. Error: lambda.ErrUnreachable.
func (m *Manager) Load(ctx context.Context, pool lambda.PoolID) (lambda.Load, error) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	out, _, err := call[lambda.Load](ctx, m.client, m.addr, "manager/load", pool, nil)
	return out, err
}

// EnvironmentIdle tells the manager that an environment can take another invocation.
func (m *Manager) EnvironmentIdle(ctx context.Context, id lambda.EnvironmentID) error {
	return m.tell(ctx, "manager/idle", id)
}

// EnvironmentGone tells the manager that an environment has ended.
func (m *Manager) EnvironmentGone(ctx context.Context, id lambda.EnvironmentID) error {
	return m.tell(ctx, "manager/gone", id)
}

func (m *Manager) tell(ctx context.Context, operation string, id lambda.EnvironmentID) error {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	_, _, err := call[struct{}](ctx, m.client, m.addr, operation, id, nil)
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
	ctx, cancel := context.WithTimeout(ctx, acquireLimit)
	defer cancel()
	_, _, err := call[struct{}](ctx, w.client, w.addr, "worker/start", req, nil)
	return err
}

// Release gives an unused reservation back. A call that is lost is made again by the manager's next sweep of its worker's
// environments.
func (w *Worker) Release(ctx context.Context, id lambda.EnvironmentID) {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	call[struct{}](ctx, w.client, w.addr, "worker/release", id, nil)
}

// End ends an environment. Error: lambda.ErrUnreachable.
func (w *Worker) End(ctx context.Context, id lambda.EnvironmentID) error {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	_, _, err := call[struct{}](ctx, w.client, w.addr, "worker/end", id, nil)
	return err
}

// invokeMeta and outcomeMeta are an invocation and its outcome without their payloads; a log travels behind the payload.
type invokeMeta struct {
	Reservation lambda.Reservation
	Invocation  lambda.Invocation
}

type outcomeMeta struct {
	Outcome    lambda.Outcome
	PayloadLen int
}

// Invoke runs an invocation. Errors: lambda.ErrUnknownEnvironment when nothing has run, also when the worker was not
// reached at all; ServiceFailure when the worker was lost during the call.
func (w *Worker) Invoke(ctx context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	meta := invokeMeta{r, *inv}
	meta.Invocation.Payload = nil
	out, raw, err := call[outcomeMeta](ctx, w.client, w.addr, "worker/invoke", meta, inv.Payload)
	switch {
	case errors.Is(err, errUnsent):
		return nil, lambda.ErrUnknownEnvironment
	case errors.Is(err, lambda.ErrUnreachable) && ctx.Err() == nil:
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
