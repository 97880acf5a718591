package events

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"berth/catalog"
	"berth/destinations"
	"berth/lambda"
	"berth/sleep"
	"berth/store"
)

// Sizes of what targets take, in bytes.
const (
	maxSQS  = 1 << 20   // message quotas of SQS
	maxSNS  = 256 << 10 // likewise of SNS
	maxTold = store.MaxMessage - maxHead - 4
)

// sizeOf is the largest record that a kind of target takes. Whatever the target: a record that has to wait for it must fit into
// the queue.
func sizeOf(k destinations.Kind) int {
	switch k {
	case destinations.SQS:
		return min(maxSQS, maxTold)
	case destinations.SNS:
		return maxSNS
	}
	return maxTold
}

// finish tells all who want to know how an event ended, and lets go of it. A target that cannot be told at once gets a message
// of its own in the queue: the function does not run again for its sake.
func (a *attempt) finish(ctx context.Context, how end) {
	list := targetsOf(a.p.cfg.Catalog, a.e, how)
	if len(list) == 0 && how.condition != Success {
		a.drop(dropNobody, fmt.Errorf("%s: %w", how.condition, errUntold))
		return
	}
	for _, w := range list {
		next, err := a.telling(w, how)
		if err != nil {
			a.log.Error("the record of an event cannot be made", "id", a.e.ID, "function", a.e.Function, "target", w.arn, "err", err)
			a.p.stats.drop(functionOf(a.name), dropTarget)
			continue
		}
		if err := a.send(ctx, next); err == nil {
			continue
		} else if ctx.Err() == nil {
			a.log.Warn("a target cannot be told how an event ended; trying again", "id", a.e.ID, "function", a.e.Function, "target", w.arn, "err", err)
		}
		if !a.keep(ctx, next) {
			a.end(a.d, a.d.Ticket.Later(0)) // the process stops: the event runs once more
			return
		}
	}
	a.end(a.d, a.d.Ticket.Done())
}

// telling makes the event that stands for telling one target.
func (a *attempt) telling(w wanted, how end) (*Event, error) {
	next := *a.e
	next.NotBefore, next.Trace = time.Time{}, how.trace
	t := &telling{Target: w.arn, Dead: w.dead, At: how.at}
	config, ok := a.p.cfg.Catalog.EventConfig(a.e.function(), a.e.Qualifier)
	if !ok {
		config = &catalog.EventConfig{}
	}
	// The age counts anew: an event that has failed because of its age has none left.
	t.Until = how.at.Add(config.Age())
	next.Telling = t
	if w.dead != nil {
		return &next, nil // the event itself
	}
	target, err := destinations.Parse(w.arn)
	if err != nil {
		return nil, err
	}
	next.Payload, err = recordOf(a.e, how, sizeOf(target.Kind))
	return &next, err
}

// keep stores a telling, for as long as it takes. It reports false when the process stops first.
func (a *attempt) keep(ctx context.Context, next *Event) bool {
	next.NotBefore = time.Now().Add(firstBackoff)
	for {
		err := a.p.inbox.push(ctx, next)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		a.log.Warn("what is left to do for an event could not be stored; trying again", "id", next.ID, "function", next.Function, "err", err)
		sleep.For(ctx, pushRetry)
	}
}

// tell is an attempt at an event that only has its target left.
func (a *attempt) tell(ctx context.Context) {
	t := a.e.Telling
	err := a.send(ctx, a.e)
	switch {
	case err == nil:
		a.end(a.d, a.d.Ticket.Done())
	case ctx.Err() != nil:
		a.end(a.d, a.d.Ticket.Later(0))
	case !time.Now().Before(t.Until):
		a.drop(dropTarget, err)
	default:
		a.log.Warn("a target cannot be told how an event ended; trying again", "id", a.e.ID, "function", a.e.Function, "target", t.Target, "err", err)
		a.backOff(err, t.Until)
	}
}

// send tries once to tell a target.
func (a *attempt) send(ctx context.Context, e *Event) (err error) {
	defer func() {
		if err == nil {
			a.p.stats.told.Add(1)
		}
	}()
	target, err := destinations.Parse(e.Telling.Target)
	if err != nil {
		return err
	}
	if target.Kind == destinations.Lambda {
		return a.sendFunction(ctx, e)
	}
	return a.p.cfg.Targets.Send(ctx, target, destinations.Message{
		Body: slices.Clip(e.Payload), RequestID: e.ID, Function: e.Function, Trace: e.Trace, At: e.Telling.At, Dead: e.Telling.Dead,
	})
}

// sendFunction invokes a function with the record, as an event of its own. Its id follows from what is told, so that telling
// twice within a short time runs it once.
func (a *attempt) sendFunction(ctx context.Context, e *Event) error {
	ref, err := lambda.ParseRef(e.Telling.Target, "", e.Account, e.Region)
	if err != nil {
		return err
	}
	if !a.p.cfg.Catalog.QualifierExists(catalog.ID{Account: ref.Account, Name: ref.Function}, ref.Qualifier) {
		return fmt.Errorf("there is no function %s", e.Telling.Target)
	}
	return a.p.inbox.push(ctx, &Event{
		ID:      uuid.NewSHA1(uuid.NameSpaceOID, []byte(e.ID+" "+e.Telling.Target)).String(),
		Account: ref.Account, Region: ref.Region, Function: ref.Function, Qualifier: ref.Qualifier,
		Accepted: time.Now(), Trace: e.Trace, Payload: e.Payload,
	})
}
