package manager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"berth/lambda"
)

// handedAtOnce is how many environments of several pools one answer brings: the calls of all of them wait for it, in 1–2 ms.
const handedAtOnce = 100

// will says who gets what of a pool, under the newest ring under which anybody asked. Guarded by pool.mu.
type will struct {
	version uint64
	parts   []lambda.Part
}

// estate is what one successor was given under one ring, kept for a lease: its request may come again. Guarded by pool.mu.
type estate struct {
	version   uint64
	successor lambda.ManagerID
	list      []givenAway
	asked     time.Time // last
}

type givenAway struct {
	key      lambda.EnvironmentKey
	timeout  time.Duration
	memoryMB int
	handed   lambda.Handed
}

// HandOver implements Peer: it ends this manager's tenures that are older than the successor's ring, decides once who gets
// what, and gives the successor its part, environments in use too. Those that are being started follow, when asked for again.
func (m *Manager) HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error) {
	if req.Ring == 0 || req.Successor == "" || req.Successor == m.cfg.ID || len(req.Pools) > lambda.MaxHandedPools {
		return lambda.HandOverAnswer{}, fmt.Errorf("a hand-over of %d pools to manager %q under ring %d: expected another manager, a ring, and at most %d pools",
			len(req.Pools), req.Successor, req.Ring, lambda.MaxHandedPools)
	}
	m.waitRecovered(ctx)
	budget := lambda.MaxHandedEnvironments
	var answer lambda.HandOverAnswer
	for i, ask := range req.Pools {
		if i == 1 { // what one pool has goes at once
			budget = max(0, budget-lambda.MaxHandedEnvironments+handedAtOnce)
		}
		answer.Pools = append(answer.Pools, m.handPool(m.pool(ask.Pool), &req, ask, &budget))
	}
	return answer, nil
}

// handPool answers for one pool. Its lock is held for as long, and no other's.
func (m *Manager) handPool(p *pool, req *lambda.HandOverRequest, ask lambda.PoolHandOver, budget *int) lambda.HandedPool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	out := lambda.HandedPool{Pool: p.id}
	t := m.fence(p, req.Ring)
	list := p.roster.all() // after the fence: what is not there now never will be, but by this manager's own hand-overs
	given := p.estateOf(req.Ring, req.Successor)
	given.asked = now
	if t.version > req.Ring {
		out.Moved = t.version
	} else {
		if p.will.version < req.Ring {
			p.will = will{req.Ring, partsFor(ask.Parts, t.keptAt, req.Successor)}
		}
		m.bequeath(p, list, now)
		out.Busy = m.transfer(p, given, list) + p.owedUnder(req.Ring, partOf(p.will.parts, req.Successor))
	}
	rest := given.list[min(max(0, ask.Have), len(given.list)):]
	n := min(len(rest), *budget)
	*budget -= n
	out.More = n < len(rest)
	for _, g := range rest[:n] {
		addHanded(&out, g)
	}
	return out
}

// partsFor chooses among the parts of several earlier rings those of the one under which this manager held its slots.
func partsFor(parts []lambda.Part, heldAt uint64, successor lambda.ManagerID) []lambda.Part {
	best := uint64(0)
	for _, p := range parts {
		if p.Ring == heldAt {
			best = heldAt
			break
		}
		best = max(best, p.Ring)
	}
	var out []lambda.Part
	for _, p := range parts {
		if p.Ring == best && p.Manager != "" {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		out = []lambda.Part{{Manager: successor, To: 1}}
	}
	slices.SortStableFunc(out, func(a, b lambda.Part) int { return cmp.Compare(a.From, b.From) })
	return out
}

// partOf is how many slots a manager gets.
func partOf(parts []lambda.Part, id lambda.ManagerID) (n int) {
	for _, p := range parts {
		if p.Manager == id {
			n += max(0, p.To-p.From)
		}
	}
	return n
}

// bequeath decides who gets the environments that nobody has been decided for under the present will. p.mu is held.
func (m *Manager) bequeath(p *pool, list []*environment, now time.Time) {
	var open []legacy
	for _, e := range list {
		if l, ok := e.set.legacy(e, p, p.will.version); ok {
			open = append(open, l)
		}
	}
	if len(open) == 0 {
		return
	}
	load := max(int(p.admitted.Load()), p.peak.recent(now))
	for i, heir := range split(p.will.parts, m.cfg.ID, load, open) {
		if heir == m.cfg.ID {
			heir = ""
		}
		open[i].e.set.leave(open[i].e, heir, p.will.version)
	}
}

// transfer gives the successor what is its and has been started, and returns how many of its executions have not been. p.mu is held.
func (m *Manager) transfer(p *pool, to *estate, list []*environment) (busy int) {
	for _, e := range list {
		h, outcome := e.set.give(e, p, to.successor)
		switch outcome {
		case notYet:
			busy++
		case handed:
			to.list = append(to.list, givenAway{e.set.key, e.timeout, int(e.bytes >> 20), h})
			m.part(e, &to.list[len(to.list)-1].handed)
		}
	}
	return busy
}

// part forgets an environment that has been handed over.
func (m *Manager) part(e *environment, h *lambda.Handed) {
	m.environments.CompareAndDelete(e.id, e)
	e.set.isolated.count(-1)
	if e.set.leaveEmpty() {
		m.sets.CompareAndDelete(e.set.key, e.set)
	}
	if e.provision != nil {
		h.Provisioned, h.Qualifier = true, e.provision.id.Qualifier
		m.provisions.left(e.provision, e)
	}
	m.room.changed()
}

// estateOf returns what a successor was given under a ring. p.mu is held.
func (p *pool) estateOf(version uint64, successor lambda.ManagerID) *estate {
	for _, g := range p.given {
		if g.version == version && g.successor == successor {
			return g
		}
	}
	g := &estate{version: version, successor: successor}
	p.given = append(p.given, g)
	return g
}

// owedUnder is how many executions this manager, as a successor itself, may still get under rings before the given one: at
// most part of them are for the asking manager. p.mu is held.
func (p *pool) owedUnder(version uint64, part int) (n int) {
	for _, h := range p.owed {
		switch {
		case h.version >= version:
		case h.resolved:
			n += h.busy
		default:
			n += h.count()
		}
	}
	return min(n, max(1, part))
}

// forgetEstates drops what was given away a lease ago.
func (p *pool) forgetEstates(now time.Time, lease time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given = slices.DeleteFunc(p.given, func(g *estate) bool { return now.Sub(g.asked) > lease })
}

// addHanded puts an environment under its key.
func addHanded(p *lambda.HandedPool, g givenAway) {
	last := len(p.Keys) - 1
	if last < 0 || p.Keys[last].Key != g.key {
		p.Keys = append(p.Keys, lambda.HandedKey{Key: g.key, Timeout: g.timeout, MemoryMB: g.memoryMB})
		last++
	}
	p.Keys[last].Environments = append(p.Keys[last].Environments, g.handed)
}
