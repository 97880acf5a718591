package ring

import (
	"sync"
	"sync/atomic"

	"berth/lambda"
)

// History is the current ring and the earlier ones whose managers may still hold environments. It does not change: a new
// version makes a new one.
type History struct {
	Current *Ring
	Earlier []*Ring // newest first
}

// Slots returns the range [from, to) of a pool's limit that its k-th manager admits: slot numbers stand for rights to run one
// call. The ranges of all managers make up [0, limit) without a gap or an overlap.
func (r *Ring) Slots(limit, k int) (from, to int) {
	from = min(max(0, limit), k*r.EffectiveQuota(limit))
	return from, from + r.Quota(limit, k)
}

// Predecessors appends to buf who held, in earlier rings, the slots of the pool's limit that are the manager's on the current
// one; the manager itself is left out (design C). Whoever holds a slot holds the environments that are in use in it, and
// its share of the idle ones, so a manager that has got its slots from all predecessors may admit calls in them: the limit
// stays exact while rings change. Newest ring first, then in slot order; one predecessor is named once per ring.
func (h *History) Predecessors(pool lambda.PoolID, manager lambda.ManagerID, limit int, buf []lambda.Predecessor) []lambda.Predecessor {
	k, member := h.Current.Ordinal(pool, manager)
	if !member {
		return buf
	}
	limit = max(1, limit) // what is provisioned belongs to the first manager, even where nothing else is allowed
	from, to := h.Current.Slots(limit, k)
	if from == to {
		return buf
	}
	for _, old := range h.Earlier {
		q := old.EffectiveQuota(limit)
		if q == 0 {
			continue
		}
		order := old.Managers(pool, ceilDiv(to, q), nil)
		for i := from / q; i < len(order); i++ {
			oldFrom, oldTo := old.Slots(limit, i)
			if order[i] != manager && oldFrom < to && from < oldTo {
				buf = append(buf, lambda.Predecessor{
					Manager: order[i], Ring: uint64(old.Version()), From: max(from, oldFrom), To: min(to, oldTo),
				})
			}
		}
	}
	return buf
}

// Parts appends to buf who gets, on the current ring, the slots of the pool's limit that the manager held in earlier rings:
// newest ring first, then in slot order. Together the parts of one ring are what the manager held in it.
func (h *History) Parts(pool lambda.PoolID, manager lambda.ManagerID, limit int, buf []lambda.Part) []lambda.Part {
	limit = max(1, limit)
	q := h.Current.EffectiveQuota(limit)
	if q == 0 {
		return buf
	}
	for _, old := range h.Earlier {
		k, member := old.Ordinal(pool, manager)
		if !member {
			continue
		}
		from, to := old.Slots(limit, k)
		if from == to {
			continue
		}
		order := h.Current.Managers(pool, ceilDiv(to, q), nil)
		for i := from / q; i < len(order); i++ {
			newFrom, newTo := h.Current.Slots(limit, i)
			if newFrom < to && from < newTo {
				buf = append(buf, lambda.Part{Ring: uint64(old.Version()), Manager: order[i], From: max(from, newFrom), To: min(to, newTo)})
			}
		}
	}
	return buf
}

// Heir is which part an environment belongs to when it is adopted: by its id, so that all adopters agree, and in proportion to
// the parts' slots. What was made ahead of calls is the first part's: the pool's first manager has those. There is at least one part,
// and they are in the order of their slots.
func Heir(id lambda.EnvironmentID, ahead bool, parts []lambda.Part) lambda.ManagerID {
	if ahead {
		return parts[0].Manager
	}
	slots := uint64(0)
	for _, p := range parts {
		slots += uint64(max(0, p.To-p.From))
	}
	if slots == 0 {
		return parts[0].Manager
	}
	at := hashString(string(id)) % slots
	for _, p := range parts {
		n := uint64(max(0, p.To-p.From))
		if at < n {
			return p.Manager
		}
		at -= n
	}
	return parts[len(parts)-1].Manager
}

// Source is how roles learn of rings: the newest history, and a channel that is closed when there is a newer one.
type Source func() (*History, <-chan struct{})

// Fixed is the source of a ring that never changes.
func Fixed(r *Ring) Source {
	h := &History{Current: r}
	return func() (*History, <-chan struct{}) { return h, nil }
}

// Feed holds the newest history; nil before the first Set, and no channel then.
type Feed struct {
	mu  sync.Mutex
	now atomic.Pointer[fed]
}

type fed struct {
	history *History
	changed chan struct{}
}

// Get is a Source. It costs one load.
func (f *Feed) Get() (*History, <-chan struct{}) {
	if now := f.now.Load(); now != nil {
		return now.history, now.changed
	}
	return nil, nil
}

// Set gives out another history; one whose ring is older than the last one's is not taken.
func (f *Feed) Set(h *History) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.now.Load()
	if last != nil && h.Current.Version() < last.history.Current.Version() {
		return
	}
	f.now.Store(&fed{h, make(chan struct{})})
	if last != nil {
		close(last.changed)
	}
}
