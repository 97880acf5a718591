package manager

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"berth/lambda"
	"berth/ring"
)

// ProvisionID names the provisioned concurrency of one version or alias.
type ProvisionID struct {
	Account   lambda.AccountID
	Function  string
	Qualifier string
}

// Provision asks for environments that are made ahead of calls and kept. The first manager of the pool's order has them.
// Calls in them are not admitted by the pool's quota: Config.Limit leaves out what is provisioned of a pool.
type Provision struct {
	ID      ProvisionID
	Pool    lambda.PoolID
	Changed time.Time // when it was last put: a new one forgets the failures before
	Targets []ProvisionTarget
}

// ProvisionTarget is one environment key and how many environments of it are to be kept.
type ProvisionTarget struct {
	Key     lambda.EnvironmentKey
	Version *lambda.Version
	Count   int
}

// ProvisionStatus is what there is of a Provision.
type ProvisionStatus struct {
	Allocated int  // environments that are initialised, those of an alias's version before included until they are replaced
	Current   int  // of these, those of the present targets
	Failed    bool // the last environment that was started failed to initialise; it is tried again, ever less often
}

// Limits of making environments ahead.
const (
	maxAhead   = 16              // starting at the same time for all provisions of one manager: calls need the processors too
	firstRetry = 1 * time.Second // after a failed start, doubled with each further one
	lastRetry  = time.Minute
	wakePause  = 1010 * time.Microsecond // words of workers come in groups; no multiple of turnTime
	roomTries  = 4                       // environments ended to make room for one made ahead
)

// provisions are the environments of this manager that are made ahead.
type provisions struct {
	wake chan struct{} // one buffered: look at once

	mu   sync.Mutex
	byID map[ProvisionID]*provision
	over []*environment // to be ended now: their last call has ended
	lone []*environment // that came here when nobody wanted them any more: they end, a call in them first
	full bool           // the last look found something missing that no worker has room for
}

// provision is the state of one Provision, guarded by provisions.mu.
type provision struct {
	id       ProvisionID
	changed  time.Time
	live     map[*environment]bool // true when initialised; not those that are to end
	failures int                   // failed starts in a row
	retry    time.Time             // no start before
}

func newProvisions() *provisions {
	return &provisions{wake: make(chan struct{}, 1), byID: map[ProvisionID]*provision{}}
}

func (ps *provisions) poke() {
	select {
	case ps.wake <- struct{}{}:
	default:
	}
}

// heard drops a wish to look at once: a look follows.
func (ps *provisions) heard() {
	select {
	case <-ps.wake:
	default:
	}
}

// busy reports whether environments are being provisioned, or cannot be for want of room. Nothing is made ahead of mere
// chances meanwhile.
func (ps *provisions) busy() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.full || ps.starting() > 0
}

// starting counts those that are not initialised yet. ps.mu is held.
func (ps *provisions) starting() (n int) {
	for _, p := range ps.byID {
		n += p.starting()
	}
	return n
}

func (p *provision) starting() (n int) {
	for _, done := range p.live {
		if !done {
			n++
		}
	}
	return n
}

// end has an environment ended that is marked so. It does not wait: the worker's word of it may be under way.
func (ps *provisions) end(e *environment) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.over = append(ps.over, e)
	ps.poke()
}

// ready is told that an environment of p is idle; the first time it has become initialised.
func (ps *provisions) ready(p *provision, e *environment) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if done, mine := p.live[e]; mine && !done {
		p.live[e], p.failures = true, 0
		ps.poke()
	}
}

// initialised reports whether the worker has said that an environment of p is idle.
func (ps *provisions) initialised(p *provision, e *environment) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.live[e]
}

// gone is told that an environment of p has ended. One that was never initialised, and that nobody told to end, failed.
func (ps *provisions) gone(p *provision, e *environment) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	done, mine := p.live[e]
	delete(p.live, e)
	if mine && !done {
		p.retry = time.Now().Add(min(lastRetry, firstRetry<<min(p.failures, 10)))
		p.failures++
	}
	ps.poke()
}

// ProvisionStatus reports what there is of a Provision now.
func (m *Manager) ProvisionStatus(want Provision) ProvisionStatus {
	ps := m.provisions
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byID[want.ID]
	if p == nil {
		return ProvisionStatus{}
	}
	status := ProvisionStatus{Failed: p.failures > 0 && p.changed.Equal(want.Changed)}
	for e, done := range p.live {
		if !done {
			continue
		}
		status.Allocated++
		for _, t := range want.Targets {
			if e.set.key == t.Key {
				status.Current++
			}
		}
	}
	return status
}

// keepProvisioned makes and ends environments until ctx ends, so that there are as many as Config.Provisions asks for.
func (m *Manager) keepProvisioned(ctx context.Context) {
	if m.cfg.Provisions == nil {
		return
	}
	if m.awaitRecovered(ctx) { // else what this manager had before it was restarted is made once more
		time.Sleep(wakePause)
	}
	tick := time.NewTimer(sweepInterval / 2) // between two sweeps
	defer tick.Stop()
	for {
		m.reconcile(ctx)
		select {
		case <-ctx.Done():
			return
		case <-m.provisions.wake:
		case <-tick.C:
		}
		time.Sleep(wakePause)
		m.provisions.heard()
		tick.Reset(sweepInterval)
	}
}

func (m *Manager) reconcile(ctx context.Context) {
	ps := m.provisions
	wanted := map[ProvisionID]bool{}
	full := false
	h, _ := m.cfg.Rings()
	for _, want := range m.cfg.Provisions() {
		wanted[want.ID] = true // what is here of another manager's is not ended: that asks for it
		if under := m.provides(h, want.Pool); under != nil {
			full = !m.provide(ctx, ps.of(want), want, under) || full
		}
	}
	ps.mu.Lock()
	ps.full = full
	ended, over := ps.over, ps.lone
	ps.over, ps.lone = nil, nil
	for id, p := range ps.byID {
		if !wanted[id] {
			over = append(over, p.take(len(p.live), func(*environment) bool { return true })...)
			delete(ps.byID, id)
		}
	}
	ps.mu.Unlock()
	m.retire(ctx, over)
	for _, e := range ended {
		m.spawn(func(ctx context.Context) { m.end(ctx, e) })
	}
}

// provides returns the tenure under which this manager is the pool's first, and has what there is already. Else nil: nothing is
// made anew.
func (m *Manager) provides(h *ring.History, id lambda.PoolID) *tenure {
	p := m.pool(id)
	p.mu.Lock()
	t := m.turn(p, h, nil)
	p.mu.Unlock()
	if t.history == nil || !t.member || t.ordinal != 0 {
		return nil
	}
	if !t.settled.Load() {
		m.spawn(func(ctx context.Context) { m.awaitSlots(ctx, p, t); m.provisions.poke() })
		return nil
	}
	return t
}

// provisionFor finds what an environment of another manager was made ahead for, by its key where no qualifier is known. When
// it is not wanted any more that is a provision that nobody looks after (see came): it never becomes one of the policy's, for
// to its worker it was made ahead until its end. nil for a manager that provisions nothing.
func (m *Manager) provisionFor(p *pool, key lambda.EnvironmentKey, qualifier string) *provision {
	if m.cfg.Provisions == nil {
		return nil
	}
	for _, want := range m.cfg.Provisions() {
		if want.Pool != p.id || want.ID.Account != key.Account || want.ID.Function != key.Function {
			continue
		}
		if want.ID.Qualifier == qualifier || qualifier == "" && want.has(key) {
			return m.provisions.of(want)
		}
	}
	id := ProvisionID{Account: key.Account, Function: key.Function, Qualifier: qualifier}
	return &provision{id: id, live: map[*environment]bool{}}
}

// came and left are told of environments that another manager hands over, or gets. One whose provision is not wanted, or has
// ceased to be a moment ago, is to end.
func (ps *provisions) came(p *provision, e *environment, ready bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.byID[p.id] == p {
		p.live[e] = ready
	} else {
		ps.lone = append(ps.lone, e)
	}
	ps.poke()
}

func (ps *provisions) left(p *provision, e *environment) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(p.live, e)
}

// of returns the state of a Provision; a new or changed one has no failures.
func (ps *provisions) of(want Provision) *provision {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byID[want.ID]
	if p == nil {
		p = &provision{id: want.ID, live: map[*environment]bool{}}
		ps.byID[want.ID] = p
	}
	if !p.changed.Equal(want.Changed) {
		p.changed, p.failures, p.retry = want.Changed, 0, time.Time{}
	}
	return p
}

// provide brings one provision nearer to what is wanted: ends what is over, and starts what is missing. False when there is
// no room for it.
func (m *Manager) provide(ctx context.Context, p *provision, want Provision, under *tenure) bool {
	over, missing := m.provisions.plan(p, want)
	m.retire(ctx, over)
	for _, t := range missing {
		for range t.Count {
			if ctx.Err() != nil || !m.provisions.mayStart(p) {
				return true
			}
			if !m.startAhead(ctx, p, m.pool(want.Pool), under, t) {
				// No room. What is left of an alias's version before must not keep its successor out.
				m.retire(ctx, m.provisions.takeOld(p, want))
				return false
			}
		}
	}
	return true
}

// plan finds what is over and what is missing. Environments of other keys than the wanted ones (an alias has moved) are
// kept until as many new ones are initialised, one for one.
func (ps *provisions) plan(p *provision, want Provision) (over []*environment, missing []ProvisionTarget) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ready, total := 0, 0
	for _, t := range want.Targets {
		have := 0
		for e, done := range p.live {
			if e.set.key == t.Key {
				have++
				if done {
					ready++
				}
			}
		}
		total += t.Count
		if have > t.Count {
			over = append(over, p.take(have-t.Count, func(e *environment) bool { return e.set.key == t.Key })...)
		} else if have < t.Count {
			t.Count -= have
			missing = append(missing, t)
		}
	}
	old := 0
	for e := range p.live {
		if !want.has(e.set.key) {
			old++
		}
	}
	if surplus := old - max(0, total-ready); surplus > 0 {
		over = append(over, p.take(surplus, func(e *environment) bool { return !want.has(e.set.key) })...)
	}
	return over, missing
}

func (w Provision) has(key lambda.EnvironmentKey) bool {
	for _, t := range w.Targets {
		if t.Key == key {
			return true
		}
	}
	return false
}

// take removes up to n environments from p, those first that are not initialised, then by id: a simulation must be able to
// repeat it. ps.mu is held.
func (p *provision) take(n int, which func(*environment) bool) []*environment {
	var list []*environment
	for e := range p.live {
		if which(e) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *environment) int {
		switch initialised := p.live[a]; {
		case initialised == p.live[b]:
			return cmp.Compare(a.id, b.id)
		case initialised:
			return 1
		default:
			return -1
		}
	})
	list = list[:min(n, len(list))]
	for _, e := range list {
		delete(p.live, e)
	}
	return list
}

// takeOld removes one environment of a key that is no longer wanted.
func (ps *provisions) takeOld(p *provision, want Provision) []*environment {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.take(1, func(e *environment) bool { return !want.has(e.set.key) })
}

// mayStart reports whether one more environment may be started for p now: after a failure one at a time, at its time.
func (ps *provisions) mayStart(p *provision) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.failures > 0 && (p.starting() > 0 || time.Now().Before(p.retry)) {
		return false
	}
	return ps.starting() < maxAhead
}

// startAhead starts one environment; false when no worker has room, also after idle ones have been ended.
func (m *Manager) startAhead(ctx context.Context, p *provision, of *pool, under *tenure, t ProvisionTarget) bool {
	for range roomTries {
		id, w, found := m.drawWorker(t.Version, nil)
		if found {
			err := m.startAheadOn(ctx, p, of, under, t, id, w)
			if err == nil {
				return true
			}
			if errors.Is(err, errMoved) {
				return true
			}
			if !errors.Is(err, lambda.ErrNoCapacity) {
				m.cfg.Log.Warn("an environment could not be provisioned", "account", p.id.Account, "function", p.id.Function,
					"qualifier", p.id.Qualifier, "error", err)
				return true // it counts as failed, and is tried again later
			}
		}
		if _, ok := m.makeRoom(ctx); !ok {
			return false
		}
	}
	return false
}

// startAheadOn registers the environment before the worker knows of it, as startOn does. The tenure is that under which it was
// found missing: starts before this one may have taken seconds, and whose it is under a later one is not known here.
func (m *Manager) startAheadOn(ctx context.Context, p *provision, of *pool, under *tenure, t ProvisionTarget, id lambda.WorkerID, w Worker) error {
	now := time.Now()
	e := &environment{
		id: m.newID(), worker: id, state: starting, pool: of, epoch: under.version, provision: p, bytes: int64(t.Version.MemoryMB) << 20, began: now,
		confirmed: now, timeout: t.Version.Timeout,
	}
	m.register(t.Key, e)
	m.provisions.mu.Lock()
	p.live[e] = false
	m.provisions.mu.Unlock()
	err := errMoved // as for calls: see startOn
	if of.tenure.Load() == under {
		err = w.Start(ctx, lambda.StartRequest{
			Environment: e.id, Owner: m.cfg.ID, Epoch: e.epoch, Pool: of.id, Key: t.Key, Version: t.Version, Ahead: true,
		})
	}
	if err == nil || m.provisions.initialised(p, e) { // the worker's word of it may come before its answer, which may be lost
		e.set.confirm(e, now)
		return nil
	}
	if errors.Is(err, lambda.ErrNoCapacity) || errors.Is(err, errMoved) {
		m.provisions.mu.Lock()
		delete(p.live, e) // not a failure of the function
		m.provisions.mu.Unlock()
	}
	m.drop(e)
	return err
}

// retire ends environments that are over: idle and starting ones now, running ones when their call has ended.
func (m *Manager) retire(ctx context.Context, over []*environment) {
	for _, e := range over {
		if e.set.retire(e) {
			m.spawn(func(ctx context.Context) { m.end(ctx, e) })
		}
	}
}
