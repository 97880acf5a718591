package manager

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"berth/lambda"
)

// A function with tenant isolation may have environmentsPer environments, active or idle, for each concurrencyPer of its
// concurrency (developer guide, "Tenant isolation", quotas). Each manager holds to it for its own quota, so the whole is exact.
const (
	environmentsPer = 2500
	concurrencyPer  = 1000
)

// isolated is what a manager knows of one function with tenant isolation.
type isolated struct {
	environments atomic.Int64 // of all tenants, and unbound
	fair         fairness
}

// functionID names a function.
type functionID struct {
	account  lambda.AccountID
	function string
}

// isolatedOf returns nil for keys of functions without tenant isolation.
func (m *Manager) isolatedOf(key lambda.EnvironmentKey) *isolated {
	if key.Tenant == "" {
		return nil
	}
	id := functionID{key.Account, key.Function}
	v, ok := m.isolated.Load(id)
	if !ok {
		v, _ = m.isolated.LoadOrStore(id, &isolated{})
	}
	return v.(*isolated)
}

// count notes that an environment came or went. It is called on nil for functions without tenant isolation.
func (f *isolated) count(n int64) {
	if f != nil {
		f.environments.Add(n)
	}
}

// fullFor reports whether so many more environments would be more than the quota allows.
func (f *isolated) fullFor(more, quota int) bool {
	return f != nil && f.environments.Load()+int64(more) > int64(max(1, quota*environmentsPer/concurrencyPer))
}

// acquireForTenant is acquireNew for a tenant without an idle environment: an unbound one becomes its own, else one is made.
func (m *Manager) acquireForTenant(ctx context.Context, p *pool, t *tenure, req lambda.AcquireRequest, quota int, load lambda.Load, expires time.Time) (lambda.Answer, error) {
	now := time.Now()
	if !m.isolatedOf(req.Key).fair.mayRun(m, req.Key, quota, load.Running, true, now) {
		return lambda.Answer{Verdict: lambda.Throttled, Load: load}, nil
	}
	e, verdict := m.bind(p, t, &req, quota, now, expires)
	switch verdict {
	case lambda.Granted:
		m.served(req.Key)
		return granted(e, e.number, expires, false, load), nil
	case lambda.Throttled:
		m.refused(req.Key, aSlot, quota, now)
		return lambda.Answer{Verdict: verdict, Load: load}, nil
	case lambda.Moved:
		return lambda.Answer{Verdict: verdict, Load: load}, nil
	}
	if m.isolatedOf(req.Key).fullFor(1, quota) && !m.makeFair(ctx, req.Key, now) {
		m.refused(req.Key, aGain, quota, now)
		return lambda.Answer{Verdict: lambda.Throttled, Load: load}, nil
	}
	answer, err := m.acquireNew(ctx, p, t, req, quota, load, expires)
	switch answer.Verdict {
	case lambda.Granted:
		m.served(req.Key)
	case lambda.Throttled:
		m.refused(req.Key, aSlot, quota, now)
	case lambda.RateLimited:
		m.refused(req.Key, aGain, quota, now)
	case lambda.Full:
		m.refused(req.Key, aRoom, quota, now)
	}
	return answer, err
}

// served and refused tell a tenant's function what became of its request. They are nothing for functions without tenants.
func (m *Manager) served(key lambda.EnvironmentKey) {
	if key.Tenant != "" {
		m.isolatedOf(key).fair.served(key.Tenant)
	}
}

func (m *Manager) refused(key lambda.EnvironmentKey, what want, quota int, now time.Time) {
	if key.Tenant != "" {
		m.isolatedOf(key).fair.refused(m, key, what, quota, now)
	}
}

// unbound is the key of the environments that could become one of key's.
func unbound(key lambda.EnvironmentKey) lambda.EnvironmentKey {
	key.Tenant = lambda.Unbound
	return key
}

// bind gives the tenant of a request an environment that has had no invocation yet, if there is one (else the verdict is 0): it
// leaves the unbound ones for ever and belongs to the tenant's from now on, as if another manager had handed it over. A
// reservation that is not used does not undo it.
func (m *Manager) bind(p *pool, t *tenure, req *lambda.AcquireRequest, quota int, now, expires time.Time) (*environment, lambda.Verdict) {
	v, ok := m.sets.Load(unbound(req.Key))
	if !ok {
		return nil, 0
	}
	from := v.(*set)
	old, number, verdict := from.takeUnbound(p, t, quota, now)
	if verdict != lambda.Granted {
		return nil, verdict
	}
	if from.leaveEmpty() {
		m.sets.CompareAndDelete(from.key, from)
	}
	from.isolated.count(-1) // register counts it again
	e := &environment{
		id: old.id, worker: old.worker, state: reserved, pool: p, record: m.record(*req, now), number: number, expires: expires,
		started: true, confirmed: now, timeout: old.timeout, epoch: old.epoch, bytes: old.bytes, began: now, since: now, warm: true,
	}
	e.record.began(now)
	m.gains(e, req, now)
	m.register(req.Key, e)
	if p.tenure.Load() == t {
		return e, lambda.Granted
	}
	// Whoever ended the tenure may have looked before e was there: it stays the tenant's, idle, and is handed over as such. The
	// worker has not seen the reservation, so the next has the same number.
	e.set.unreserve(e)
	return nil, lambda.Moved
}

// takeUnbound takes the environment off the set, and admits the call for it.
func (s *set) takeUnbound(p *pool, t *tenure, quota int, now time.Time) (e *environment, number uint64, verdict lambda.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.tenure.Load() != t {
		return nil, 0, lambda.Moved
	}
	n := len(s.idle) - 1
	if n < 0 {
		return nil, 0, 0
	}
	if !p.admit(quota) {
		return nil, 0, lambda.Throttled
	}
	e = s.idle[n]
	s.idle[n] = nil
	s.idle = s.idle[:n]
	e.gave()
	s.total--
	s.worth.used(now)
	return e, e.number + 1, lambda.Granted
}

// unreserve undoes a reservation that was told to nobody.
func (s *set) unreserve(e *environment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state != reserved {
		return
	}
	e.state = idle
	e.number--
	s.list(e)
	e.free(time.Now())
}

// gains notes that a tenant gains an environment: the function may soon be asked for another one by another tenant, so the
// policy learns from it how many unbound ones are worth their memory. Their level is how many are new to their tenants.
func (m *Manager) gains(e *environment, req *lambda.AcquireRequest, now time.Time) {
	if req.Key.Tenant == "" {
		return
	}
	next := *req
	next.Key, next.Predecessors = unbound(req.Key), nil
	e.gained = m.record(next, now)
	e.gained.habit.Began(now)
}

// gainOver is told that an environment's first call of its tenant is over, or another manager's. The set's lock is held.
func (e *environment) gainOver(now time.Time) {
	if e.gained != nil {
		e.gained.habit.Ended(now)
		e.gained = nil
	}
}

// TenantStatus is what a manager has of one tenant of one function.
type TenantStatus struct {
	Tenant       string `json:"tenant"` // lambda.Unbound: not any tenant's yet
	Environments int    `json:"environments"`
	Busy         int    `json:"busy"`  // of these, not idle
	Calls        uint64 `json:"calls"` // since this manager began to remember the tenant
}

// Tenants describes the tenants of a function, those with the most calls first, at most so many and the sums of the others under
// "". It visits every set and record.
func (m *Manager) Tenants(account lambda.AccountID, function string, most int) []TenantStatus {
	found := map[string]*TenantStatus{}
	of := func(key lambda.EnvironmentKey) *TenantStatus {
		if key.Account != account || key.Function != function || key.Tenant == "" {
			return nil
		}
		s := found[key.Tenant]
		if s == nil {
			s = &TenantStatus{Tenant: key.Tenant}
			found[key.Tenant] = s
		}
		return s
	}
	m.sets.Range(func(k, v any) bool {
		if s := of(k.(lambda.EnvironmentKey)); s != nil {
			total, busy := v.(*set).count()
			s.Environments, s.Busy = s.Environments+total, s.Busy+busy
		}
		return true
	})
	m.records.Range(func(k, v any) bool {
		if s := of(k.(lambda.EnvironmentKey)); s != nil {
			s.Calls += v.(*record).calls.Load()
		}
		return true
	})
	out := make([]TenantStatus, 0, len(found))
	for _, s := range found {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b TenantStatus) int {
		switch lambda.Unbound { // always shown
		case a.Tenant:
			return -1
		case b.Tenant:
			return 1
		}
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Tenant, b.Tenant))
	})
	if len(out) <= most {
		return out
	}
	var others TenantStatus
	for _, s := range out[most:] {
		others.Environments, others.Busy, others.Calls = others.Environments+s.Environments, others.Busy+s.Busy, others.Calls+s.Calls
	}
	return append(out[:most:most], others)
}

// count returns how many environments there are, and how many of them are not idle.
func (s *set) count() (total, busy int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.total - len(s.idle) - len(s.ahead)
}
