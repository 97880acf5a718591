package worker

import (
	"context"
	"time"
)

const (
	drainLook = 50 * time.Millisecond
	// drainGrace is for managers to end the environments themselves: they know of the calls that are on their way, and make others
	// elsewhere first.
	drainGrace = 25 * time.Second
)

// Drain lets the worker run dry: new environments are refused, calls in those that are there go on, and idle ones are left to
// their managers, which know that nothing is on its way there, for a grace period: 25 s, or half of the time that ctx has.
// After that idle ones end at once, and the others after their calls. It returns when no environment is left, or with ctx.Err()
// when ctx ends. There is no way back; Run is to be ended next.
func (w *Worker) Drain(ctx context.Context) error {
	w.draining.Store(true)
	grace := w.grace
	if deadline, ok := ctx.Deadline(); ok {
		grace = min(grace, time.Until(deadline)/2)
	}
	cut := time.NewTimer(grace)
	defer cut.Stop()
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for {
		left := false
		for e := range w.registry.all() {
			left = true
			if state, _ := e.look(); state == Idle && w.cutting.Load() {
				w.live.Go(e.end)
			}
		}
		if !left {
			return nil
		}
		select {
		case <-tick.C:
		case <-cut.C:
			w.cutting.Store(true)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
