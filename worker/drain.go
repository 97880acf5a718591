package worker

import (
	"context"
	"time"
)

const (
	drainLook = 50 * time.Millisecond
	// drainGrace is for managers to end the idle environments themselves: they know of the calls that are on their way.
	drainGrace = 3 * time.Second
)

// Drain lets the worker run dry: new environments are refused, those that run a call end after it, and idle ones are left
// to their managers, which know that nothing is on its way there, for a grace period. It returns when no environment is
// left, or with ctx.Err() when ctx ends. There is no way back; Run is to be ended next.
func (w *Worker) Drain(ctx context.Context) error {
	w.draining.Store(true)
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	began := time.Now()
	for {
		left := false
		for e := range w.registry.all() {
			left = true
			if state, _ := e.look(); state == Idle && time.Since(began) > drainGrace {
				w.live.Go(e.end)
			}
		}
		if !left {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
