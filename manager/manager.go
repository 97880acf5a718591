// Package manager knows the environments of its share of the pools: which are idle and which are reserved or running. It
// admits or throttles by its quota, hands idle environments out, asks workers for new ones, and ends those nobody needs.
package manager

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"berth/lambda"
	"berth/placement"
	"berth/ring"
)

// Worker makes and ends environments.
type Worker interface {
	// Start registers a new environment, reserved with number 1, and returns before it is initialised. Errors:
	// lambda.ErrNoCapacity, lambda.ErrUnreachable.
	Start(ctx context.Context, req lambda.StartRequest) error
	// Renew extends the lease on environments, and says which are idle or gone although their manager may believe otherwise.
	// Error: lambda.ErrUnreachable.
	Renew(ctx context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error)
	// Adopt takes over environments of an owner that is lost. Error: lambda.ErrUnreachable.
	Adopt(ctx context.Context, req lambda.AdoptRequest) (lambda.AdoptAnswer, error)
	// End ends an environment; when it returns its memory is free.
	End(ctx context.Context, env lambda.EnvironmentID) error
}

// Workers knows the living workers.
type Workers interface {
	// Candidates describes them for the placement of an environment of version v.
	Candidates(v *lambda.Version) []placement.Worker
	// All lists them, whatever runs there.
	All() []lambda.WorkerID
	Worker(id lambda.WorkerID) (Worker, bool)
}

// Peer is another manager.
type Peer interface {
	// HandOver asks for what the peer held of pools that are the caller's now. Error: lambda.ErrUnreachable.
	HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error)
	// Offer tells the peer that there is something to ask for. Error: lambda.ErrUnreachable.
	Offer(ctx context.Context, req lambda.OfferRequest) error
}

// Limits of time. See Config to change them.
const (
	DefaultReservationLimit = 5 * time.Second // an unused reservation is given back after this
	DefaultRoomLimit        = 2 * time.Second // how long a call waits for memory on a worker before it is throttled
	// DefaultHandOffLimit is for the answers of living managers, and of workers in place of a lost one.
	DefaultHandOffLimit = 50 * time.Millisecond
	sweepInterval       = time.Second
	evictionTries       = 64 // idle environments ended to make room for one new environment
	tenureTries         = 8  // of one request, under the tenures that follow one another meanwhile
	renewalsPerLease    = 4  // so that three may be lost in a row
	endLimit            = 4500 * time.Millisecond
)

// Config of a Manager. Zero durations take the defaults.
type Config struct {
	ID      lambda.ManagerID
	Workers Workers
	// Rings tells the newest ring and the earlier ones that are kept. It is asked again when its channel is closed.
	Rings ring.Source
	// Managers finds the living other managers; nil when there never are any.
	Managers func(lambda.ManagerID) (Peer, bool)
	// Limit returns a pool's limit on running executions as the catalog has it now.
	Limit func(lambda.PoolID) int
	// Reachable reports whether another manager answers; it has a time limit of its own. Only asked when a frontend says
	// that it does not.
	Reachable func(context.Context, lambda.ManagerID) bool
	// Current reports whether a key can still be asked for: its function exists and has not changed. Environments of other
	// keys are ended when idle.
	Current func(lambda.EnvironmentKey) bool
	// Provisions returns what is to be made ahead and kept, of all pools; nil for nothing.
	Provisions       func() []Provision
	KeepAlive        KeepAlive // of environments that are not provisioned; nil is NewHistogram(DefaultWorth)
	ReservationLimit time.Duration
	RoomLimit        time.Duration // negative: a call does not wait for room
	HandOffLimit     time.Duration // how long a call waits for what the manager's predecessors hold of its pool
	Lease            time.Duration // the workers' lambda.OwnerLease
	// Woken is called by whoever has waited for one event together with others, before it goes on; nil does nothing. They all
	// wake at that event, in any order. A simulation, which must not depend on it, gives each an instant of its own.
	Woken func(context.Context)
	// Rand draws workers and environments' ids. It must be safe for concurrent use; nil is the runtime's own source.
	Rand rand.Source
	Log  *slog.Logger
}

// Manager keeps one set of environments per environment key. Locks are per set: calls of different functions never wait
// for one another; what they share is one atomic counter per pool.
type Manager struct {
	cfg           Config
	pools         sync.Map // lambda.PoolID → *pool
	sets          sync.Map // lambda.EnvironmentKey → *set
	isolated      sync.Map // functionID → *isolated
	environments  sync.Map // lambda.EnvironmentID → *environment
	provisions    *provisions
	room          room
	records       sync.Map     // lambda.EnvironmentKey without ConfigID and Runtime → *record
	crowded       bool         // there are more records than maxRecords; the sweep's own
	warming       atomic.Int64 // environments that the policy is making ahead of calls
	rng           *rand.Rand
	lost          sync.Map // lostOwner → struct{}: nothing of it is left on any worker
	recovered     atomic.Pointer[chan struct{}]
	offering      atomic.Bool
	announcements announcements
	leaving       sync.Map      // lambda.WorkerID → struct{}: see Leave
	doubted       sync.Map      // lambda.WorkerID → struct{}: being asked whether it is there
	followed      atomic.Uint64 // the ring version under which all pools have a tenure
	settled       atomic.Uint64 // see Settled

	life       context.Context // ends with Run
	stop       context.CancelFunc
	mu         sync.Mutex
	stopped    bool           // Run is ending: nothing more in the background
	background sync.WaitGroup // calls of workers and other managers
}

// New makes a manager without environments.
func New(cfg Config) *Manager {
	if cfg.KeepAlive == nil {
		cfg.KeepAlive = NewHistogram(DefaultWorth)
	}
	if cfg.ReservationLimit == 0 {
		cfg.ReservationLimit = DefaultReservationLimit
	}
	if cfg.RoomLimit == 0 {
		cfg.RoomLimit = DefaultRoomLimit
	}
	if cfg.HandOffLimit == 0 {
		cfg.HandOffLimit = DefaultHandOffLimit
	}
	if cfg.Lease == 0 {
		cfg.Lease = lambda.OwnerLease
	}
	if cfg.Woken == nil {
		cfg.Woken = func(context.Context) {}
	}
	if cfg.Rand == nil {
		cfg.Rand = runtimeSource{}
	}
	m := &Manager{cfg: cfg, rng: rand.New(cfg.Rand), provisions: newProvisions()}
	m.life, m.stop = context.WithCancel(context.Background())
	return m
}

// runtimeSource is the runtime's random generator, which is safe for concurrent use.
type runtimeSource struct{}

func (runtimeSource) Uint64() uint64 { return rand.Uint64() }

// Run looks after leases, expired reservations and idle environments, and moves what becomes another manager's, until ctx ends.
// The environments themselves end one lease later, unless Run goes on in time. A manager runs once.
func (m *Manager) Run(ctx context.Context) error {
	defer m.halt()
	recovered := make(chan struct{})
	m.recovered.Store(&recovered)
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { m.keepRecovering(ctx, recovered) })
	parts.Go(func() { m.keepProvisioned(ctx) })
	parts.Go(func() { m.followRings(ctx) })
	tick := time.NewTicker(min(sweepInterval, m.cfg.ReservationLimit/4))
	defer tick.Stop()
	var renewed time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			all := now.Sub(renewed) >= m.cfg.Lease/renewalsPerLease
			if all {
				renewed = now
			}
			m.renew(ctx, now, all)
			m.sweep(ctx, now)
			m.offerAll(now)
		}
	}
}

// spawn runs f in the background, with a context that ends with Run; not once Run is ending.
func (m *Manager) spawn(f func(context.Context)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.stopped {
		m.background.Go(func() { f(m.life) })
	}
}

// halt ends what runs in the background, and waits for it.
func (m *Manager) halt() {
	m.stop()
	m.mu.Lock()
	m.stopped = true
	m.mu.Unlock()
	m.background.Wait()
}

// Acquire decides on a request. Within its quota of the pool it reserves an idle environment of the request's key, the most
// recently used first so that the others can end, or else a new one. When no worker has room it waits for some, up to
// Config.RoomLimit. Under a ring that is new to the pool it first gets what its predecessors hold. An error means that a start
// failed; nothing runs. What is granted to a caller that has left, as the end of ctx tells, is given back with the next sweep.
func (m *Manager) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	answer, err := m.acquire(ctx, req)
	if answer.Verdict == lambda.Granted && ctx.Err() != nil {
		m.abandon(&answer.Reservation)
	}
	return answer, err
}

// abandon lets a reservation that nobody will use expire now. The worker decides: one that is used all the same stays.
func (m *Manager) abandon(r *lambda.Reservation) {
	if v, ok := m.environments.Load(r.Environment); ok {
		e := v.(*environment)
		e.set.expire(e, r.Number, time.Now())
	}
}

func (m *Manager) acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	p := m.pool(req.Pool)
	for _, id := range req.Avoid {
		m.doubt(id)
	}
	for range tenureTries {
		t := p.tenure.Load()
		if t == nil || t.version != req.Ring || !t.settled.Load() {
			var moved uint64
			if t, moved = m.enter(ctx, p, &req); moved != 0 {
				return lambda.Answer{Verdict: lambda.Moved, Ring: moved}, nil
			}
			if answer, ok := m.inKept(ctx, p, t, req); ok {
				return answer, nil
			}
		}
		if answer, err := m.decide(ctx, p, t, req); answer.Verdict != lambda.Moved {
			return answer, err
		}
	}
	return lambda.Answer{Verdict: lambda.Moved, Ring: p.tenure.Load().version}, nil
}

// inKept reserves an idle environment in the slots that the manager kept from earlier rings: what suffices needs no
// predecessor. Else it waits for the others.
func (m *Manager) inKept(ctx context.Context, p *pool, t *tenure, req lambda.AcquireRequest) (lambda.Answer, bool) {
	if t.settled.Load() {
		return lambda.Answer{}, false
	}
	if t.kept.count() > 0 {
		req.ReuseOnly = true
		if answer, _ := m.try(ctx, p, t, req); answer.Verdict == lambda.Granted {
			return answer, true
		}
	}
	m.awaitSlots(ctx, p, t)
	return lambda.Answer{}, false
}

// decide is Acquire under one tenure: Moved when that ends meanwhile.
func (m *Manager) decide(ctx context.Context, p *pool, t *tenure, req lambda.AcquireRequest) (lambda.Answer, error) {
	answer, err := m.try(ctx, p, t, req)
	if answer.Verdict != lambda.Full || err != nil || m.cfg.RoomLimit < 0 {
		return answer, err
	}
	waiting, cancel := context.WithTimeout(ctx, m.cfg.RoomLimit) // for the waits only: what has begun on a worker goes on
	defer cancel()
	for answer.Verdict == lambda.Full && err == nil {
		changed := m.room.wait() // before trying, so that no change is missed
		if answer, err = m.try(ctx, p, t, req); answer.Verdict == lambda.Full && !m.waitFor(waiting, changed) {
			break
		}
	}
	return answer, err
}

func (m *Manager) try(ctx context.Context, p *pool, t *tenure, req lambda.AcquireRequest) (lambda.Answer, error) {
	quota := m.quota(ctx, p, t, req.Unreachable)
	load := p.load(quota) // before the decision: see lambda.Load.Released
	now := time.Now()
	expires := now.Add(m.cfg.ReservationLimit)
	s, ok := m.sets.Load(req.Key)
	if req.Key.Tenant != "" && !m.isolatedOf(req.Key).fair.mayRun(m, req.Key, quota, load.Running, false, now) {
		return lambda.Answer{Verdict: lambda.Throttled, Load: load}, nil
	}
	if ok {
		switch e, number, verdict := s.(*set).take(p, t, quota, now, expires, req.Avoid); verdict {
		case lambda.Granted:
			m.served(req.Key)
			if e.record != nil && !e.record.known.Load() { // it was handed over: now it is known what to ask a worker for
				m.record(req, now)
			}
			return granted(e, number, expires, false, load), nil
		case lambda.Throttled:
			m.refused(req.Key, aSlot, quota, now)
			return lambda.Answer{Verdict: verdict, Load: load}, nil
		case lambda.Moved:
			return lambda.Answer{Verdict: verdict, Load: load}, nil
		}
	}
	if req.ReuseOnly {
		if load.Running >= quota {
			return lambda.Answer{Verdict: lambda.Throttled, Load: load}, nil
		}
		return lambda.Answer{Verdict: lambda.Miss, Load: load}, nil
	}
	if req.Key.Tenant == "" {
		return m.acquireNew(ctx, p, t, req, quota, load, expires)
	}
	return m.acquireForTenant(ctx, p, t, req, quota, load, expires)
}

func (m *Manager) acquireNew(ctx context.Context, p *pool, t *tenure, req lambda.AcquireRequest, quota int, load lambda.Load, expires time.Time) (lambda.Answer, error) {
	if !p.admit(quota) {
		return lambda.Answer{Verdict: lambda.Throttled, Load: load}, nil
	}
	e, refused, err := m.start(ctx, p, t, req, quota, expires)
	if e == nil {
		return lambda.Answer{Verdict: refused, Load: load}, err
	}
	return granted(e, firstReservation, expires, true, load), nil
}

func granted(e *environment, number uint64, expires time.Time, cold bool, load lambda.Load) lambda.Answer {
	if e.provision == nil {
		load.Running++
	}
	return lambda.Answer{Verdict: lambda.Granted, Load: load, Reservation: lambda.Reservation{
		Environment: e.id, Worker: e.worker, Number: number, Expires: expires, Cold: cold,
	}}
}

// register puts an environment into the set of its key, making the set if it is not there.
func (m *Manager) register(key lambda.EnvironmentKey, e *environment) {
	for {
		v, ok := m.sets.Load(key)
		if !ok {
			v, _ = m.sets.LoadOrStore(key, &set{key: key, isolated: m.isolatedOf(key)})
		}
		e.set = v.(*set)
		if e.set.add(e) {
			e.set.isolated.count(1)
			m.environments.Store(e.id, e)
			e.set.enlist(e)
			return
		}
		// The set was dropped between the look-up and add: its place in the map is free again.
		m.sets.CompareAndDelete(key, v)
	}
}

// forget drops an environment that is gone: its memory is free.
func (m *Manager) forget(e *environment) {
	if m.drop(e) {
		m.room.changed()
	}
}

// drop takes an environment off the books, and its set when that was the last one; false when it was not there.
func (m *Manager) drop(e *environment) bool {
	if !m.environments.CompareAndDelete(e.id, e) { // it may be known as one that was bound to a tenant since
		return false
	}
	e.set.isolated.count(-1)
	if e.set.remove(e) {
		m.sets.CompareAndDelete(e.set.key, e.set)
	}
	if e.provision != nil {
		m.provisions.gone(e.provision, e)
	}
	return true
}

// EnvironmentIdle is the worker's word that an environment can take the next invocation, since the given reservation is
// over. A word about an older reservation, late or told twice, means nothing.
func (m *Manager) EnvironmentIdle(id lambda.EnvironmentID, reservation uint64) {
	if v, ok := m.environments.Load(id); ok {
		e := v.(*environment)
		if e.set.put(e, reservation, time.Now()) {
			m.provisions.end(e)
		}
		if e.provision != nil {
			m.provisions.ready(e.provision, e)
		}
		m.room.changed()
	}
}

// EnvironmentGone is the worker's word that an environment has ended.
func (m *Manager) EnvironmentGone(id lambda.EnvironmentID) {
	if v, ok := m.environments.Load(id); ok {
		m.forget(v.(*environment))
	}
}

// Load reports this manager's share of a pool.
func (m *Manager) Load(ctx context.Context, id lambda.PoolID) lambda.Load {
	p := m.pool(id)
	t := p.tenure.Load()
	if t == nil {
		t = &tenure{}
	}
	return p.load(m.quota(ctx, p, t, nil))
}
