package manager

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"berth/lambda"
)

// fairness keeps one tenant of a function from starving the others: whoever was refused although it has less than its share
// has the next room for a while. It costs calls one load while nobody was refused.
type fairness struct {
	hungry atomic.Int32 // len(waiting)

	mu      sync.Mutex
	waiting map[string]wish // tenant → what it was refused
	seen    time.Time       // when the tenants were counted
	took    time.Duration   // how long that took
	tenants map[string]tally
}

// wish is what a tenant was refused.
type wish struct {
	what  want
	until time.Time
}

// tally counts environments.
type tally struct{ total, busy int }

// want is what calls lack.
type want uint8

const (
	aSlot want = iota + 1 // the pool is at its quota
	aGain                 // the function gains environments too fast, or has as many as it may
	aRoom                 // no worker has memory left
)

const (
	// keptFor is how long room is kept for a tenant that was refused: clients that are throttled try again within a second.
	keptFor = time.Second
	// maxWaiting bounds the tenants of one function for which room is kept.
	maxWaiting = 1000
	// countEvery is how old the counts may be by which shares are found: counting visits all sets.
	countEvery = 100 * time.Millisecond
	// countShare: counting takes a twentieth of the time at most, however many tenants there are.
	countShare = 20
)

// mayRun reports whether a tenant's call need not stand back for those of others; with another, it wants one more environment.
func (f *fairness) mayRun(m *Manager, key lambda.EnvironmentKey, quota, running int, another bool, now time.Time) bool {
	if f.hungry.Load() == 0 {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for tenant, w := range f.waiting {
		if now.After(w.until) {
			delete(f.waiting, tenant)
		}
	}
	f.hungry.Store(int32(len(f.waiting)))
	if _, waits := f.waiting[key.Tenant]; waits || len(f.waiting) == 0 {
		return true
	}
	f.count(m, key, now)
	waiting := [aRoom + 1]int{}
	for _, w := range f.waiting {
		waiting[w.what]++
	}
	own, mean := f.tenants[key.Tenant], f.mean(len(f.waiting))
	switch {
	case waiting[aSlot] > 0 && quota-running <= waiting[aSlot] && own.busy >= f.share(quota):
		return false
	case waiting[aRoom] > 0 && own.total > mean: // also if it has an idle one: its memory is wanted
		return false
	}
	return !another || waiting[aGain]+waiting[aRoom] == 0 || own.total < mean
}

// mean is how many environments a tenant has, if so many more get one each. f.mu is held.
func (f *fairness) mean(more int) int {
	sum, tenants := more, len(f.tenants)
	for _, n := range f.tenants {
		sum += n.total
	}
	for tenant := range f.waiting {
		if _, has := f.tenants[tenant]; !has {
			tenants++
		}
	}
	return max(1, sum/max(1, tenants))
}

// share is a tenant's part of the quota: of those that run or wait each has the same. f.mu is held.
func (f *fairness) share(quota int) int {
	active := len(f.waiting)
	for tenant, n := range f.tenants {
		if _, waits := f.waiting[tenant]; n.busy > 0 && !waits {
			active++
		}
	}
	return max(1, quota/max(1, active))
}

// refused keeps room for a tenant that has less than its share, for a while.
func (f *fairness) refused(m *Manager, key lambda.EnvironmentKey, what want, quota int, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count(m, key, now)
	if own := f.tenants[key.Tenant]; own.busy >= f.share(quota) || own.busy > 0 && what != aSlot {
		return
	}
	if f.waiting == nil {
		f.waiting = map[string]wish{}
	}
	if len(f.waiting) < maxWaiting {
		f.waiting[key.Tenant] = wish{what, now.Add(keptFor)}
		f.hungry.Store(int32(len(f.waiting)))
	}
}

// served is told that a tenant has got what it wanted.
func (f *fairness) served(tenant string) {
	if f.hungry.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.waiting, tenant)
	f.hungry.Store(int32(len(f.waiting)))
}

// overShare finds the tenant with the most environments, if it has more than its share of what the function has, and more than
// one more than the tenant of the key.
func (f *fairness) overShare(m *Manager, key lambda.EnvironmentKey, now time.Time) (tenant string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count(m, key, now)
	most, sum := tally{}, 0
	for name, n := range f.tenants {
		sum += n.total
		if n.total > most.total || n.total == most.total && name < tenant {
			tenant, most = name, n
		}
	}
	tenants := len(f.tenants)
	if _, has := f.tenants[key.Tenant]; !has {
		tenants++
	}
	return tenant, most.total > max(1, sum/max(1, tenants)) && most.total > f.tenants[key.Tenant].total+1
}

// count counts the environments of each tenant of the key's function, if that was not done just now. f.mu is held.
func (f *fairness) count(m *Manager, key lambda.EnvironmentKey, now time.Time) {
	if f.tenants != nil && now.Sub(f.seen) < max(countEvery, countShare*f.took) {
		return
	}
	began := time.Now()
	defer func() { f.took = time.Since(began) }()
	f.seen, f.tenants = now, map[string]tally{}
	m.sets.Range(func(k, v any) bool {
		of := k.(lambda.EnvironmentKey)
		if of.Account == key.Account && of.Function == key.Function && of.Tenant != lambda.Unbound {
			total, busy := v.(*set).count()
			n := f.tenants[of.Tenant]
			f.tenants[of.Tenant] = tally{n.total + total, n.busy + busy}
		}
		return true
	})
}

// makeFair makes a place for an environment of a tenant when its function has as many as it may have: one of a tenant that has
// more than its share of them ends, if it is idle. False when there is none such.
func (m *Manager) makeFair(ctx context.Context, key lambda.EnvironmentKey, now time.Time) bool {
	f := m.isolatedOf(key)
	largest, ok := f.fair.overShare(m, key, now)
	if !ok {
		return false
	}
	var victim *environment
	var least candidate
	m.environments.Range(func(_, v any) bool {
		e := v.(*environment)
		if k := e.set.key; k.Account != key.Account || k.Function != key.Function || k.Tenant != largest {
			return true
		}
		if c, state := e.set.appraise(e, now); state == idle && (victim == nil || c.before(least)) {
			victim, least = e, c
		}
		return true
	})
	if victim == nil || !victim.set.claim(victim) {
		return false
	}
	m.end(ctx, victim)
	return true
}
