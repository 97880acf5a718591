package events

import (
	"context"
	"time"

	"berth/destinations"
	"berth/lambda"
)

// noticeAge is for how long a notice's target is tried.
const noticeAge = 6 * time.Hour

// Notice is something that a function's owner is told, which is no invocation's end.
type Notice struct {
	ID       string // what is stored twice within a short time is told once
	Account  lambda.AccountID
	Region   string
	Function string
	Target   string // ARN, as a destination's
	Record   []byte // JSON
}

// Tell stores a notice; it will reach its target, whatever dies, if that takes it within some hours. Errors: those of
// destinations.Parse and Accept.
func (i *Inbox) Tell(ctx context.Context, n *Notice) error {
	if _, err := destinations.Parse(n.Target); err != nil {
		return err
	}
	now := time.Now()
	return i.push(ctx, &Event{
		ID: n.ID, Account: n.Account, Region: n.Region, Function: n.Function, Accepted: now,
		Telling: &telling{Target: n.Target, At: now, Until: now.Add(noticeAge)}, Payload: n.Record,
	})
}
