package runtimeapi

import (
	"context"
	"fmt"
	"time"
)

// # Who reads the frames
//
// Whoever calls Invoke reads the answer itself: with a goroutine in between each call would cost one switch more, and often the
// wake-up of a thread. When nothing is under way ServeConn reads, so that a runtime that speaks unasked or closes its
// channel is noticed. It does not take the turn back after each call, but when there was none for standPause.

// turn says who may read a frameConn. Guarded by API.mu; the reader itself belongs to whose turn it is.
type turn uint8

const (
	serving  turn = iota // ServeConn
	standing             // nobody: the next Invoke takes it
	lent                 // an Invoke
)

// standPause is how long a connection may go unread while its runtime waits for an event; at most twice that.
const standPause = 50 * time.Millisecond

// spokeUnasked reports whether a runtime that waits for an event has sent something although nobody asked, as far as nobody reads: its next
// answer would be taken for that of another event. The caller holds mu.
func (f *frameConn) spokeUnasked() bool {
	if f.turn != standing {
		return false // ServeConn sees it
	}
	pipe, looks := f.c.(interface{ Unread() bool })
	return f.r.Buffered() > 0 || looks && pipe.Unread()
}

// breakOff ends a connection whose runtime spokeUnasked. The reset follows when ServeConn returns; until then no event is given away. The
// caller holds mu.
func (a *API) breakOff(f *frameConn) {
	f.err = fmt.Errorf("%w: it spoke unasked", ErrProtocol)
	f.giveBack()
	a.enter(starting)
}

// lend takes the turn for an Invoke that collects its answer, if nobody reads. A watched ctx ends its reading and writing. The caller holds mu.
func (a *API) lend(ctx context.Context, f *frameConn) bool {
	if f.turn != standing {
		return false
	}
	f.turn = lent
	f.lends++
	if f.watched == ctx { // a worker has one context for all time limits of an environment that are kept
		return true
	}
	if f.unwatch != nil {
		f.unwatch()
	}
	f.watched = ctx
	f.unwatch = context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if f.turn == lent && f.watched == ctx {
			f.interrupt()
		}
	})
	return true
}

// readAnswer reads frames until the Invoke that was lent the turn has its result. It returns false when it never will by reading: the
// connection is useless or ctx has ended.
func (a *API) readAnswer(ctx context.Context, f *frameConn) (r result, ok bool) {
	var err error
	for err == nil && ctx.Err() == nil {
		if err = a.serveFrame(f); err != nil {
			break
		}
		select {
		case r = <-a.results:
			a.handBack(f, nil)
			return r, true
		default: // a part of an answer
		}
	}
	a.handBack(f, err)
	return result{}, false
}

// handBack ends an Invoke's turn. err is why reading failed.
func (a *API) handBack(f *frameConn, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.turn, f.err = standing, err
	switch {
	case err != nil || !a.quiet(f):
		f.giveBack()
	case f.r.Buffered() > 0:
		a.breakOff(f)
	}
}

// quiet reports whether the runtime on f waits for an event, so that nothing is to be read. The caller holds mu.
func (a *API) quiet(f *frameConn) bool { return a.conn == f && a.phase == ready && a.poll == nil }

// giveBack gives the turn to ServeConn if nobody has it. The caller holds mu.
func (f *frameConn) giveBack() {
	if f.turn != standing {
		return
	}
	f.turn = serving
	select {
	case f.back <- struct{}{}:
	default: // it has not seen an earlier one yet
	}
}

// standBack leaves reading to the calls that follow, if the runtime waits for one. It returns when the turn is ServeConn's again: when no
// call came for a while, a call needs it, the runtime has ended or ctx has.
func (a *API) standBack(ctx context.Context, f *frameConn, ended <-chan struct{}) {
	a.mu.Lock()
	stands := a.quiet(f)
	if stands {
		f.turn = standing
	}
	lends := f.lends
	a.mu.Unlock()
	if !stands {
		return
	}
	pause := time.NewTimer(standPause)
	defer pause.Stop()
	done := ctx.Done()
	for {
		unused := false
		select {
		case <-f.back:
		case <-ended:
			ended, unused = nil, true
		case <-done:
			done, unused = nil, true
		case <-pause.C:
			unused = true
			pause.Reset(standPause)
		}
		a.mu.Lock()
		if unused && (f.lends == lends || ended == nil || done == nil) {
			f.giveBack() // an Invoke that has the turn sees the end as well
		}
		lends = f.lends
		mine := f.turn == serving
		a.mu.Unlock()
		if mine {
			return
		}
	}
}
