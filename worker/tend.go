package worker

import (
	"context"
	"errors"
	"time"

	"berth/sandbox"
)

// tendEvery is how long the START line of a silent function may wait to be seen; freezing may need a shorter time.
const tendEvery = time.Second

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
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for e := range w.registry.all() {
				if state, _ := e.look(); state == Running {
					e.out.passOn(now.Add(-tendEvery))
				}
				e.endLapsed(now)
				if w.cfg.IdleFreeze > 0 {
					e.freezeIfIdle(now.Add(-w.cfg.IdleFreeze))
				}
			}
		}
	}
}

// freezeIfIdle freezes e if it has been idle since the given time, and ends it if its sandbox is not there any more. It holds e.mu meanwhile: an invocation that comes just
// then waits for the freeze, 0.1 ms.
func (e *environment) freezeIfIdle(since time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != Idle || e.frozen || e.idleSince.After(since) || !e.ext.Quiet() && time.Since(e.idleSince) < quietLimit {
		return
	}
	e.ext.Pause(true)
	ctx, cancel := sandboxContext()
	defer cancel()
	err := e.sandbox.Freeze(ctx)
	if errors.Is(err, sandbox.ErrGone) { // its init was killed: the next call would find that out
		e.log.Warn("idle environment ends", "error", err)
		e.mustEnd = true
		e.w.live.Go(e.end)
		return
	}
	if err != nil {
		e.log.Warn("idle environment could not be frozen; it goes on using processor time", "error", err)
		e.ext.Pause(false)
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
	e.ext.Pause(false)
	e.mu.Lock()
	e.frozen = false
	e.mu.Unlock()
	return nil
}
