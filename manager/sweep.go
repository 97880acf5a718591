package manager

import (
	"context"
	"time"
)

// sweep gives back reservations that were never used and ends environments that were idle for too long or can never be
// asked for again.
func (m *Manager) sweep(ctx context.Context, now time.Time) {
	m.environments.Range(func(_, v any) bool {
		e := v.(*environment)
		if e.set.overdue(e, now) {
			if w, ok := m.cfg.Workers.Worker(e.worker); ok {
				w.Release(ctx, e.id)
			}
			return true
		}
		since, isIdle := e.set.idleSince(e)
		if isIdle && (now.Sub(since) >= m.cfg.IdleLimit || !m.cfg.Current(e.set.key)) && e.set.claim(e) {
			m.ending.Go(func() { m.end(ctx, e) })
		}
		return ctx.Err() == nil
	})
}

// evictOne ends the environment that has been idle longest, or one that nobody can ask for any more, and returns when its
// memory is free; false when none is idle.
func (m *Manager) evictOne(ctx context.Context) bool {
	for {
		var victim *environment
		var oldest time.Time
		m.environments.Range(func(_, v any) bool {
			e := v.(*environment)
			since, isIdle := e.set.idleSince(e)
			if isIdle && (victim == nil || since.Before(oldest)) {
				victim, oldest = e, since
			}
			return true
		})
		if victim == nil {
			return false
		}
		if victim.set.claim(victim) {
			m.end(ctx, victim)
			return true
		}
	}
}

// end has the worker end a claimed environment. The worker's EnvironmentGone forgets it; it is forgotten here as well in
// case the worker does not know it any more.
func (m *Manager) end(ctx context.Context, e *environment) {
	defer m.forget(e)
	w, ok := m.cfg.Workers.Worker(e.worker)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
	defer cancel()
	if err := w.End(ctx, e.id); err != nil {
		m.cfg.Log.Warn("an environment did not end cleanly", "environment", e.id, "function", e.set.key.Function, "error", err)
	}
}
