package worker

import (
	"context"
	"time"
)

// freezeIdle freezes environments that have been idle for Config.IdleFreeze, until ctx ends. One goroutine looks at all of
// them now and then: an invocation pays nothing for it.
func (w *Worker) freezeIdle(ctx context.Context) {
	if w.cfg.IdleFreeze < 0 {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(max(w.cfg.IdleFreeze/2, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for e := range w.registry.all() {
				e.freezeIfIdle(now.Add(-w.cfg.IdleFreeze))
			}
		}
	}
}

// freezeIfIdle freezes e if it has been idle since the given time. It holds e.mu meanwhile: an invocation that comes just
// then waits for the freeze, 0.1 ms.
func (e *environment) freezeIfIdle(since time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != Idle || e.frozen || e.idleSince.After(since) {
		return
	}
	ctx, cancel := sandboxContext()
	defer cancel()
	if err := e.sandbox.Freeze(ctx); err != nil {
		e.log.Warn("idle environment could not be frozen; it goes on using processor time", "error", err)
		e.idleSince = time.Now() // not again at every tick
		return
	}
	e.frozen = true
}

// thaw lets a frozen environment run; for the holder of the turn.
func (e *environment) thaw() error {
	if !e.frozen { // only an Idle environment becomes frozen, and this one is Running
		return nil
	}
	ctx, cancel := sandboxContext()
	defer cancel()
	if err := e.sandbox.Thaw(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	e.frozen = false
	e.mu.Unlock()
	return nil
}
