package events

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/sleep"
	"berth/store"
)

// Times between attempts (developer guide, "How Lambda handles errors and retries with asynchronous invocation").
const (
	failureDelay = time.Minute // after the first failure of the function; twice after the second
	firstBackoff = time.Second // after a throttle or an error of the server's own
	lastBackoff  = 5 * time.Minute
	jitter       = 0.1 // of a backoff, so that a flood that was throttled together does not come back together
)

// pushRetry bounds the pause between tries to store what an event has become.
const pushRetry = 5 * time.Second

// attempt is one delivery of one event.
type attempt struct {
	*lane
	d *store.Delivery
	e *Event
}

// run invokes the function, and sees to what follows.
func (a *attempt) run(ctx context.Context) {
	e, cat := a.e, a.p.cfg.Catalog
	config, ok := cat.EventConfig(e.function(), e.Qualifier)
	if !ok {
		config = &catalog.EventConfig{}
	}
	dies := e.Accepted.Add(config.Age())
	how := end{attempts: e.Failures, at: time.Now(), trace: e.Trace}
	target, err := cat.Resolve(e.ref())
	switch {
	case lambda.CodeOf(err) == lambda.ResourceNotFound:
		a.drop(dropNoFunction, err)
		return
	case !how.at.Before(dies):
		how.condition = EventAgeExceeded
		a.finish(ctx, how)
		return
	case err != nil: // being made, or changed
		a.backOff(err, dies)
		return
	case target.Reserved == 0:
		how.condition = ZeroReservedConcurrency
		a.finish(ctx, how)
		return
	}
	var turn int
	if how.trace, turn = enter(e.Trace, e.function()); turn > maxTurns && !a.recursive() {
		a.stopLoop(ctx, how)
		return
	}
	how.outcome, err = a.invoke(ctx, how.trace)
	how.at = time.Now()
	switch {
	case err != nil && ctx.Err() != nil: // the process stops
		a.end(a.d, a.d.Ticket.Later(0))
	case err != nil:
		a.backOff(err, dies)
	default:
		a.ran(ctx, how, config, dies)
	}
}

func (a *attempt) invoke(ctx context.Context, trace string) (*lambda.Outcome, error) {
	e, began := a.e, time.Now()
	out, err := a.p.cfg.Invoker.Invoke(ctx, e.ref(), &lambda.Invocation{
		RequestID: e.ID, Payload: e.Payload, ClientContext: e.ClientContext, TraceID: trace, Tenant: e.Tenant,
	})
	if err == nil {
		a.p.slots.mu.Lock()
		full := a.window.room() <= 0
		a.p.slots.mu.Unlock()
		a.window.ended(time.Since(began), full, time.Now())
	} else if lambda.CodeOf(err) == lambda.TooManyRequests {
		a.window.throttled(time.Now())
	}
	return out, err
}

// ran decides what follows an attempt that reached the function.
func (a *attempt) ran(ctx context.Context, how end, config *catalog.EventConfig, dies time.Time) {
	how.attempts++
	if how.outcome.FunctionError == "" {
		a.p.stats.succeeded.Add(1)
		how.condition = Success
		a.finish(ctx, how)
		return
	}
	a.p.stats.failed.Add(1)
	again := how.at.Add(time.Duration(how.attempts) * failureDelay)
	switch {
	case how.attempts >= config.Attempts():
		how.condition = RetriesExhausted
		a.finish(ctx, how)
	case again.After(dies):
		how.condition = EventAgeExceeded
		a.finish(ctx, how)
	default:
		next := *a.e
		next.Failures, next.NotBefore = how.attempts, again
		a.p.stats.retried.Add(1)
		a.replace(ctx, &next)
	}
}

// replace stores what an event has become, then lets go of what it was.
func (a *attempt) replace(ctx context.Context, next *Event) {
	for {
		err := a.p.inbox.push(ctx, next)
		if err == nil {
			a.end(a.d, a.d.Ticket.Done())
			return
		}
		if ctx.Err() != nil { // it runs once more
			a.end(a.d, a.d.Ticket.Later(0))
			return
		}
		a.log.Warn("what became of an event could not be stored; trying again", "id", next.ID, "function", next.Function, "err", err)
		sleep.For(ctx, pushRetry)
	}
}

// backOff lets the event wait after a throttle or an error of the server's own, ever longer, until its age ends.
func (a *attempt) backOff(err error, dies time.Time) {
	a.p.stats.backedOff.Add(1)
	n := a.d.Count
	if !a.e.NotBefore.IsZero() {
		n-- // it came once only to be told to wait
	}
	wait := backoff(n)
	if left := time.Until(dies); wait > left {
		wait = max(left, 0)
	}
	a.log.Debug("an event waits", "id", a.e.ID, "account", a.e.Account, "function", a.e.Function, "wait", wait, "err", err)
	a.end(a.d, a.d.Ticket.Later(wait))
}

// backoff is the wait after the n-th delivery.
func backoff(n int) time.Duration {
	wait := lastBackoff
	if n = max(n, 1); n < 10 { // 2⁹ s are more than five minutes
		wait = min(firstBackoff<<(n-1), lastBackoff)
	}
	return wait - time.Duration(jitter*rand.Float64()*float64(wait))
}

func (a *attempt) recursive() bool {
	f, ok := a.p.cfg.Catalog.Function(a.e.function())
	return ok && f.Recursive
}

// stopLoop ends an event that would run its function once more within its own chain.
func (a *attempt) stopLoop(ctx context.Context, how end) {
	const text = "The function was invoked in a recursive loop and stopped after 16 turns. Allow it with PutFunctionRecursionConfig."
	a.log.Warn("a recursive loop was stopped", "id", a.e.ID, "account", a.e.Account, "function", a.e.Function)
	payload, err := json.Marshal(map[string]string{"errorType": "RecursiveInvocationException", "errorMessage": text})
	if err != nil {
		payload = nil // two strings: cannot fail
	}
	how.condition = RetriesExhausted
	how.outcome = &lambda.Outcome{Payload: payload, FunctionError: "Unhandled", Version: orLatest(a.e.Qualifier)}
	a.finish(ctx, how)
}

func orLatest(qualifier string) string {
	if qualifier == "" {
		return lambda.Latest
	}
	return qualifier
}

// drop ends an event that nobody will hear of.
func (a *attempt) drop(reason string, err error) {
	a.log.Warn("an event was dropped", "reason", reason, "id", a.e.ID, "account", a.e.Account, "function", a.e.Function,
		"accepted", a.e.Accepted, "failures", a.e.Failures, "err", err)
	a.p.stats.drop(functionOf(a.name), reason)
	a.end(a.d, a.d.Ticket.Done())
}

var errUntold = errors.New("it has no destination and no dead-letter queue")
