package manager

import (
	"context"
	"sync/atomic"
	"time"

	"berth/lambda"
)

// sweep ends environments that can never be asked for again, and has the policy decide about the others that are idle.
func (m *Manager) sweep(ctx context.Context, now time.Time) {
	list := map[*record][]*environment{}
	m.environments.Range(func(_, v any) bool {
		e := v.(*environment)
		since, counts := e.set.waits(e)
		switch {
		case !counts:
		case !m.cfg.Current(e.set.key):
			m.endIdle(ctx, e)
		default:
			e.seen = since
			list[e.record] = append(list[e.record], e)
		}
		return ctx.Err() == nil
	})
	m.adjust(ctx, now, list)
}

func (m *Manager) endIdle(ctx context.Context, e *environment) {
	if e.set.claim(e) {
		m.spawn(func(ctx context.Context) { m.end(ctx, e) })
	}
}

// makeRoom ends the idle environment of least value (see appraise) and returns when its memory is free, and where that was.
// When none is idle but some are ending already, it waits for one of those, and names no worker. False when neither is there.
func (m *Manager) makeRoom(ctx context.Context) (lambda.WorkerID, bool) {
	for {
		changed := m.room.wait() // before looking, so that nothing that ends meanwhile is missed
		victim, someEnding := m.leastWorth()
		switch {
		case victim != nil && victim.set.claim(victim):
			m.end(ctx, victim)
			return victim.worker, true
		case victim != nil: // somebody was faster: look again
		case someEnding && m.cfg.RoomLimit > 0:
			return "", m.waitFor(ctx, changed)
		default:
			return "", false
		}
	}
}

// leastWorth finds the environment to end for room. Those made ahead (provisioned) are none of the candidates.
func (m *Manager) leastWorth() (victim *environment, someEnding bool) {
	var least candidate
	now := time.Now()
	m.environments.Range(func(_, v any) bool {
		e := v.(*environment)
		c, state := e.set.appraise(e, now)
		someEnding = someEnding || state == ending
		if state == idle && e.provision == nil && (victim == nil || c.before(least)) {
			victim, least = e, c
		}
		return true
	})
	return victim, someEnding
}

// room tells those who wait for memory that an environment is idle or gone. It costs one load while nobody waits.
type room struct {
	waiting atomic.Pointer[queue]
}

// queue is those who wait for the same change.
type queue struct {
	changed chan struct{} // closed at the change
	length  atomic.Int64
}

// turn is somebody's place in a queue.
type turn struct {
	changed <-chan struct{}
	number  int64 // from 1
}

// turnTime is what each place in the queue is given to look before the next: a change is often good for one call only, and
// hundreds that look at once hinder one another.
const turnTime = 20 * time.Microsecond

// wait returns a place among those who are told when the next environment is idle or gone.
func (r *room) wait() turn {
	for {
		if now := r.waiting.Load(); now != nil {
			return turn{now.changed, now.length.Add(1)}
		}
		r.waiting.CompareAndSwap(nil, &queue{changed: make(chan struct{})})
	}
}

func (r *room) changed() {
	if r.waiting.Load() == nil {
		return
	}
	if now := r.waiting.Swap(nil); now != nil {
		close(now.changed)
	}
}

// waitFor waits for the change and for one's turn; false when that takes longer than endLimit or ctx.
func (m *Manager) waitFor(ctx context.Context, at turn) bool {
	if ctx.Err() != nil { // whatever has changed meanwhile
		return false
	}
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-at.changed:
	case <-limit.C:
		return false
	case <-ctx.Done():
		return false
	}
	time.Sleep(time.Duration(at.number) * turnTime) // short: there are at most as many as the pools' limits
	m.cfg.Woken(ctx)
	return true
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
