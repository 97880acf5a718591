package runtimeapi

import (
	"context"
	"time"
)

// phase is where the runtime process stands. The HTTP face and the frames face move the same one.
type phase uint8

const (
	starting  phase = iota // no event was asked for yet
	failing                // its init error is being received
	failed                 // it reported an init error
	ready                  // waits for an event
	running                // has an event, has not answered
	answering              // its answer is being received (a frame arrives whole, but not a stream of them)
	answered               // has answered, has not asked for the next event
)

// String names a phase as the emulator's state machine does, since those names stand in error bodies.
func (p phase) String() string {
	return [...]string{"Started", "InitError", "InitError", "Ready", "Running", "InvocationResponse", "RuntimeResponseSentState"}[p]
}

// result is what a waiting Invoke is woken with.
type result struct {
	resp Response
	err  error
}

// change is what those who await another phase are told. It carries the phase, because that may be over before they run:
// a runtime that reports an init error ends at once, and is reset.
type change struct {
	done    chan struct{} // closed when the rest is valid
	to      phase
	initErr *InitError
}

// WaitReady returns nil when the runtime has asked for its first event since New or the last Reset. Errors: *InitError when
// the runtime reported that it cannot start, ErrReset, or ctx's error.
func (a *API) WaitReady(ctx context.Context) error {
	return a.await(ctx, func(p phase) bool { return p >= ready })
}

// WaitNext returns nil when the runtime has asked for its next event, so that it may be frozen. Errors as WaitReady's.
func (a *API) WaitNext(ctx context.Context) error {
	return a.await(ctx, func(p phase) bool { return p == ready })
}

// Asks reports whether the runtime waits for an event now.
func (a *API) Asks() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.phase == ready
}

// InitError is what the runtime reported since New or the last Reset of why it cannot start; nil if it did not. Who calls
// Reset asks before: a runtime may report, end and be reset before anybody waits for it.
func (a *API) InitError() *InitError {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != failed {
		return nil
	}
	return a.initErr
}

// await waits until the phase suits. It allocates only when it has to wait.
func (a *API) await(ctx context.Context, suits func(phase) bool) error {
	a.mu.Lock()
	gen := a.gen
	for {
		switch {
		case a.closed || a.gen != gen:
			a.mu.Unlock()
			return ErrReset
		case a.phase == failed:
			err := a.initErr
			a.mu.Unlock()
			return err
		case suits(a.phase):
			a.mu.Unlock()
			return nil
		}
		if a.changed == nil {
			a.changed = &change{done: make(chan struct{})}
		}
		next := a.changed
		a.mu.Unlock()
		select {
		case <-next.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case next.to == failed:
			return next.initErr
		case suits(next.to):
			return nil
		}
		a.mu.Lock()
	}
}

// enter moves to a phase and wakes those who await it. The caller holds mu.
func (a *API) enter(p phase) {
	a.phase = p
	if a.changed != nil {
		a.changed.to, a.changed.initErr = p, a.initErr
		close(a.changed.done)
		a.changed = nil
	}
}

// Invoke gives ev to the runtime, when it asks for it, and waits for the answer. One Invoke at a time. Neither ev nor its
// payload may be changed afterwards, also after an error. The response's payload belongs to the caller.
//
// Errors: *InitError, ErrReset, or ctx's error; Response.Streamed is valid then, too. After an error of ctx the runtime may still be
// busy with the event: the caller must end its process and call Reset.
func (a *API) Invoke(ctx context.Context, ev *Event) (Response, error) {
	var s *stream
	if ev.Stream != nil {
		s = newStream(ev.Stream)
		defer close(s.done)
	}
	var p poll
	var conn *frameConn
	var reads bool
	for begun := false; !begun; {
		if err := a.WaitNext(ctx); err != nil {
			return Response{}, err
		}
		p, conn, reads, begun = a.begin(ctx, ev, s)
	}
	if err := a.send(ctx, ev, p, conn, reads); err != nil {
		// Whoever watches the process resets the API, or ctx ends: both are told apart below.
		a.log.Debug("the runtime did not take its event", "requestId", ev.RequestID, "err", err)
	}
	if s != nil {
		return a.wait(ctx, s)
	}
	if reads {
		if r, ok := a.readAnswer(ctx, conn); ok {
			return r.resp, r.err
		}
	}
	select {
	case r := <-a.results:
		return r.resp, r.err
	case <-ctx.Done():
		return a.abandon(ctx.Err())
	}
}

// begin makes ev the current event. It returns the connection to send it on, and whether the caller is to read the answer from it. ok is
// false when the runtime is not waiting any more.
func (a *API) begin(ctx context.Context, ev *Event, s *stream) (p poll, conn *frameConn, reads, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != ready || a.closed {
		return poll{}, nil, false, false
	}
	if a.conn != nil && a.poll == nil && a.conn.spokeUnasked() {
		a.breakOff(a.conn)
		return poll{}, nil, false, false
	}
	a.event, a.waiting, a.stream, a.streamed = ev, true, s, false
	a.enter(running)
	p, conn = a.takePoll(), a.conn
	if conn != nil {
		reads = p.conn == nil && s == nil && a.lend(ctx, conn)
		conn.giveBack()
	}
	return p, conn, reads, true
}

// send writes ev to whoever waits for it. A runtime that does not read is waited for until ctx ends (watched) or, without that, until ctx's
// or the event's deadline.
func (a *API) send(ctx context.Context, ev *Event, p poll, conn *frameConn, watched bool) error {
	if watched {
		return conn.send(time.Time{}, ev, &a.events)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = ev.Deadline
	}
	if p.conn == nil {
		return conn.send(deadline, ev, &a.events)
	}
	return p.event(deadline, ev, &a.events)
}

// abandon ends a wait for an answer with err, unless the answer came at that very moment.
func (a *API) abandon(err error) (Response, error) {
	a.mu.Lock()
	if !a.waiting {
		a.mu.Unlock()
		r := <-a.results
		return r.resp, r.err
	}
	a.waiting = false
	resp := Response{Streamed: a.streamed}
	a.mu.Unlock()
	return resp, err
}

// finish wakes the waiting Invoke, if there is one. The caller holds mu.
func (a *API) finish(r result) {
	if a.waiting {
		a.waiting = false
		a.results <- r // never blocks: capacity 1, and only one Invoke waits
	}
}

// Reset tells the API that the runtime process is gone and all its connections with it; the next process starts from the
// beginning. Waiting calls get ErrReset. What the old process still has under way is refused.
func (a *API) Reset() {
	a.mu.Lock()
	waiting := a.reset()
	a.mu.Unlock()
	waiting.dismiss()
}

// Close ends all waits for good.
func (a *API) Close() {
	a.mu.Lock()
	a.closed = true
	waiting := a.reset()
	a.mu.Unlock()
	waiting.dismiss()
}

// reset returns the request that was waiting for an event, to be dismissed. The caller holds mu.
func (a *API) reset() poll {
	a.gen++
	a.finish(result{resp: Response{Streamed: a.streamed}, err: ErrReset})
	waiting := a.takePoll()
	if a.conn != nil {
		a.conn.interrupt()
		a.conn.giveBack()
		a.conn = nil
	}
	a.event, a.initErr, a.scratch, a.stream, a.streamed = nil, nil, nil, nil, false
	a.enter(starting)
	return waiting
}
