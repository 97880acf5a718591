package worker

import (
	"context"
	"sync"
	"time"
)

// limit is a context with a deadline that is set and cleared again and again without allocating: an environment has one
// running time limit at a time, and nearly always clears it in time. Only a limit that was reached costs a new context.
type limit struct {
	parent context.Context

	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer
	at     time.Time // zero: not set
}

func newLimit(parent context.Context) *limit {
	l := &limit{parent: parent}
	l.ctx, l.cancel = context.WithCancel(parent)
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
	if wait := time.Until(at); l.timer == nil {
		l.timer = time.AfterFunc(wait, l.fire)
	} else {
		l.timer.Reset(wait)
	}
	return l.ctx
}

// clear stops the limit and reports whether its time had come.
func (l *limit) clear() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	late := !l.at.IsZero() && !time.Now().Before(l.at)
	l.at = time.Time{}
	return late
}

// interrupt ends the context of the limit that is set, before its time.
func (l *limit) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel()
}

// fire may come late, when the limit was moved meanwhile: then the timer fires again.
func (l *limit) fire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() && !time.Now().Before(l.at) {
		l.cancel()
	}
}
