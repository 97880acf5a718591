package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"berth/extensions"
	"berth/lambda"
	"berth/runtimeapi"
)

// nextGrace is how long the answer to a caller may wait for the runtime to ask for its next event, which it nearly always
// does at once. Answering first would let the caller's next invocation find the environment still busy.
const nextGrace = 5 * time.Millisecond

// memoryAge is how old a measurement of memory may be in a REPORT of a short invocation: measuring costs more than
// running one.
const memoryAge = 250 * time.Millisecond

// Invoke runs one invocation in the reserved environment, after its start and init if need be, and returns its outcome.
// Whatever goes wrong in the function is an Outcome. Errors: lambda.ErrUnknownEnvironment (ErrNotReserved is one), after which
// nothing has run; a lambda.Error (ServiceFailure and those of Runtimes and Code) when the environment could not be started or
// broke.
//
// If ctx has ended already, the reservation is given back. Later it is not looked at: as on Lambda an invocation runs on to
// its end or its time limit although its caller has left, and so does this call.
func (w *Worker) Invoke(ctx context.Context, res lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	e := w.registry.find(res.Environment)
	if e == nil {
		return nil, w.unknown(res.Environment)
	}
	if err := ctx.Err(); err != nil {
		e.release(res.Number)
		return nil, err
	}
	waiting, err := e.claim(&res, inv.Tenant, time.Now())
	switch {
	case errors.Is(err, ErrNotReserved):
		return nil, err
	case err != nil:
		return nil, w.unknown(res.Environment)
	}
	if waiting {
		<-e.started // every step of the start has a time limit
		if e.startErr != nil {
			return nil, e.startErr
		}
	}
	return e.run(inv)
}

// unknown says why there is no such environment (any more).
func (w *Worker) unknown(id lambda.EnvironmentID) error {
	if err := w.failures.find(id); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", lambda.ErrUnknownEnvironment, id)
}

// run has the turn for one invocation.
func (e *environment) run(inv *lambda.Invocation) (*lambda.Outcome, error) {
	start := time.Now()
	if err := e.thaw(); err != nil {
		return nil, e.systemFailure(fmt.Errorf("%w: %w", errUnseen, err))
	}
	e.out.begin(start, inv)
	deadline := start.Add(e.version.Timeout)

	resp, f, err := e.exchange(inv, deadline)
	if err != nil {
		e.ended = nil
		e.out.finish(&report{requestID: inv.RequestID, tenant: inv.Tenant, end: time.Now(), duration: time.Since(start),
			failure: &failure{class: lambda.Exited, errorType: "Sandbox.Failure", message: "the environment broke"}})
		return nil, e.systemFailure(err)
	}
	e.w.invocations.Add(1)
	over := f.fatal() || e.waitNext(deadline)
	out := e.conclude(inv, &resp, f, start)
	if over && e.winding == "" {
		e.tellReport()
		e.settle(time.Now())
	} else {
		e.w.live.Go(func() { e.awaitNext(deadline) })
	}
	return out, nil
}

// exchange gives the event to the runtime and gets its answer, starting the runtime again first if it has ended
// ("suppressed init": it counts toward the function's time limit).
func (e *environment) exchange(inv *lambda.Invocation, deadline time.Time) (runtimeapi.Response, *failure, error) {
	var none runtimeapi.Response
	if e.process == nil || e.process.ended() || e.extended && e.ext.Failure() != nil {
		began := time.Now()
		f, err := e.boot(deadline, "invoke")
		if err != nil {
			return none, nil, fmt.Errorf("%w: %w", errUnseen, err)
		}
		e.tellInit("invoke", f, time.Since(began))
		if f != nil {
			e.out.initReport(time.Now(), time.Since(began), "invoke", f)
			f.unseen = true
			return none, f, nil
		}
	}
	if e.ext.Listening() { // after a start, which brings other subscribers
		e.ext.InvokeStart(time.Now(), inv.RequestID, inv.TraceID)
	}
	ctx, err := e.limited(deadline)
	if err == nil {
		if e.extended {
			e.ext.Invoke(extensions.Invocation{RequestID: inv.RequestID, Deadline: deadline, InvokedARN: inv.InvokedARN, TraceID: inv.TraceID})
		}
		var resp runtimeapi.Response
		var killed func() bool
		if inv.Stream != nil {
			killed = e.killLate(ctx)
		}
		resp, err = e.api.Invoke(ctx, &runtimeapi.Event{
			RequestID: inv.RequestID, Deadline: deadline, InvokedARN: inv.InvokedARN, TraceID: inv.TraceID,
			ClientContext: inv.ClientContext, Tenant: inv.Tenant, TenantToken: inv.TenantToken, Payload: inv.Payload, Stream: inv.Stream,
		})
		if err == nil {
			if killed != nil {
				killed()
			}
			return resp, judge(&resp), nil
		}
		none.Streamed, none.StreamedBytes = resp.Streamed, resp.StreamedBytes
		if killed != nil && killed() && e.ctx.Err() == nil && e.ext.Failure() == nil {
			e.limit.clear()
			return none, &failure{class: lambda.TimedOut, errorType: timeoutType}, e.halt(extensions.Timeout)
		}
	}
	f, err := e.interrupted(e.limit.clear(), err)
	return none, f, err
}

// killLate kills the runtime when ctx, its time limit, ends: whoever calls may be waiting in Stream.Write for a client that does
// not read, and would see the limit only afterwards. killed ends that, and reports whether it came to it.
func (e *environment) killLate(ctx context.Context) (killed func() bool) {
	p, kill := e.process, e.sandbox.Kill
	if len(e.helpers) > 0 { // these are told first
		kill = func(context.Context) error { return p.Signal(syscall.SIGKILL) }
	}
	done := make(chan bool, 1)
	stop := context.AfterFunc(ctx, func() {
		if p.ended() || e.ctx.Err() != nil {
			done <- false
			return
		}
		kctx, cancel := sandboxContext()
		defer cancel()
		err := kill(kctx)
		if err != nil {
			e.log.Warn("a function could not be killed at its time limit", "error", err)
		}
		done <- err == nil
	})
	return func() bool { return !stop() && <-done }
}

// waitNext waits a moment for the runtime and the extensions to ask for their next event, and reports whether the turn is over: they
// asked, or one ended meanwhile and the next invocation will start it again.
func (e *environment) waitNext(deadline time.Time) (over bool) {
	if e.api.Asks() && (!e.extended || e.ext.Idle()) { // as a runtime on frames does with its answer
		e.limit.clear()
		return true
	}
	grace := time.Now().Add(nextGrace)
	if deadline.Before(grace) {
		grace = deadline
	}
	ctx, err := e.limited(grace)
	if err == nil {
		err = e.allAsk(ctx)
	}
	late := e.limit.clear()
	switch {
	case err == nil || e.ctx.Err() != nil:
		return true
	case late && !e.process.ended() && (!e.extended || e.ext.Failure() == nil):
		return false
	}
	e.restartLater(extensions.Failed)
	return true
}

// allAsk waits until the runtime and all extensions have asked for their next event.
func (e *environment) allAsk(ctx context.Context) error {
	if err := e.api.WaitNext(ctx); err != nil || !e.extended {
		return err
	}
	return e.ext.AwaitIdle(ctx)
}

// awaitNext keeps the turn for a runtime or extensions that go on working after the answer, up to the function's time limit, and for
// extensions that are to be told of the end.
func (e *environment) awaitNext(deadline time.Time) {
	if e.winding == "" {
		ctx, err := e.limited(deadline)
		if err == nil {
			err = e.allAsk(ctx)
		}
		if late := e.limit.clear(); err != nil && e.ctx.Err() == nil {
			reason := extensions.Failed
			if late {
				reason = extensions.Timeout
			}
			e.restartLater(reason)
		}
	}
	e.tellReport()
	if err := e.windDown(); err != nil {
		e.broken("it could not be reset", err)
	}
	e.settle(time.Now())
}

// restartLater ends a runtime that can take no further event; the next invocation starts it again.
func (e *environment) restartLater(reason extensions.Reason) {
	if err := e.halt(reason); err != nil {
		e.broken("its runtime could not be reset", err)
	}
}

// conclude writes the end of the invocation's log and makes the outcome.
func (e *environment) conclude(inv *lambda.Invocation, resp *runtimeapi.Response, f *failure, start time.Time) *lambda.Outcome {
	end := time.Now()
	r := report{requestID: inv.RequestID, tenant: inv.Tenant, end: end, duration: end.Sub(start), failure: f}
	if r.produced = len(resp.Payload); resp.Streamed {
		r.produced = int(resp.StreamedBytes)
	}
	out := &lambda.Outcome{Payload: resp.Payload, Class: lambda.OK, Version: e.version.Number, Cold: !e.used && !e.ahead, Streamed: resp.Streamed}
	if f != nil {
		out.Class, out.FunctionError, out.Payload = f.class, unhandled, f.answer(inv.RequestID, e.version.Timeout)
		out.Unseen = f.unseen
		if f.class == lambda.TimedOut {
			r.duration = e.version.Timeout
		}
	}
	if !e.used {
		e.used, r.init = true, e.initTime
	}
	r.maxMemory = e.maxMemory(end, f.fatal() || r.init > 0 || r.duration > memoryAge)
	out.Duration = r.duration
	e.out.drain(end) // what it printed before its answer was printed before its end
	e.tellRuntimeDone(&r, start)
	out.Log = e.out.finish(&r)
	return out
}

// memoryMeter remembers the last measurement.
type memoryMeter struct {
	bytes int64 // highest so far
	at    time.Time
}

// maxMemory is the highest use of memory so far in MB, rounded up; measured now, or at most memoryAge ago.
func (e *environment) maxMemory(now time.Time, measure bool) int {
	m := &e.memory
	if measure || now.Sub(m.at) > memoryAge {
		ctx, cancel := sandboxContext()
		defer cancel()
		if peak, err := e.sandbox.PeakMemory(ctx); err == nil {
			m.bytes, m.at = max(m.bytes, peak), now
		} else {
			e.log.Warn("memory could not be measured", "error", err)
		}
	}
	return int(min((m.bytes+1<<20-1)>>20, int64(e.version.MemoryMB)))
}

// errUnseen is wrapped by failures of the environment before the function has seen the event: it may have it in another one.
var errUnseen = errors.New("the event was not given to the function")

// systemFailure ends the environment, which cannot be trusted any more, and makes the caller's error.
func (e *environment) systemFailure(err error) error {
	if errors.Is(err, ErrStopped) {
		e.mu.Lock()
		e.mustEnd = true
		e.mu.Unlock()
	} else {
		e.broken("it failed while an invocation had it", err)
	}
	e.settle(time.Now())
	known := lambda.Errorf(lambda.ServiceFailure, "the function's environment failed; try again")
	known.NotStarted = errors.Is(err, errUnseen)
	return fmt.Errorf("%w: %w", known, err)
}

// judge sorts a runtime's answer.
func judge(resp *runtimeapi.Response) *failure {
	switch {
	case resp.TooLarge:
		f := &failure{class: lambda.TooLarge, errorType: "Function.ResponseSizeTooLarge"}
		if resp.Streamed {
			f.payload = fmt.Appendf(nil, `{"errorMessage":"Response size exceeded the maximum of a streamed response (%d bytes).","errorType":"%s"}`,
				runtimeapi.MaxStream, f.errorType)
		}
		return f
	case resp.IsError:
		f := &failure{class: lambda.HandlerErr, errorType: resp.ErrorType, payload: resp.Payload}
		if len(f.payload) == 0 { // an error must have a body; the type alone is better than nothing
			f.payload = fmt.Appendf(nil, `{"errorType":%s}`, strconv.Quote(resp.ErrorType))
		}
		return f
	}
	return nil
}
