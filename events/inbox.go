package events

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"berth/lambda"
	"berth/store"
)

// Inbox takes events. It is usable in processes that run none.
type Inbox struct {
	queue    store.Queue
	accepted atomic.Uint64
}

// NewInbox makes an Inbox on a queue.
func NewInbox(q store.Queue) *Inbox { return &Inbox{queue: q} }

// Accepted is how many invocations Accept has stored.
func (i *Inbox) Accepted() uint64 { return i.accepted.Load() }

// Accept stores an invocation: when it returns nil the invocation will run, whatever dies. Errors: ServiceFailure when there
// is no room.
func (i *Inbox) Accept(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) error {
	m, err := (&Event{
		ID: in.RequestID, Account: ref.Account, Region: ref.Region, Function: ref.Function, Qualifier: ref.Qualifier,
		Accepted: time.Now(), Trace: in.TraceID, ClientContext: in.ClientContext, Tenant: in.Tenant, Payload: in.Payload,
	}).message()
	if err != nil {
		return err
	}
	m.Fresh = true // a request id is made for one request
	if err := i.store(ctx, m); err != nil {
		return err
	}
	i.accepted.Add(1)
	return nil
}

func (i *Inbox) push(ctx context.Context, e *Event) error {
	m, err := e.message()
	if err != nil {
		return err
	}
	return i.store(ctx, m)
}

func (i *Inbox) store(ctx context.Context, m store.Message) error {
	err := i.queue.Push(ctx, m)
	if errors.Is(err, store.ErrFull) {
		return lambda.Errorf(lambda.ServiceFailure, "The server has no room for more events: %v", err)
	}
	if err != nil {
		return fmt.Errorf("storing the event: %w", err)
	}
	return nil
}
