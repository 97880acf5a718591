package worker

import (
	"cmp"
	"context"
	"slices"
	"time"

	"berth/lambda"
	"berth/ring"
)

// Adopt gives environments of a lost owner to another one, and says how they stand. What the lost one may still give away is
// refused from then on: reservations of idle environments by their numbers, everything else by the epoch.
func (w *Worker) Adopt(_ context.Context, req lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	if req.Owner == "" {
		return w.poolsOf(req.From), nil
	}
	var found []*environment
	var answer lambda.AdoptAnswer
	for e := range w.registry.all() {
		switch mine, theirs := e.heirOf(&req); {
		case mine:
			found = append(found, e)
		case theirs:
			answer.Left++
		}
	}
	slices.SortFunc(found, func(a, b *environment) int { return cmp.Compare(a.id, b.id) })
	after, _ := slices.BinarySearchFunc(found, req.After, func(e *environment, id lambda.EnvironmentID) int { return cmp.Compare(e.id, id) })
	if after < len(found) && found[after].id == req.After {
		after++
	}
	until := time.Now().Add(w.cfg.Lease)
	list := newHandedList()
	for _, e := range found[after:] {
		if list.n == lambda.MaxHandedEnvironments {
			answer.Next = list.last
			break
		}
		if h, ok := e.adopt(&req, until); ok {
			list.add(e, h)
		}
	}
	answer.Pools = list.pools
	return answer, nil
}

// poolsOf lists the pools of which an owner has environments, at most lambda.MaxOwnedPools.
func (w *Worker) poolsOf(owner lambda.ManagerID) (answer lambda.AdoptAnswer) {
	seen := map[lambda.PoolID]bool{}
	for e := range w.registry.all() {
		e.mu.Lock()
		if e.ownerID == owner && !seen[e.pool] && len(seen) < lambda.MaxOwnedPools {
			seen[e.pool] = true
			answer.Pools = append(answer.Pools, lambda.HandedPool{Pool: e.pool})
		}
		e.mu.Unlock()
	}
	slices.SortFunc(answer.Pools, func(a, b lambda.HandedPool) int {
		return cmp.Or(cmp.Compare(a.Pool.Account, b.Pool.Account), cmp.Compare(a.Pool.Function, b.Pool.Function))
	})
	return answer
}

// heirOf reports whether e is the adopter's, or belongs to the lost owner and stays there. What was adopted before is the
// adopter's too: the answer may have been lost.
func (e *environment) heirOf(req *lambda.AdoptRequest) (mine, theirs bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	lost := e.ownerID == req.From && (e.epoch < req.Epoch || e.ownerID == req.Owner)
	again := e.ownerID == req.Owner && e.epoch == req.Epoch
	if !lost && !again || !req.AllPools && e.pool != req.Pool {
		return false, e.ownerID == req.From
	}
	if lost && len(req.Parts) > 0 && ring.Heir(e.id, e.ahead, req.Parts) != req.Owner {
		return false, true
	}
	return true, false
}

// adopt changes the owner. A lost owner may have given away the next reservation of an idle environment, which may be on its
// way: that number is used up, so the environment is never used through its old owner again. An adopter that was restarted keeps
// the epoch: it may have newer environments here, which it knows.
func (e *environment) adopt(req *lambda.AdoptRequest, until time.Time) (h lambda.Handed, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == Ending || e.state == Gone || e.mustEnd && e.state != Running && !e.claimed {
		return h, false
	}
	anew := e.ownerID != req.Owner
	if anew {
		if !e.own(req.Owner) {
			return h, false
		}
		e.epoch = req.Epoch
	}
	e.leaseEnd = until
	h = lambda.Handed{Epoch: e.epoch, Environment: e.id, Worker: e.w.cfg.ID, State: lambda.HandedInUse, Reservation: e.reservation, Provisioned: e.ahead}
	switch {
	case e.state == Idle:
		if anew {
			e.reservation++
		}
		h.State, h.Reservation, h.Since = lambda.HandedIdle, e.reservation, e.idleSince
	case e.state == Starting && e.released:
		h.State = lambda.HandedMaking
	case e.state == Reserved, e.state == Starting && !e.claimed:
		h.Reservation++ // given away, and not used yet
	}
	return h, true
}

// handedList sorts adopted environments by pool and key.
type handedList struct {
	pools []lambda.HandedPool
	at    map[lambda.PoolID]int
	n     int
	last  lambda.EnvironmentID
}

func newHandedList() *handedList { return &handedList{at: map[lambda.PoolID]int{}} }

func (l *handedList) add(e *environment, h lambda.Handed) {
	i, ok := l.at[e.pool]
	if !ok {
		i = len(l.pools)
		l.at[e.pool] = i
		l.pools = append(l.pools, lambda.HandedPool{Pool: e.pool})
	}
	p := &l.pools[i]
	k := slices.IndexFunc(p.Keys, func(k lambda.HandedKey) bool { return k.Key == e.key })
	if k < 0 {
		k = len(p.Keys)
		p.Keys = append(p.Keys, lambda.HandedKey{Key: e.key, Timeout: e.version.Timeout, MemoryMB: e.version.MemoryMB})
	}
	p.Keys[k].Environments = append(p.Keys[k].Environments, h)
	l.n, l.last = l.n+1, e.id
}
