package manager

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"berth/lambda"
	"berth/ring"
	"berth/sleep"
)

const (
	// offerBatch is how many pools of an offer are asked for at once. A call that needs one of them waits for the batch; one that needs
	// another asks for that by itself.
	offerBatch = 16
	offerLimit = 2 * time.Second
)

// followRings gives every pool a tenure under each new ring, and moves what is another manager's, until ctx ends.
func (m *Manager) followRings(ctx context.Context) {
	var last *ring.History
	for {
		h, changed := m.cfg.Rings()
		if h != last {
			last = h
			m.waitRecovered(ctx)
			m.turnAll(h)
			m.followed.Store(uint64(h.Current.Version()))
			m.lost.Range(func(key, _ any) bool {
				if key.(lostOwner).version < uint64(h.Current.Version()) {
					m.lost.Delete(key)
				}
				return true
			})
			m.offerAll(time.Now())
			m.provisions.poke()
			if len(h.Earlier) > 0 {
				m.spawn(func(ctx context.Context) { m.adoptDeparted(ctx, h) })
			}
		}
		select {
		case <-changed:
			m.cfg.Woken(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (m *Manager) turnAll(h *ring.History) {
	m.pools.Range(func(_, v any) bool {
		p := v.(*pool)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.tenure.Load() != nil {
			m.turn(p, h, nil)
		}
		return true
	})
}

// offerAll tells other managers what they should ask for: whatever is here of their slots. It is told again until they have it.
func (m *Manager) offerAll(now time.Time) {
	m.pools.Range(func(_, v any) bool {
		p := v.(*pool)
		p.peak.saw(int(p.admitted.Load()), now)
		p.forgetEstates(now, m.cfg.Lease)
		return true
	})
	h, _ := m.cfg.Rings()
	if len(h.Earlier) == 0 || !m.offering.CompareAndSwap(false, true) {
		return
	}
	m.spawn(func(ctx context.Context) {
		defer m.offering.Store(false)
		offers := m.offers(h)
		done := make(chan struct{}, len(offers))
		for _, id := range slices.Sorted(maps.Keys(offers)) {
			m.spawn(func(ctx context.Context) {
				defer func() { done <- struct{}{} }()
				m.offerTo(ctx, h, id, offers[id])
			})
		}
		for range offers {
			select {
			case <-done:
			case <-ctx.Done():
				return
			}
		}
	})
}

func (m *Manager) offerTo(ctx context.Context, h *ring.History, id lambda.ManagerID, pools []lambda.PoolID) {
	peer, known := m.peer(id)
	if !known {
		return
	}
	slices.SortFunc(pools, func(a, b lambda.PoolID) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Function, b.Function))
	})
	ctx, cancel := context.WithTimeout(ctx, offerLimit)
	defer cancel()
	for part := range slices.Chunk(pools, lambda.MaxHandedPools) {
		req := lambda.OfferRequest{Ring: uint64(h.Current.Version()), Manager: m.cfg.ID, Pools: part}
		if err := peer.Offer(ctx, req); err != nil {
			return // the next offer comes in a second
		}
	}
}

// offers finds whose slots the environments here are in.
func (m *Manager) offers(h *ring.History) map[lambda.ManagerID][]lambda.PoolID {
	type wish struct {
		pool *pool
		heir lambda.ManagerID // "" when nobody has asked yet
	}
	held := map[wish]bool{}
	version := uint64(h.Current.Version())
	m.environments.Range(func(_, v any) bool {
		e := v.(*environment)
		if p, heir, stays := e.set.fate(e, version); !stays {
			held[wish{p, heir}] = true
		}
		return true
	})
	offers, told := map[lambda.ManagerID][]lambda.PoolID{}, map[wish]bool{}
	for w := range held {
		to := []lambda.ManagerID{w.heir}
		if w.heir == "" {
			to = m.heirs(h, w.pool)
		}
		for _, id := range to {
			if one := (wish{w.pool, id}); id != m.cfg.ID && !told[one] {
				told[one] = true
				offers[id] = append(offers[id], w.pool.id)
			}
		}
	}
	return offers
}

// heirs are the managers that have what this one held of a pool. What is in no slot (a limit was lowered) is the first's.
func (m *Manager) heirs(h *ring.History, p *pool) (to []lambda.ManagerID) {
	limit := m.cfg.Limit(p.id)
	for _, part := range h.Parts(p.id, m.cfg.ID, limit, nil) {
		if !slices.Contains(to, part.Manager) {
			to = append(to, part.Manager)
		}
	}
	if len(to) > 0 {
		return to
	}
	if k, member := h.Current.Ordinal(p.id, m.cfg.ID); member && h.Current.Quota(max(1, limit), k) > 0 {
		return nil
	}
	return []lambda.ManagerID{h.Current.Manager(p.id)}
}

// Offer implements Peer: the pools are asked for in the background.
func (m *Manager) Offer(ctx context.Context, req lambda.OfferRequest) error {
	h := m.historyAt(ctx, req.Ring, historyLimit)
	if uint64(h.Current.Version()) < req.Ring || req.Manager == m.cfg.ID || len(req.Pools) > lambda.MaxHandedPools {
		return nil // it comes again
	}
	m.spawn(func(ctx context.Context) {
		for pools := range slices.Chunk(req.Pools, offerBatch) {
			if claims := m.claims(h, req.Manager, pools); len(claims) > 0 {
				done := make(chan struct{})
				through := sync.OnceFunc(func() { close(done) })
				// Who offers lives. It may be slow: then one call goes on without it, but not those of all these pools.
				m.spawn(func(ctx context.Context) { m.pull(ctx, req.Manager, claims, askAgainLimit, through) })
				select {
				case <-done: // the next ones need not wait for what is being started of these
				case <-ctx.Done():
				}
			}
		}
	})
	return nil
}

// claims are the pools to ask a manager for that it is not being asked for already.
func (m *Manager) claims(h *ring.History, from lambda.ManagerID, pools []lambda.PoolID) (out []*claim) {
	for _, id := range pools {
		p := m.pool(id)
		p.mu.Lock()
		if t := m.turn(p, h, nil); t.version == uint64(h.Current.Version()) && t.member {
			hr := t.heritageOf(from)
			if hr == nil { // its history, or its view of the limit, is not this manager's
				hr = &heritage{manager: from, version: t.version, resolved: true}
				t.heritage = append(t.heritage, hr)
			}
			if !hr.asking {
				hr.asking = true
				out = append(out, &claim{p, t, hr})
			}
		}
		p.mu.Unlock()
	}
	return out
}

// Settled is the newest ring version under which this manager holds nothing that is another's: nobody needs older versions to
// find it here. From then on it makes and takes over only what is its own under that version.
func (m *Manager) Settled() uint64 {
	h, _ := m.cfg.Rings()
	version, last := uint64(h.Current.Version()), m.settled.Load()
	if version == last || m.followed.Load() != version || len(m.offers(h)) > 0 {
		return last
	}
	m.settled.Store(version)
	return version
}

// keepRecovering recovers once before calls are admitted, and goes on for a lease: a worker may be heard of late.
func (m *Manager) keepRecovering(ctx context.Context, once chan struct{}) {
	asked := map[lambda.WorkerID]bool{}
	m.recover(ctx, asked)
	close(once)
	for began := time.Now(); time.Since(began) < m.cfg.Lease && sleep.For(ctx, sweepInterval); {
		m.recover(ctx, asked)
	}
}

// recover adopts what an earlier process of this manager's id owned. A worker that is heard of later is asked then.
func (m *Manager) recover(ctx context.Context, asked map[lambda.WorkerID]bool) {
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	h, _ := m.cfg.Rings()
	req := lambda.AdoptRequest{From: m.cfg.ID, Owner: m.cfg.ID, Epoch: uint64(h.Current.Version()), AllPools: true}
	done := make(chan struct{})
	n := 0
	for _, id := range m.cfg.Workers.All() {
		if asked[id] {
			continue
		}
		asked[id] = true
		n++
		go func() {
			defer func() { done <- struct{}{} }()
			if _, err := m.adoptOn(ctx, id, req); err != nil && ctx.Err() == nil {
				m.cfg.Log.Warn("a worker does not say what this manager owned there; it ends with its lease", "worker", id, "error", err)
			}
		}()
	}
	for range n {
		<-done
	}
}

// waitRecovered waits until recover has been through, for no longer than calls wait for predecessors.
func (m *Manager) waitRecovered(ctx context.Context) {
	if m.awaitRecovered(ctx) {
		m.cfg.Woken(ctx)
	}
}

// awaitRecovered reports whether it had to wait, and recover has been through then.
func (m *Manager) awaitRecovered(ctx context.Context) (woken bool) {
	recovered := m.recovered.Load()
	if recovered == nil {
		return false
	}
	select {
	case <-*recovered:
		return false
	default:
	}
	limit := time.NewTimer(m.cfg.HandOffLimit)
	defer limit.Stop()
	select {
	case <-*recovered:
		return true
	case <-limit.C:
	case <-ctx.Done():
	}
	return false
}

// adoptDeparted finds the pools of managers that have left the ring without a word, and has them adopted before calls ask
// for them, and before their leases end.
func (m *Manager) adoptDeparted(ctx context.Context, h *ring.History) {
	now := h.Current.Members()
	departed := map[lambda.ManagerID]bool{}
	for _, old := range h.Earlier {
		for _, id := range old.Members() {
			if _, known := m.peer(id); !known && !slices.Contains(now, id) {
				departed[id] = true
			}
		}
	}
	for _, from := range slices.Sorted(maps.Keys(departed)) {
		for _, id := range m.poolsOf(ctx, from) {
			if ctx.Err() != nil {
				return
			}
			p := m.pool(id)
			p.mu.Lock()
			t := m.turn(p, h, nil)
			p.mu.Unlock()
			if t.member && t.history != nil && !t.settled.Load() {
				m.awaitSlots(ctx, p, t)
			}
		}
	}
}

// poolsOf asks the workers which pools a lost owner had.
func (m *Manager) poolsOf(ctx context.Context, from lambda.ManagerID) (pools []lambda.PoolID) {
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	for _, id := range m.cfg.Workers.All() {
		w, ok := m.cfg.Workers.Worker(id)
		if !ok {
			continue
		}
		answer, err := w.Adopt(ctx, lambda.AdoptRequest{From: from})
		if err != nil {
			continue // what it has ends with its lease, or is found by a call
		}
		for _, p := range answer.Pools {
			if !slices.Contains(pools, p.Pool) {
				pools = append(pools, p.Pool)
			}
		}
	}
	return pools
}
