// Package cluster simulates a whole cluster in one testing/synctest bubble: the real frontends and managers, a model of the
// worker, and a network between them that loses, delays and doubles messages, while processes crash and come back. All
// randomness comes from one seed. The history of a run is checked against the invariants of the system.
package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"berth/frontend"
	"berth/lambda"
	"berth/manager"
)

// Manager is what the simulator calls of a manager.
type Manager interface {
	frontend.Manager
	Load(ctx context.Context, id lambda.PoolID) lambda.Load
	EnvironmentIdle(id lambda.EnvironmentID, reservation uint64)
	EnvironmentGone(id lambda.EnvironmentID)
	HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error)
	Offer(ctx context.Context, req lambda.OfferRequest) error
	Status() manager.Status
}

// Tamper plants bugs, to test the simulator. A nil function changes nothing.
type Tamper struct {
	Limit   func(limit int) int                 // what managers believe of a pool's limit
	Manager func(m Manager) Manager             // what others see of a manager
	Worker  func(manager.Worker) manager.Worker // what managers see of a worker
}

// Options of a run.
type Options struct {
	Seed   uint64
	Tamper Tamper
}

// shape is what a seed makes of a cluster. Small numbers meet all cases soonest.
type shape struct {
	managers, frontends, workers int
	quota                        int
	limits                       map[lambda.PoolID]int
	functions                    []function
	keepAlive                    func() manager.KeepAlive
	rate                         float64 // calls per second and function
	capacity                     int64   // of a worker, bytes
	startTime                    time.Duration
}

type function struct {
	name    string
	pool    lambda.PoolID
	version *lambda.Version
	mean    time.Duration // of a call
	tenants []string      // whose calls it gets; none without tenant isolation
}

const (
	account        lambda.AccountID        = "000000000001"
	runtimeVersion lambda.RuntimeVersionID = "r1"
)

// Cluster is one run.
type Cluster struct {
	o       Options
	shape   shape
	rng     *rand.Rand // of the script only; not for use by roles
	net     *network
	history *History
	check   *checker
	rings   *rings
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup

	names struct {
		managers []lambda.ManagerID
		workers  []lambda.WorkerID
	}
	managers  map[lambda.ManagerID]*site[Manager]
	workers   map[lambda.WorkerID]*site[*worker]
	frontends []*site[*frontend.Frontend]
	directory directory
	ledger    *ledger
	wishes    *wishes
	failures  float64  // probability that a start fails
	durations sync.Map // request id → time.Duration
}

func newCluster(o Options) *Cluster {
	c := &Cluster{
		o: o, rng: rand.New(rand.NewPCG(o.Seed, 1)), net: newNetwork(o.Seed), history: newHistory(),
		managers: map[lambda.ManagerID]*site[Manager]{}, workers: map[lambda.WorkerID]*site[*worker]{},
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.shape = newShape(c.rng)
	c.shape.addTenants(o.Seed)
	c.check = newChecker(c)
	c.wishes = newWishes(c.rng, c.shape.functions)
	for i := range c.shape.managers + spareManagers {
		c.names.managers = append(c.names.managers, lambda.ManagerID(fmt.Sprintf("m%d", i)))
	}
	c.rings = c.newRings()
	for i := range c.shape.workers {
		id := lambda.WorkerID(fmt.Sprintf("w%d", i))
		c.names.workers = append(c.names.workers, id)
		c.workers[id] = &site[*worker]{name: string(id)}
		c.startWorker(id)
	}
	for _, id := range c.names.managers {
		c.managers[id] = &site[Manager]{name: string(id)}
		c.startManager(id)
	}
	for i := range c.shape.frontends {
		c.frontends = append(c.frontends, &site[*frontend.Frontend]{name: fmt.Sprintf("f%d", i)})
		c.startFrontend(i)
	}
	c.ledger = c.newLedger()
	return c
}

func newShape(rng *rand.Rand) shape {
	s := shape{
		managers: 2 + rng.IntN(4), frontends: 2 + rng.IntN(2), workers: 2 + rng.IntN(4), quota: 1 + rng.IntN(4),
		limits: map[lambda.PoolID]int{{Account: account}: 3 + rng.IntN(10)},
		keepAlive: []func() manager.KeepAlive{
			func() manager.KeepAlive { return manager.Fixed(10 * time.Second) },
			func() manager.KeepAlive { return manager.NewHistogram(manager.DefaultWorth) },
			func() manager.KeepAlive { return manager.NewHistogram(0.5) },
		}[rng.IntN(3)],
		rate:      0.3 + 3*rng.Float64(),
		capacity:  int64(4+rng.IntN(12)) * 128 << 20,
		startTime: time.Duration(1+rng.IntN(1000)) * time.Millisecond,
	}
	for i := range 2 + rng.IntN(2) {
		f := function{name: fmt.Sprintf("f%d", i), pool: lambda.PoolID{Account: account}}
		if i == 1 {
			f.pool.Function = f.name
			s.limits[f.pool] = 1 + rng.IntN(4)
		}
		f.mean = time.Duration(20+rng.IntN(3000)) * time.Millisecond
		f.version = &lambda.Version{
			Account: account, Region: "us-east-1", Function: f.name, Number: lambda.Latest, ConfigID: "c1", State: lambda.Active,
			MemoryMB: 128, Timeout: longestRun,
		}
		s.functions = append(s.functions, f)
	}
	return s
}

// addTenants gives the last function tenants in half of the seeds; the first is the one that may be provisioned. The draws are its
// own, so that the other seeds stay what they were.
func (s *shape) addTenants(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 4))
	if rng.IntN(2) == 0 {
		f := &s.functions[len(s.functions)-1]
		f.version.PerTenant = true
		f.tenants = []string{"t0", "t1", "t2"}[:2+rng.IntN(2)]
	}
}

// newProcess begins a life at a site. Its background work starts at an instant of its own, so that no two tickers ever meet.
func newProcess[R any](c *Cluster, s *site[R], make func(*process) R, background ...func(R, context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &process{name: s.name}
	if s.now != nil {
		p.life = s.now.life + 1
	}
	p.ctx, p.crash = context.WithCancel(c.ctx)
	role := make(p)
	s.now, s.role = p, role
	for i, run := range background {
		c.wg.Go(func() {
			c.net.sleep(time.Duration(hash(c.o.Seed, fmt.Sprint(p.name, p.life, i)) % 1e9))
			run(role, p.ctx)
		})
	}
}

// crashSite ends the life at a site: its role forgets everything, and what it was doing stops.
func crashSite[R any](c *Cluster, s *site[R]) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || s.now.dead() {
		return false
	}
	s.now.died = time.Now()
	s.now.crash()
	c.history.note("crash", s.name, "", uint64(s.now.life))
	return true
}

// source is a random source of one life of a role, for many goroutines.
type source struct {
	mu  sync.Mutex
	pcg *rand.PCG
}

func (c *Cluster) source(p *process) rand.Source {
	return &source{pcg: rand.NewPCG(hash(c.o.Seed, p.name), uint64(p.life))}
}

func (s *source) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pcg.Uint64()
}

// instants is a random source that gives the same number for all of one instant. Calls of one frontend that wait for the same
// answer of the others go on at one instant and in any order: whichever draws first, they draw the same.
type instants struct {
	seed uint64
	mu   sync.Mutex
	last time.Time
	n    uint64 // numbers given at that instant
}

// repeats is how often a number is given: who does not like it, as rand does not one of a billion, must get another in the end.
const repeats = 1000

func (c *Cluster) instants(p *process) rand.Source {
	return &instants{seed: hash(c.o.Seed, fmt.Sprint(p.name, p.life))}
}

func (s *instants) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !now.Equal(s.last) {
		s.last, s.n = now, 0
	}
	s.n++
	return hash(s.seed^uint64(now.UnixNano())+s.n/repeats, "")
}

// ownInstant waits until an instant that nobody else has who woke at the same event: which it is depends on the call that is
// answered, not on the order in which goroutines run.
func (c *Cluster) ownInstant(ctx context.Context) {
	c.net.sleep(time.Duration(1 + hash(c.o.Seed^uint64(time.Now().UnixNano()), requestOf(ctx))%uint64(wakingTime)))
}

// wakingTime is in what time all go on that woke at one event.
const wakingTime = 100 * time.Microsecond

func (c *Cluster) startWorker(id lambda.WorkerID) {
	newProcess(c, c.workers[id], func(p *process) *worker {
		return newWorker(c, p, c.shape.capacity)
	}, func(w *worker, ctx context.Context) { w.tend(ctx) }, func(w *worker, ctx context.Context) { w.heartbeat(ctx) })
}

func (c *Cluster) startManager(id lambda.ManagerID) {
	newProcess(c, c.managers[id], func(p *process) Manager {
		var m Manager = manager.New(manager.Config{
			ID: id, Workers: workersOf{c, p}, Rings: c.rings.feed(p.name), Managers: peersOfManager{c, p}.find, Limit: c.believedLimit,
			Reachable: func(ctx context.Context, other lambda.ManagerID) bool { return c.reachable(ctx, p, other) },
			Current:   c.current, Provisions: c.provisions,
			KeepAlive: c.shape.keepAlive(),
			Woken:     c.ownInstant,
			Rand:      c.source(p),
			Log:       slog.New(slog.DiscardHandler),
		})
		return m
	}, func(m Manager, ctx context.Context) { m.(*manager.Manager).Run(ctx) })
	if wrap := c.o.Tamper.Manager; wrap != nil {
		s := c.managers[id]
		s.mu.Lock()
		s.role = wrap(s.role)
		s.mu.Unlock()
	}
}

func (c *Cluster) startFrontend(i int) {
	newProcess(c, c.frontends[i], func(p *process) *frontend.Frontend {
		return frontend.New(frontend.Config{
			Catalog: c, Rings: c.rings.feed(p.name), Limit: c.limit, Rand: c.instants(p), Peers: peersOf{c, p, i},
			Manager: func(id lambda.ManagerID) (frontend.Manager, bool) { return managerOf{c, p, c.managers[id]}, true },
			Worker:  func(id lambda.WorkerID) (frontend.Worker, bool) { return workerOf{c, p, c.workers[id]}, true },
			RuntimeVersion: func(*lambda.Version) (lambda.RuntimeVersionID, error) {
				return runtimeVersion, nil
			},
		})
	}, func(f *frontend.Frontend, ctx context.Context) { f.Run(ctx) })
}

func (c *Cluster) limit(id lambda.PoolID) int { return c.shape.limits[id] }

func (c *Cluster) believedLimit(id lambda.PoolID) int {
	if f := c.o.Tamper.Limit; f != nil {
		return f(c.limit(id))
	}
	return c.limit(id)
}
