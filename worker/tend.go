package worker

import (
	"context"
	"errors"
	"time"

	"berth/sandbox"
)

const (
	// tendEvery is how long the START line of a silent function may wait to be seen; freezing may need a shorter time.
	tendEvery = time.Second
	// frozenEvery is how long a frozen environment whose sandbox has died may wait to be ended: it costs the first call of it a second start.
	frozenEvery = 5 * time.Second
)

// tend looks at all environments now and then, until ctx ends: it freezes those that have been idle for Config.IdleFreeze,
// ends those whose owner is silent,
// and hands on the log lines of invocations that take long. An invocation pays nothing for it.
func (w *Worker) tend(ctx context.Context) {
	every := tendEvery
	if freeze := w.cfg.IdleFreeze; freeze > 0 {
		every = min(every, max(freeze/2, time.Millisecond))
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var looked time.Time // at those that are frozen
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			look := now.Sub(looked) >= min(frozenEvery, w.cfg.IdleFreeze*10)
			if look {
				looked = now
			}
			for e := range w.registry.all() {
				if state, _ := e.look(); state == Running {
					e.out.passOn(now.Add(-tendEvery))
				}
				e.endLapsed(now)
				if w.cfg.IdleFreeze > 0 {
					e.freezeIfIdle(now.Add(-w.cfg.IdleFreeze), look)
				}
			}
		}
	}
}

// freezeIfIdle freezes e if it has been idle since the given time, and ends it if its sandbox is not there any more; look: also if it is frozen. It
// holds e.mu meanwhile: an invocation that comes just then waits for the freeze, 0.1 ms.
func (e *environment) freezeIfIdle(since time.Time, look bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.state != Idle || e.mustEnd:
		return
	case e.frozen:
		if look && errors.Is(e.sandbox.Freeze(e.ctx), sandbox.ErrGone) { // nothing to do but that: it is idempotent
			e.endDead()
		}
		return
	case e.idleSince.After(since) || !e.ext.Quiet() && time.Since(e.idleSince) < quietLimit:
		return
	}
	e.ext.Pause(true)
	ctx, cancel := sandboxContext()
	defer cancel()
	switch err := e.sandbox.Freeze(ctx); {
	case err == nil:
		e.frozen = true
	case errors.Is(err, sandbox.ErrGone):
		e.endDead()
	default:
		e.log.Warn("idle environment could not be frozen; it goes on using processor time", "error", err)
		e.ext.Pause(false)
		e.idleSince = time.Now() // not again at every tick
	}
}

// endDead ends an idle environment whose sandbox has died, which its next call would only find out; e.mu is held.
func (e *environment) endDead() {
	e.log.Warn("idle environment ends: its sandbox is gone")
	e.mustEnd = true
	e.w.live.Go(e.end)
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
	e.ext.Pause(false)
	e.mu.Lock()
	e.frozen = false
	e.mu.Unlock()
	return nil
}
