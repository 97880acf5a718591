package worker

import (
	"context"
	"sync"
	"time"
)

// limit is a context with a deadline that is set and cleared again and again without allocating: an environment has one
// running time limit at a time, and nearly always clears it in time. Only a limit that was reached costs a new context. Nor does
// a usual limit touch the timer: one that is set to go off before the limit is left alone, and set anew when it has gone off.
type limit struct {
	parent context.Context

	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer
	armed  time.Time // when the timer goes off; zero: it does not
	at     time.Time // zero: not set
}

// soon is how near the timer's time must be for it to be stopped when it is not needed.
const soon = 500 * time.Millisecond

func newLimit(parent context.Context) *limit {
	l := &limit{parent: parent}
	l.ctx, l.cancel = context.WithCancel(parent)
	context.AfterFunc(parent, l.end)
	return l
}

// set starts the limit (or moves it) and returns the context that ends at the given time.
func (l *limit) set(at time.Time) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		l.ctx, l.cancel = context.WithCancel(l.parent)
	}
	l.at = at
	if l.armed.IsZero() || l.armed.After(at) {
		l.arm(at)
	}
	return l.ctx
}

// arm sets the timer; l.mu is held.
func (l *limit) arm(at time.Time) {
	if l.parent.Err() != nil {
		return // l.ctx has ended, too
	}
	l.armed = at
	if wait := time.Until(at); l.timer == nil {
		l.timer = time.AfterFunc(wait, l.fire)
	} else {
		l.timer.Reset(wait)
	}
}

// clear ends the limit and reports whether its time had come.
func (l *limit) clear() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	late := !l.at.IsZero() && !now.Before(l.at)
	l.at = time.Time{}
	if !l.armed.IsZero() && l.armed.Sub(now) < soon {
		l.timer.Stop() // dearer than going off once in a while, but not than doing so after every call
		l.armed = time.Time{}
	}
	return late
}

// interrupt ends the context of the limit that is set, before its time.
func (l *limit) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel()
}

// fire ends a limit whose time has come, or sets the timer for the one that is set.
func (l *limit) fire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = time.Time{}
	switch {
	case l.at.IsZero():
	case time.Now().Before(l.at):
		l.arm(l.at)
	default:
		l.cancel()
	}
}

// end frees the timer when its environment has ended.
func (l *limit) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
}
