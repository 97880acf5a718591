package manager

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"berth/lambda"
	"berth/ring"
	"berth/sleep"
)

// historyLimit is how long a request waits for this manager to hear of the ring that it goes by; reuseHistoryLimit for one that
// can be answered with a miss.
const (
	historyLimit      = time.Second
	reuseHistoryLimit = 300 * time.Millisecond
)

// tenure is what this manager may admit of a pool under one ring. Rights to run are slots of the pool's limit (ring.Slots), and a
// slot is some manager's under each ring. Who held it before must have handed it over, or be lost, before calls are admitted in
// it: so the limit is exact while rings change. A tenure ends when the pool is given another.
type tenure struct {
	version  uint64
	history  *ring.History // nil when a successor of a newer ring has asked, and this manager has not seen that ring yet
	ordinal  int
	member   bool
	kept     slots       // those of its slots that it held before too: it needs nobody's word for them
	keptAt   uint64      // the version under which it held them last
	settled  atomic.Bool // all of its slots are its own
	counted  chan struct{}
	begin    sync.Once // of asking
	heritage []*heritage
	open     int // heritages that are not resolved; guarded by pool.mu
}

// slots is a range of a pool's slots.
type slots struct{ from, to int }

func (s slots) count() int { return max(0, s.to-s.from) }

func (s slots) meet(t slots) slots { return slots{max(s.from, t.from), min(s.to, t.to)} }

func (s slots) holds(t slots) bool { return s.from <= t.from && t.to <= s.to }

// heritage is what one predecessor has to hand over. Guarded by pool.mu.
type heritage struct {
	manager  lambda.ManagerID
	version  uint64  // of the tenure
	slots    []slots // of this manager's, that the predecessor held under some ring
	asking   bool
	resolved bool // it has answered, or is lost
	have     int  // environments got
	busy     int  // executions still to come: they count as admitted
}

func (h *heritage) count() (n int) {
	for _, s := range h.slots {
		n = max(n, s.count())
	}
	return n
}

// rights returns the slots of the pool that are this manager's now, and since which version. p.mu is held.
func (m *Manager) rights(p *pool, t *tenure) (slots, uint64) {
	switch {
	case t == nil:
		return slots{}, 0
	case t.history == nil || !t.settled.Load():
		return t.kept, t.keptAt
	case !t.member:
		return slots{}, t.version
	}
	from, to := t.history.Current.Slots(max(1, m.cfg.Limit(p.id)), t.ordinal)
	return slots{from, to}, t.version
}

// enter finds the tenure that a request is for. When there is none, moved is the version that this manager goes by.
func (m *Manager) enter(ctx context.Context, p *pool, req *lambda.AcquireRequest) (t *tenure, moved uint64) {
	limit := historyLimit
	if req.ReuseOnly {
		limit = reuseHistoryLimit
	}
	h := m.historyAt(ctx, req.Ring, limit)
	if now := uint64(h.Current.Version()); now != req.Ring {
		return nil, now
	}
	m.waitRecovered(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if t = m.turn(p, h, req.Predecessors); t.version != req.Ring {
		return nil, t.version
	}
	return t, 0
}

// historyAt waits until this manager has heard of a ring version, within a limit, and returns the newest then.
func (m *Manager) historyAt(ctx context.Context, version uint64, within time.Duration) *ring.History {
	h, changed := m.cfg.Rings()
	if uint64(h.Current.Version()) >= version {
		return h
	}
	limit := time.NewTimer(within)
	defer limit.Stop()
	for uint64(h.Current.Version()) < version {
		select {
		case <-changed:
			m.cfg.Woken(ctx)
		case <-limit.C:
			return h
		case <-ctx.Done():
			return h
		}
		h, changed = m.cfg.Rings()
	}
	return h
}

// turn gives the pool a tenure under the newest ring, unless it has that or a newer one, and returns what it has. told are
// predecessors that the frontend named. p.mu is held.
func (m *Manager) turn(p *pool, h *ring.History, told []lambda.Predecessor) *tenure {
	old := p.tenure.Load()
	version := uint64(h.Current.Version())
	if old != nil && (old.version > version || old.version == version && old.history != nil && old.history.Current == h.Current) {
		return old
	}
	t := &tenure{version: version, history: h, counted: make(chan struct{})}
	t.ordinal, t.member = h.Current.Ordinal(p.id, m.cfg.ID)
	if t.member {
		m.inheritance(p, t, old, told)
	}
	if t.open == 0 {
		t.settle()
	}
	p.tenure.Store(t)
	return t
}

// inheritance finds the slots of t that need nobody's word, and the predecessors in the others. p.mu is held.
func (m *Manager) inheritance(p *pool, t, old *tenure, told []lambda.Predecessor) {
	limit := m.cfg.Limit(p.id)
	from, to := t.history.Current.Slots(max(1, limit), t.ordinal)
	t.kept, t.keptAt = m.rights(p, old)
	t.kept = t.kept.meet(slots{from, to})
	for _, r := range t.history.Earlier { // this manager may not have heard of some: it was cut off, or they followed one another quickly
		if v := uint64(r.Version()); v > t.keptAt && v < t.version {
			t.kept = t.kept.meet(slotsUnder(r, p.id, m.cfg.ID, limit))
		}
	}
	list := t.history.Predecessors(p.id, m.cfg.ID, limit, nil)
	for _, was := range append(list, told...) {
		part := slots{was.From, was.To}.meet(slots{from, to})
		if was.Manager == m.cfg.ID || was.Ring >= t.version || part.count() == 0 || was.Ring <= t.keptAt && t.kept.holds(part) {
			continue
		}
		h := t.heritageOf(was.Manager)
		if h == nil {
			h = &heritage{manager: was.Manager, version: t.version}
			t.heritage = append(t.heritage, h)
			t.open++
		}
		h.slots = append(h.slots, part)
	}
}

// slotsUnder returns the slots of a pool that a manager had under a ring.
func slotsUnder(r *ring.Ring, pool lambda.PoolID, id lambda.ManagerID, limit int) slots {
	k, member := r.Ordinal(pool, id)
	if !member {
		return slots{}
	}
	from, to := r.Slots(max(1, limit), k)
	return slots{from, to}
}

func (t *tenure) heritageOf(id lambda.ManagerID) *heritage {
	for _, h := range t.heritage {
		if h.manager == id {
			return h
		}
	}
	return nil
}

// settle is told that all slots are the tenure's own.
func (t *tenure) settle() {
	if t.settled.CompareAndSwap(false, true) {
		close(t.counted)
	}
}

// fence ends this manager's tenures of the pool that are older than a ring version: a successor under it has asked. p.mu is held.
func (m *Manager) fence(p *pool, version uint64) *tenure {
	if h, _ := m.cfg.Rings(); uint64(h.Current.Version()) == version {
		return m.turn(p, h, nil)
	}
	old := p.tenure.Load()
	if old != nil && old.version >= version {
		return old
	}
	t := &tenure{version: version, counted: make(chan struct{})}
	t.kept, t.keptAt = m.rights(p, old)
	p.tenure.Store(t)
	return t
}

// awaitSlots asks the predecessors, and waits until all of them have handed over or are lost. A predecessor that says nothing
// within the hand-off limit counts as lost: calls wait no longer for it (invariant I3).
func (m *Manager) awaitSlots(ctx context.Context, p *pool, t *tenure) {
	t.begin.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, h := range t.heritage {
			c := &claim{p, t, h}
			switch {
			case h.resolved:
			case h.asking:
				m.spawn(func(ctx context.Context) { m.askAlone(ctx, c) })
			default:
				h.asking = true
				m.spawn(func(ctx context.Context) { m.pull(ctx, h.manager, []*claim{c}, m.cfg.HandOffLimit*3/5, func() {}) }) // the rest is for asking the workers instead
			}
		}
	})
	limit := time.NewTimer(m.cfg.HandOffLimit)
	defer limit.Stop()
	select {
	case <-t.counted:
		m.cfg.Woken(ctx)
	case <-ctx.Done():
	case <-limit.C:
		p.mu.Lock()
		defer p.mu.Unlock()
		t.settle()
		m.cfg.Log.Info("calls go on without what an earlier manager has not handed over yet", "pool", p.id, "ring", t.version, "waited", m.cfg.HandOffLimit)
	}
}

// askAlone asks a predecessor for a pool for which a call waits, although it is being asked for that with others: if their answer does
// not come soon the workers must be asked before the call goes on, or what the predecessor runs would not be counted.
func (m *Manager) askAlone(ctx context.Context, c *claim) {
	if !sleep.For(ctx, m.cfg.HandOffLimit/5) {
		return
	}
	c.p.mu.Lock()
	resolved := c.h.resolved
	c.p.mu.Unlock()
	if !resolved {
		m.pull(ctx, c.h.manager, []*claim{c}, m.cfg.HandOffLimit*2/5, func() {})
	}
}
