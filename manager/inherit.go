package manager

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"berth/lambda"
	"berth/sleep"
)

// Limits of asking predecessors. Only the hand-off limit holds up calls; the rest goes on in the background.
const (
	askAgainLimit = time.Second // for the answer of a predecessor that did not answer at once
	askAgainTries = 4           // of those
	maxAsks       = 300         // while environments are being started there
	firstAskPause = 2 * time.Millisecond
	lastAskPause  = 100 * time.Millisecond
	adoptLimit    = time.Second
)

// claim is one pool that a predecessor is asked for.
type claim struct {
	p *pool
	t *tenure
	h *heritage
}

// pull asks a predecessor for pools until it has handed over what it holds. If it does not answer within a limit, its environments are adopted
// from the workers; it is tried some more times all the same, because a slow one gives them up only when it is asked. through is told
// when what could be had at once is here: the rest is still being started there, or the predecessor is lost.
func (m *Manager) pull(ctx context.Context, from lambda.ManagerID, claims []*claim, limit time.Duration, through func()) {
	defer through()
	m.owe(claims, true)
	defer m.owe(claims, false)
	open, failed := claims, 0
	pause := firstAskPause
	for asks := 0; len(open) > 0 && asks < maxAsks; asks++ {
		next, more, err := m.ask(ctx, from, open, limit)
		if err != nil {
			if failed++; failed == 1 {
				m.succeedLost(ctx, from, open)
			}
			if _, known := m.peer(from); !known || failed == askAgainTries || ctx.Err() != nil {
				return
			}
			limit, pause = askAgainLimit, lastAskPause
		}
		if err == nil {
			open = next
		}
		if !more {
			through()
		}
		if len(open) > 0 && !more && !sleep.For(ctx, pause) {
			return
		}
		pause = min(2*pause, lastAskPause)
	}
}

func (m *Manager) peer(id lambda.ManagerID) (Peer, bool) {
	if m.cfg.Managers == nil {
		return nil, false
	}
	return m.cfg.Managers(id)
}

// owe keeps account of what is being asked for. When that ends, whatever was not answered counts no longer.
func (m *Manager) owe(claims []*claim, begin bool) {
	for _, c := range claims {
		c.p.mu.Lock()
		if begin {
			c.p.owed = append(c.p.owed, c.h)
		} else {
			c.p.owed = slices.DeleteFunc(c.p.owed, func(h *heritage) bool { return h == c.h })
			c.h.asking = false
			c.expect(0)
			c.resolve()
		}
		c.p.mu.Unlock()
	}
	if !begin {
		m.provisions.poke()
	}
}

// expect sets how many executions are still to come. p.mu is held, as by resolve.
func (c *claim) expect(busy int) {
	c.p.expected.Add(int64(busy - c.h.busy))
	if busy < c.h.busy {
		c.p.released.Add(1)
	}
	c.h.busy = busy
}

// resolve notes that the predecessor has answered, or is lost.
func (c *claim) resolve() {
	if c.h.resolved {
		return
	}
	c.h.resolved = true
	if c.t.open--; c.t.open == 0 {
		c.t.settle()
	}
}

// ask makes one request, and returns what must be asked for again; more when that can be at once.
func (m *Manager) ask(ctx context.Context, from lambda.ManagerID, claims []*claim, within time.Duration) (again []*claim, more bool, err error) {
	peer, known := m.peer(from)
	if !known {
		return nil, false, lambda.ErrUnreachable
	}
	req := lambda.HandOverRequest{Ring: claims[0].t.version, Successor: m.cfg.ID}
	for _, c := range claims {
		c.p.mu.Lock()
		req.Pools = append(req.Pools, lambda.PoolHandOver{
			Pool: c.p.id, Have: c.h.have, Parts: c.t.history.Parts(c.p.id, from, m.cfg.Limit(c.p.id), nil),
		})
		c.p.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	answer, err := peer.HandOver(ctx, req)
	if err == nil && len(answer.Pools) != len(claims) {
		err = lambda.ErrUnreachable
	}
	if err != nil {
		return nil, false, err
	}
	var come []*environment
	for i, c := range claims {
		out := &answer.Pools[i]
		come = append(come, m.accept(c, out, req.Pools[i].Have)...)
		if out.Moved == 0 && (out.More || out.Busy > 0) {
			again = append(again, c)
			more = more || out.More
		}
	}
	m.announce(come)
	return again, more, nil
}

// accept takes over what one answer brings.
func (m *Manager) accept(c *claim, out *lambda.HandedPool, had int) []*environment {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.h.have != had {
		return nil
	}
	n := 0
	for _, k := range out.Keys {
		n += len(k.Environments)
	}
	come := m.inherit(c.p, c.t.version, out.Keys)
	c.h.have += n
	c.expect(max(0, out.Busy)) // after they are counted: never too few
	if out.Moved > c.t.version {
		m.fence(c.p, out.Moved)
	}
	if !out.More {
		c.resolve()
	}
	return come
}

// inherit registers environments that were another manager's, and returns those that are new. p.mu is held.
func (m *Manager) inherit(p *pool, epoch uint64, keys []lambda.HandedKey) (come []*environment) {
	now := time.Now()
	for _, k := range keys {
		// Those in use first: the policy counts levels.
		slices.SortStableFunc(k.Environments, func(a, b lambda.Handed) int {
			return cmp.Or(-cmp.Compare(a.State, b.State), b.Since.Compare(a.Since))
		})
		for _, h := range k.Environments {
			if v, known := m.environments.Load(h.Environment); known && !m.supersede(v.(*environment), cmp.Or(h.Epoch, epoch)) {
				continue
			}
			e := m.heir(p, epoch, k, h, now)
			m.register(k.Key, e)
			if e.provision != nil {
				m.provisions.came(e.provision, e, h.State != lambda.HandedMaking)
			}
			e.set.come(e, cmp.Or(h.Since, now))
			come = append(come, e)
		}
	}
	m.room.changed()
	return come
}

// forgetOlder drops what this manager knows of environments of which their worker has seen later reservations. A manager that
// was restarted may have been handed them again by its predecessor, as they stood when its life before got them: the worker
// would refuse every reservation that it gives.
func (m *Manager) forgetOlder(keys []lambda.HandedKey) {
	for _, k := range keys {
		for _, h := range k.Environments {
			if v, known := m.environments.Load(h.Environment); known && v.(*environment).set.older(v.(*environment), h.Reservation) {
				m.drop(v.(*environment))
			}
		}
	}
}

// supersede drops a record from before the environment was another manager's, of which this one has not heard (it was cut off): the
// reservations that it has counted are not the worker's. False when the record is the newer one, or as new.
func (m *Manager) supersede(e *environment, epoch uint64) bool {
	if e.set.epochOf(e) >= epoch || !m.environments.CompareAndDelete(e.id, e) {
		return false
	}
	if e.set.remove(e) {
		m.sets.CompareAndDelete(e.set.key, e.set)
	}
	if e.provision != nil {
		m.provisions.left(e.provision, e)
	}
	return true
}

// heir makes the record of an environment that was another manager's.
func (m *Manager) heir(p *pool, epoch uint64, k lambda.HandedKey, h lambda.Handed, now time.Time) *environment {
	e := &environment{
		id: h.Environment, worker: h.Worker, pool: p, epoch: cmp.Or(h.Epoch, epoch), number: h.Reservation, began: cmp.Or(h.Since, now),
		started: true, confirmed: now, timeout: k.Timeout, bytes: int64(k.MemoryMB) << 20, since: cmp.Or(h.Since, now), warm: true,
		coming: true,
	}
	if h.Provisioned {
		e.provision = m.provisionFor(p, k.Key, h.Qualifier)
	}
	if e.provision == nil {
		e.record = m.recordOf(k.Key, k.MemoryMB, now)
	}
	switch h.State {
	case lambda.HandedIdle:
		e.state = idle
	case lambda.HandedMaking:
		e.state, e.warm = starting, false
		if e.provision == nil {
			e.state = warming
			p.warming.Add(1)
			m.warming.Add(1)
		}
	case lambda.HandedSilent:
		e.state = silent
	default:
		e.state, e.expires = reserved, cmp.Or(h.Expires, now.Add(m.cfg.ReservationLimit))
		if e.provision == nil {
			p.admitted.Add(1)
		}
	}
	return e
}

// lostOwner is a manager that did not answer under a ring, and owns nothing any more.
type lostOwner struct {
	manager lambda.ManagerID
	version uint64
}

// succeedLost adopts what a predecessor that does not answer owned of pools, from all workers, and resolves the claims.
func (m *Manager) succeedLost(ctx context.Context, from lambda.ManagerID, claims []*claim) {
	for _, c := range claims {
		key := lostOwner{from, c.t.version}
		if _, none := m.lost.Load(key); !none {
			req := lambda.AdoptRequest{From: from, Owner: m.cfg.ID, Epoch: c.t.version, Pool: c.p.id}
			if parts := c.t.history.Parts(c.p.id, from, m.cfg.Limit(c.p.id), nil); len(parts) > 0 {
				req.Parts = partsFor(parts, parts[0].Ring, m.cfg.ID)
			}
			if m.adoptEverywhere(ctx, req) {
				m.lost.Store(key, struct{}{})
			}
		}
		c.p.mu.Lock()
		c.resolve()
		c.p.mu.Unlock()
	}
}

// adoptEverywhere adopts from all workers at once, and reports whether the lost owner certainly has nothing left.
func (m *Manager) adoptEverywhere(ctx context.Context, req lambda.AdoptRequest) (nothingLeft bool) {
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	nothingLeft = true
	for _, id := range m.cfg.Workers.All() {
		wg.Go(func() {
			left, err := m.adoptOn(ctx, id, req)
			mu.Lock()
			defer mu.Unlock()
			nothingLeft = nothingLeft && err == nil && left == 0
		})
	}
	wg.Wait()
	return nothingLeft
}

func (m *Manager) adoptOn(ctx context.Context, id lambda.WorkerID, req lambda.AdoptRequest) (left int, err error) {
	w, ok := m.cfg.Workers.Worker(id)
	if !ok {
		return 0, lambda.ErrUnreachable
	}
	for {
		answer, err := w.Adopt(ctx, req)
		if err != nil {
			return 0, err
		}
		var come []*environment
		for _, handed := range answer.Pools {
			p := m.pool(handed.Pool)
			p.mu.Lock()
			m.forgetOlder(handed.Keys)
			come = append(come, m.inherit(p, req.Epoch, handed.Keys)...)
			p.mu.Unlock()
		}
		for _, e := range come {
			e.set.confirm(e, time.Now())
		}
		if answer.Next == "" || answer.Next <= req.After {
			return answer.Left, nil
		}
		req.After = answer.Next
	}
}
