package cluster

import (
	"context"
	"sync"
	"time"

	"berth/lambda"
)

// Bounds of what happens in a run, from which the checker knows how long the past counts.
const (
	longestRun   = 20 * time.Second // of an invocation, slow workers included
	longestStart = 5 * time.Second
	// replacement is how long a lost manager's quota may be used twice: by what runs in its environments and by its stand-in.
	replacement = longestRun + longestStart + lambda.OwnerLease
	// tendLimit is by how much an environment may outlive the lease after its owner: the last renewal may come late, and doubled, and
	// workers look once a second.
	tendLimit = 2*latest + 1500*time.Millisecond
)

// checker holds the invariants of ACCEPTANCE against the history, as it happens.
type checker struct {
	c  *Cluster
	mu sync.Mutex

	runs    map[string]lambda.EnvironmentID                // request → where it began to run
	inside  map[lambda.EnvironmentID]string                // environment → the request that runs in it
	serves  map[lambda.EnvironmentID]lambda.EnvironmentKey // environment → what it has served
	wants   map[string]function                            // request → its function
	tenants map[string]string                              // request → its tenant
	running map[lambda.PoolID]int
	ahead   int                              // running in environments that were made ahead
	losses  map[lambda.ManagerID][]time.Time // when each manager was lost or replaced
	answers map[string]int                   // request → answers
	given   map[string]string                // environment, its old manager and ring → its new manager
}

func newChecker(c *Cluster) *checker {
	return &checker{
		c: c, runs: map[string]lambda.EnvironmentID{}, inside: map[lambda.EnvironmentID]string{},
		serves: map[lambda.EnvironmentID]lambda.EnvironmentKey{}, wants: map[string]function{}, running: map[lambda.PoolID]int{},
		tenants: map[string]string{}, losses: map[lambda.ManagerID][]time.Time{}, answers: map[string]int{}, given: map[string]string{},
	}
}

// asked notes that an invocation was sent to a frontend.
func (k *checker) asked(request, tenant string, f function) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wants[request], k.tenants[request] = f, tenant
	k.answers[request] = 0
}

// answered is half of I6.
func (k *checker) answered(request string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answers[request]++
	if k.answers[request] > 1 {
		k.c.history.violate("I6: invocation %s got %d answers", request, k.answers[request])
	}
}

// began checks I1, I2 and I3 when an invocation takes an environment.
func (k *checker) began(e *environment, r lambda.Reservation, inv *lambda.Invocation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.wants[inv.RequestID]
	if other, busy := k.inside[e.id]; busy {
		k.c.history.violate("I1: environment %s runs %s and is given %s", e.id, other, inv.RequestID)
	}
	if where, ran := k.runs[inv.RequestID]; ran {
		k.c.history.violate("I6: invocation %s ran in %s and runs again in %s", inv.RequestID, where, e.id)
	}
	if e.key.Account != account || e.key.Function != f.name || e.key.ConfigID != f.version.ConfigID {
		k.c.history.violate("I2: environment %s of %+v was given a call of %s", e.id, e.key, f.name)
	}
	if e.key.Tenant != k.tenants[inv.RequestID] {
		k.c.history.violate("I2: environment %s of tenant %q was given a call of tenant %q", e.id, e.key.Tenant, k.tenants[inv.RequestID])
	}
	if served, ok := k.serves[e.id]; ok && served != e.key {
		k.c.history.violate("I2: environment %s served %+v and serves %+v", e.id, served, e.key)
	}
	k.runs[inv.RequestID], k.inside[e.id], k.serves[e.id] = e.id, inv.RequestID, e.key
	if e.ahead {
		k.beganAhead(e)
		return
	}
	k.running[f.pool]++
	if bound := k.bound(f.pool); k.running[f.pool] > bound {
		k.c.history.violate("I3: pool %v runs %d, at most %d are allowed (limit %d)", f.pool, k.running[f.pool], bound, k.c.limit(f.pool))
	}
}

// double is a reservation that was given away while another one of its environment was in use: the worker refused it, but
// its manager should not have given it.
func (k *checker) double(e *environment, r lambda.Reservation, inv *lambda.Invocation) {
	k.c.history.violate("I1: environment %s is busy with reservation %d, and %d was given to %s", e.id, e.reservation, r.Number, inv.RequestID)
}

// mixed is a reservation that was given to another tenant's call: the worker refused it, but its manager should not have given it.
func (k *checker) mixed(e *environment, inv *lambda.Invocation) {
	k.c.history.violate("I2: environment %s is tenant %q's, and was given to %s of tenant %q", e.id, e.key.Tenant, inv.RequestID, inv.Tenant)
}

func (k *checker) ended(e *environment, inv *lambda.Invocation, _ bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.inside, e.id)
	if e.ahead {
		k.ahead--
		return
	}
	k.running[k.wants[inv.RequestID].pool]--
}

// lost notes that a manager crashed, or that another one found it unreachable and stands in for it.
func (k *checker) lost(id lambda.ManagerID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.losses[id] = append(k.losses[id], time.Now())
}

// bound is what a pool may run now: its limit and, for each manager that is being replaced, its quota once for its crash
// (what ran on it goes on) and once for a stand-in if it came back meanwhile.
func (k *checker) bound(pool lambda.PoolID) int {
	limit := k.c.limit(pool)
	bound := limit
	for _, id := range k.c.names.managers {
		bound += k.lostLately(id) * k.c.rings.quotaOf(id, pool, limit)
	}
	return bound
}

// lostLately is how often a manager was lost so lately that its past counts, at most twice. k.mu is held.
func (k *checker) lostLately(id lambda.ManagerID) int {
	lost := 0
	for _, at := range k.losses[id] {
		if time.Since(at) < replacement {
			lost++
		}
	}
	return min(lost, 2)
}

// watch checks I5 once a second: nothing waits in an environment whose owner died a lease ago.
func (k *checker) watch(ctx context.Context) {
	for {
		k.c.net.sleep(time.Second)
		if ctx.Err() != nil {
			return
		}
		for _, id := range k.c.names.workers {
			if p, w := k.c.workers[id].current(); p != nil {
				k.orphans(w)
			}
		}
	}
}

func (k *checker) orphans(w *worker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.sorted() {
		if e.maker.dead() && time.Since(e.maker.died) > lambda.OwnerLease+tendLimit && e.state != running && !e.claimed {
			k.c.history.violate("I5: environment %s is there %v after its owner %s died", e.id, time.Since(e.maker.died), e.owner)
		}
	}
}

// end checks, when all faults are over and nothing was asked for long enough, that nothing is left behind: I5 and I6.
func (k *checker) end(ctx context.Context) {
	k.mu.Lock()
	for request, n := range k.answers {
		if n == 0 {
			k.c.history.violate("I6: invocation %s got no answer", request)
		}
	}
	for pool, n := range k.running {
		if n != 0 {
			k.c.history.violate("the checker lost count: %d run in %v", n, pool)
		}
	}
	k.mu.Unlock()
	for _, id := range k.c.names.managers {
		_, m := k.c.managers[id].current()
		if n := m.Status().Environments; n > 0 && !k.c.rings.member(id) {
			k.c.history.violate("I5: manager %s holds %d environments and is not on the ring", id, n)
		}
		for pool := range k.c.shape.limits {
			if load := m.Load(ctx, pool); load.Running != 0 {
				k.c.history.violate("I5: manager %s counts %d reserved or running in %v, and nothing runs", id, load.Running, pool)
			}
		}
	}
	for _, id := range k.c.names.workers {
		_, w := k.c.workers[id].current()
		w.mu.Lock()
		for _, e := range w.sorted() {
			if e.state != idle {
				k.c.history.violate("I5: environment %s on %s is neither idle nor gone (state %d)", e.id, id, e.state)
			}
			if e.maker.dead() {
				k.c.history.violate("I5: environment %s on %s has no owner", e.id, id)
			}
		}
		w.mu.Unlock()
	}
}
