package cluster

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"berth/lambda"
	"berth/manager"
	"berth/ring"
)

const (
	// spareManagers run too, and are on no ring at first.
	spareManagers = 2
	// ringKept is how long an earlier ring is remembered: what runs in environments of its managers has ended then, and
	// so have their leases.
	ringKept = replacement
	// laggard is how late some hear of a ring.
	laggard = 3 * time.Second
	// noticed is how long a lost manager is on the ring.
	noticed = 3 * time.Second
)

// rings are the versions of a run, and what each site has heard of them.
type rings struct {
	c *Cluster

	mu    sync.Mutex
	all   []*ring.Ring // oldest first
	made  []time.Time
	feeds map[string]*ring.Feed
}

func (c *Cluster) newRings() *rings {
	r := &rings{c: c, feeds: map[string]*ring.Feed{}}
	r.add(c.shape.quota, c.names.managers[:c.shape.managers])
	return r
}

// add makes the next version. It panics when that is wrong: the script is.
func (r *rings) add(quota int, members []lambda.ManagerID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := ring.New(ring.Version(len(r.all)+1), quota, members)
	if err != nil {
		panic(err)
	}
	r.all, r.made = append(r.all, next), append(r.made, time.Now())
}

// history is what the catalog says now.
func (r *rings) history() *ring.History {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.all) - 1
	h := &ring.History{Current: r.all[last]}
	for i := last - 1; i >= 0 && time.Since(r.made[i+1]) < ringKept; i-- {
		h.Earlier = append(h.Earlier, r.all[i])
	}
	return h
}

// feed gives a new process of a site the newest rings.
func (r *rings) feed(site string) ring.Source {
	f := &ring.Feed{}
	f.Set(r.history())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.feeds[site] = f
	return f.Get
}

// publish tells every site of the newest ring, each at its time.
func (r *rings) publish(rng *rand.Rand) {
	h := r.history()
	r.c.history.note("ring", "", fmt.Sprint(h.Current.Members()), uint64(h.Current.Version()))
	r.mu.Lock()
	sites := slices.Sorted(maps.Keys(r.feeds))
	r.mu.Unlock()
	for _, site := range sites {
		late := time.Duration(1 + rng.Int64N(int64(20*time.Millisecond)))
		if rng.IntN(8) == 0 {
			late = time.Duration(rng.Int64N(int64(laggard)))
		}
		r.c.net.busy.Go(func() {
			r.c.net.sleep(late)
			r.mu.Lock()
			f := r.feeds[site] // of the life that is there now
			r.mu.Unlock()
			f.Set(h)
		})
	}
}

func (r *rings) member(id lambda.ManagerID) bool {
	return slices.Contains(r.history().Current.Members(), id)
}

// quotaOf is the most that a manager may have run of a pool under the rings that count.
func (r *rings) quotaOf(id lambda.ManagerID, pool lambda.PoolID, limit int) (quota int) {
	h := r.history()
	for _, one := range append(h.Earlier, h.Current) {
		if k, member := one.Ordinal(pool, id); member {
			quota = max(quota, one.Quota(limit, k))
		}
	}
	return quota
}

// changeRing deploys other managers, replaces one, goes back, or loses one and goes on without it.
func (f *faults) changeRing() func() {
	r := f.c.rings
	h := r.history()
	members, quota := h.Current.Members(), 1+f.rng.IntN(4)
	var spare []lambda.ManagerID
	for _, id := range f.c.names.managers {
		if !slices.Contains(members, id) {
			spare = append(spare, id)
		}
	}
	undo := func() {}
	switch f.rng.IntN(4) {
	case 0: // whatever
		all := slices.Clone(f.c.names.managers)
		f.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		members = all[:1+f.rng.IntN(len(all))]
	case 1: // one by another
		if len(spare) > 0 {
			members[f.rng.IntN(len(members))] = spare[f.rng.IntN(len(spare))]
		}
	case 2: // back
		if len(h.Earlier) > 0 {
			old := h.Earlier[f.rng.IntN(len(h.Earlier))]
			members = old.Members()
		}
	default: // one is lost
		if len(members) > 1 {
			i := f.rng.IntN(len(members))
			lost := members[i]
			members = slices.Delete(members, i, i+1)
			if crashSite(f.c, f.c.managers[lost]) {
				f.c.check.lost(lost)
			}
			f.c.net.sleep(time.Duration(f.rng.Int64N(int64(noticed))))
			undo = func() { f.c.startManager(lost) }
		}
	}
	r.add(quota, members)
	r.publish(f.rng)
	return undo
}

// peersOfManager are the other managers as one reaches them.
type peersOfManager struct {
	c    *Cluster
	from *process
}

func (e peersOfManager) find(id lambda.ManagerID) (manager.Peer, bool) {
	to := e.c.managers[id]
	return managerPeer{e.c, e.from, to, id}, to != nil
}

type managerPeer struct {
	c    *Cluster
	from *process
	to   *site[Manager]
	id   lambda.ManagerID
}

// HandOver implements manager.Peer. Whoever does not answer counts as lost: the asker goes on without it.
func (e managerPeer) HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error) {
	key := fmt.Sprint(req.Ring, len(req.Pools), req.Pools[0].Pool, req.Pools[0].Have)
	answer, err := call(ctx, e.c.net, e.from, e.to, message{"hand-over", key}, controlLimit, func(ctx context.Context, m Manager) (lambda.HandOverAnswer, error) {
		answer, err := m.HandOver(ctx, req)
		if ctx.Err() == nil {
			e.c.check.handed(e.to.name, req, answer)
		}
		return answer, err
	})
	if err != nil {
		e.c.check.lost(e.id)
	}
	return answer, err
}

// handed checks that nobody gives an environment to two successors, and notes what is given.
func (k *checker) handed(from string, req lambda.HandOverRequest, answer lambda.HandOverAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range answer.Pools {
		for _, key := range p.Keys {
			for _, h := range key.Environments {
				to := fmt.Sprint(req.Successor, " under ", req.Ring)
				given := string(h.Environment) + " from " + from + fmt.Sprint(" under ", req.Ring)
				if other, again := k.given[given]; again && other != to {
					k.c.history.violate("D5: environment %s was handed to %s and to %s", given, other, to)
				}
				k.given[given] = to
				k.c.history.note("hand-over", from, string(h.Environment)+" to "+to, h.Reservation)
			}
		}
	}
}

// Offer implements manager.Peer.
func (e managerPeer) Offer(ctx context.Context, req lambda.OfferRequest) error {
	_, err := call(ctx, e.c.net, e.from, e.to, message{"offer", fmt.Sprint(req.Ring, req.Pools)}, controlLimit, func(ctx context.Context, m Manager) (struct{}, error) {
		return struct{}{}, m.Offer(ctx, req)
	})
	return err
}

// Adopt implements manager.Worker.
func (e managedWorker) Adopt(ctx context.Context, req lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	key := fmt.Sprint(req.From, req.Owner, req.Epoch, req.Pool)
	return call(ctx, e.c.net, e.from, e.to, message{"adopt", key}, controlLimit, func(_ context.Context, w *worker) (lambda.AdoptAnswer, error) {
		return w.adopt(req, e.from), nil
	})
}

// renew is worker.Renew.
func (w *worker) renew(req lambda.RenewRequest, from *process) (answer lambda.RenewAnswer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range req.Holdings {
		e := w.environments[h.Environment]
		switch {
		case e == nil, req.Owner != "" && req.Owner != e.owner && h.Epoch <= e.epoch:
			answer.Gone = append(answer.Gone, h.Environment)
			continue
		case req.Owner == e.owner && h.Epoch < e.epoch:
			continue
		case req.Owner != "": // else a frontend gives back
			e.owner, e.epoch, e.maker = req.Owner, h.Epoch, from
			e.leaseEnd = time.Now().Add(lambda.OwnerLease)
		}
		if h.GiveBack {
			w.release(e, h.Reservation)
		}
		if e.state == idle && !e.mustEnd && e.reservation >= h.Reservation {
			answer.Idle = append(answer.Idle, h.Environment)
		}
	}
	return answer
}

// adopt is worker.Adopt.
func (w *worker) adopt(req lambda.AdoptRequest, from *process) (answer lambda.AdoptAnswer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.sorted() {
		lost := e.owner == req.From && (e.epoch < req.Epoch || e.owner == req.Owner)
		again := e.owner == req.Owner && e.epoch == req.Epoch
		switch {
		case req.Owner == "":
			if e.owner == req.From {
				answer.Pools = append(answer.Pools, lambda.HandedPool{Pool: e.pool})
			}
			continue
		case !lost && !again, !req.AllPools && e.pool != req.Pool, lost && len(req.Parts) > 0 && ring.Heir(e.id, e.ahead, req.Parts) != req.Owner:
			if e.owner == req.From {
				answer.Left++
			}
			continue
		case e.mustEnd && e.state != running && !e.claimed:
			continue
		}
		answer.Pools = append(answer.Pools, lambda.HandedPool{Pool: e.pool, Keys: []lambda.HandedKey{{
			Key: e.key, Timeout: longestRun, MemoryMB: int(e.bytes >> 20), Environments: []lambda.Handed{w.handed(e, req, from)},
		}}})
	}
	return answer
}

// handed gives one environment to its adopter. w.mu is held.
func (w *worker) handed(e *environment, req lambda.AdoptRequest, from *process) lambda.Handed {
	anew := e.owner != req.Owner
	if anew {
		e.owner, e.epoch = req.Owner, req.Epoch
	}
	e.maker, e.leaseEnd = from, time.Now().Add(lambda.OwnerLease)
	h := lambda.Handed{Environment: e.id, Worker: w.id, State: lambda.HandedInUse, Reservation: e.reservation, Epoch: e.epoch, Provisioned: e.ahead}
	switch {
	case e.state == idle:
		if anew {
			e.reservation++
		}
		h.State, h.Reservation = lambda.HandedIdle, e.reservation
	case e.state == starting && e.released:
		h.State = lambda.HandedMaking
	case e.state == reserved, e.state == starting && !e.claimed:
		h.Reservation++
	}
	w.note("adopt", string(e.id)+" by "+string(req.Owner), h.Reservation)
	return h
}
