package frontend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"berth/lambda"
	"berth/ring"
)

// While rings change, roles hear of the new one at different moments. A manager that goes by another version says which, and
// the call is routed anew; movedLimit bounds that, and behindPause lies between two tries with a manager that is behind.
const (
	movedLimit  = 5 * time.Second
	behindPause = 5 * time.Millisecond
	// silentPause lies between two tries while none of a pool's managers answers: control makes a ring without them soon, or they are
	// back. That is bounded by movedLimit too.
	silentPause = 100 * time.Millisecond
)

// movedError ends a search: a manager goes by another ring version.
type movedError struct{ version uint64 }

func (e *movedError) Error() string {
	return fmt.Sprintf("the manager goes by ring version %d", e.version)
}

// silentError ends a search: no manager that could have admitted the call answers.
type silentError struct{ managers []lambda.ManagerID }

func (e *silentError) Error() string {
	return fmt.Sprintf("the managers %v do not answer", e.managers)
}

// place is what a ring means for one pool. It is made once per pool, ring and limit.
type place struct {
	history *ring.History
	limit   int
	useful  int
	order   []lambda.ManagerID     // the useful managers, in the pool's order; the first manager at least
	before  [][]lambda.Predecessor // of each in order; nil when there are no earlier rings (design C)
}

// placeOf returns the place of the pool, and brings S along when the ring has changed.
func (f *Frontend) placeOf(p *poolView, h *ring.History) *place {
	limit := f.cfg.Limit(p.id)
	old := p.place.Load()
	if old != nil && old.history == h && old.limit == limit {
		return old
	}
	r := h.Current
	now := &place{history: h, limit: limit, useful: r.Useful(limit)}
	now.order = r.Managers(p.id, max(1, now.useful), nil)
	if len(h.Earlier) > 0 {
		for _, id := range now.order {
			now.before = append(now.before, h.Predecessors(p.id, id, limit, nil))
		}
	}
	if old != nil && old.history.Current != r {
		p.follow(old, now)
	}
	p.place.Store(now)
	return now
}

// predecessors of a manager of the pool.
func (c *place) predecessors(id lambda.ManagerID) []lambda.Predecessor {
	if c.before == nil {
		return nil
	}
	if i := slices.Index(c.order, id); i >= 0 {
		return c.before[i]
	}
	return nil
}

// follow gives S as many managers of the new ring as could run what it could on the old one, or what the old managers have
// reported lately if that is less: where the managers spread their idle environments, calls are drawn.
func (p *poolView) follow(old, now *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	could := min(now.limit, p.size*old.history.Current.EffectiveQuota(now.limit))
	running := 0
	for _, rep := range p.reports {
		running += rep.load.Running
	}
	load := max(running+running/3, int(p.inFlight.Load()))
	p.size = min(now.history.Current.Needed(could, now.limit), now.history.Current.Needed(load, now.limit))
	clear(p.reports)
}

// acquire finds an environment. When the ring changes meanwhile it starts again with the new one.
func (f *Frontend) acquire(ctx context.Context, p *poolView, req lambda.AcquireRequest, provisioned bool) (lambda.Reservation, error) {
	var until time.Time
	for {
		h, changed := f.cfg.Rings()
		reservation, err := f.search(ctx, p, f.placeOf(p, h), req, provisioned)
		if err == nil {
			return reservation, nil
		}
		var moved *movedError
		var silent *silentError
		if !errors.As(err, &moved) && !errors.As(err, &silent) {
			return reservation, err
		}
		if until.IsZero() {
			until = time.Now().Add(movedLimit)
		}
		if moved != nil {
			err = f.awaitRing(ctx, h, changed, moved.version, time.Until(until))
		} else {
			err = awaitChange(ctx, changed, silent, time.Until(until))
		}
		if err != nil {
			return lambda.Reservation{}, err
		}
	}
}

// awaitChange waits a little for another ring, or for a manager to be there again.
func awaitChange(ctx context.Context, changed <-chan struct{}, silent *silentError, within time.Duration) error {
	if within <= 0 {
		return lambda.Errorf(lambda.ServiceFailure, "None of the function's managers %v answers, for %v now.", silent.managers, movedLimit)
	}
	limit := time.NewTimer(min(silentPause, within))
	defer limit.Stop()
	select {
	case <-changed:
	case <-limit.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// awaitRing waits until this frontend knows the ring that a manager goes by, or for a moment when it is the manager that is behind.
func (f *Frontend) awaitRing(ctx context.Context, h *ring.History, changed <-chan struct{}, version uint64, within time.Duration) error {
	pause := within
	if uint64(h.Current.Version()) >= version {
		pause, changed = behindPause, nil
	}
	select {
	case <-changed: // during the search already, which may have taken longer than the limit
		return nil
	default:
	}
	limit := time.NewTimer(min(pause, within))
	defer limit.Stop()
	select {
	case <-changed:
		return nil
	case <-limit.C:
		if within > pause {
			return nil
		}
		return lambda.Errorf(lambda.ServiceFailure, "This frontend goes by ring version %d, and the function's manager by %d, for %v now; see the log about the engine.",
			h.Current.Version(), version, movedLimit)
	case <-ctx.Done():
		return ctx.Err()
	}
}
