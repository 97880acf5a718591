package acceptance_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"berth/catalog"
	"berth/frontend"
	"berth/lambda"
	"berth/manager"
	"berth/placement"
	"berth/ring"
	"berth/wire"
)

// cluster is several frontends and managers, and one worker whose environments are scripted.
type cluster struct {
	t        *testing.T
	wiring   wiring
	client   *wire.Client
	calls    sync.Map      // request id → *call
	history  *ring.History // the newest
	feeds    []*ring.Feed  // of the managers and frontends
	running  context.Context
	roles    sync.WaitGroup
	limits   sync.Map // lambda.PoolID → int
	managers map[lambda.ManagerID]*tapped

	managersMu sync.Mutex // of managers, for tests that add some while calls run
	frontends  []*frontend.Frontend
	peers      []*peers
	worker     *worker
	timeline   record[string]

	handed record[handOver]
	late   atomic.Int64          // answers of living managers that came too late, over sockets: see lateEdge
	edit   func(*manager.Config) // of every manager

	provisioned bool // function "f" has environments made ahead
}

type options struct {
	managers, frontends int
	quota, limit        int
	frontend            func(*frontend.Config)
	manager             func(*manager.Config)
}

// account is the caller of every test; function "f" is in its unreserved pool.
const account lambda.AccountID = "000000000001"

var unreserved = lambda.PoolID{Account: account}

func newCluster(t *testing.T, w wiring, o options) *cluster {
	t.Helper()
	c := &cluster{t: t, wiring: w, managers: map[lambda.ManagerID]*tapped{}}
	c.edit = o.manager
	c.worker = &worker{c: c, live: map[lambda.EnvironmentID]*running{}}
	if w.http {
		c.client = wire.NewClient(token, nil)
		t.Cleanup(c.client.Close)
		c.worker.edge = wire.NewWorker(c.client, c.listen(wire.NewHandler(token, nil, c.worker)).addr)
	}
	c.setLimit(unreserved, o.limit)
	var ids []lambda.ManagerID
	for i := range max(1, o.managers) {
		ids = append(ids, lambda.ManagerID(fmt.Sprintf("manager-%d", i)))
	}
	c.setRing(o.quota, ids)
	for _, id := range ids {
		c.addManager(id, o.manager)
	}
	for range max(1, o.frontends) {
		c.addFrontend(o.frontend)
	}
	t.Cleanup(c.worker.endAll) // before the edges close
	return c
}

func (c *cluster) setRing(quota int, ids []lambda.ManagerID) {
	c.t.Helper()
	r, err := ring.New(1, quota, ids)
	if err != nil {
		c.t.Fatal(err)
	}
	c.history = &ring.History{Current: r}
}

// feed is how one role learns of rings.
func (c *cluster) feed() *ring.Feed {
	f := &ring.Feed{}
	f.Set(c.history)
	c.feeds = append(c.feeds, f)
	return f
}

func (c *cluster) setLimit(id lambda.PoolID, limit int) { c.limits.Store(id, limit) }

func (c *cluster) limit(id lambda.PoolID) int {
	if v, ok := c.limits.Load(id); ok {
		return v.(int)
	}
	return 0
}

func (c *cluster) addManager(id lambda.ManagerID, edit func(*manager.Config)) {
	feed := c.feed()
	cfg := manager.Config{
		ID: id, Workers: c.worker, Rings: feed.Get, Managers: c.peer, Limit: c.limit,
		Reachable: func(_ context.Context, other lambda.ManagerID) bool {
			m, ok := c.manager(other)
			return ok && m.alive()
		},
		Current: func(lambda.EnvironmentKey) bool { return true },
		Log:     slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(&cfg)
	}
	m := &tapped{id: id, c: c, feed: feed, m: manager.New(cfg)}
	m.ctx, m.stop = context.WithCancel(context.Background())
	c.t.Cleanup(m.stop)
	c.managersMu.Lock()
	c.managers[id] = m
	c.managersMu.Unlock()
	if c.wiring.http {
		m.host = c.listen(wire.NewHandler(token, m, nil))
		m.edge = wire.NewManager(c.client, m.host.addr)
	}
}

func (c *cluster) addFrontend(edit func(*frontend.Config)) *frontend.Frontend {
	p := &peers{c: c, self: len(c.frontends)}
	cfg := frontend.Config{
		Catalog: c, Rings: c.feed().Get, Limit: c.limit, Peers: p,
		Manager: func(id lambda.ManagerID) (frontend.Manager, bool) {
			m, ok := c.manager(id)
			if ok && m.edge != nil {
				return lateEdge{m.edge, m}, true
			}
			return m, ok
		},
		Worker: func(lambda.WorkerID) (frontend.Worker, bool) {
			if c.worker.edge != nil {
				return c.worker.edge, true
			}
			return c.worker, true
		},
		RuntimeVersion: func(*lambda.Version) (lambda.RuntimeVersionID, error) {
			return "r1", nil
		},
		CoolDown:     c.wiring.d(frontend.DefaultCoolDown),
		ShrinkWindow: c.wiring.d(frontend.DefaultShrinkWindow),
		ReuseBudget:  time.Hour, // draws end by their number unless a test is about time
	}
	if edit != nil {
		edit(&cfg)
	}
	f := frontend.New(cfg)
	c.frontends = append(c.frontends, f)
	c.peers = append(c.peers, p)
	return f
}

// Resolve knows every function; one that has a limit has a pool of its own, and one whose name begins with "isolated" has tenants.
func (c *cluster) Resolve(ref lambda.Ref) (catalog.Target, error) {
	target := catalog.Target{
		Version: &lambda.Version{
			Account: ref.Account, Function: ref.Function, Number: lambda.Latest, ConfigID: "c1", State: lambda.Active, MemoryMB: 128,
		},
		Pool:       lambda.PoolID{Account: ref.Account},
		InvokedARN: ref.ARN(),
	}
	target.Provisioned = c.provisioned
	target.Version.PerTenant = strings.HasPrefix(ref.Function, "isolated")
	if _, own := c.limits.Load(lambda.PoolID{Account: ref.Account, Function: ref.Function}); own {
		target.Pool.Function = ref.Function
	}
	return target, nil
}

// start starts the frontends' and managers' background work; the returned function stops it and waits.
func (c *cluster) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c.running = ctx
	for _, f := range c.frontends {
		c.roles.Go(func() { f.Run(ctx) })
	}
	for _, m := range c.managers {
		c.run(m)
	}
	return func() { cancel(); c.roles.Wait() }
}

// run runs a manager until everything is stopped, or it is killed.
func (c *cluster) run(m *tapped) {
	context.AfterFunc(c.running, m.stop)
	c.roles.Go(func() { m.m.Run(m.ctx) })
}

// size returns |S| of the unreserved pool as frontend i sees it.
func (c *cluster) size(i int) int { _, size := c.frontends[i].Load(unreserved); return size }

// current returns the newest ring.
func (c *cluster) current() *ring.Ring { return c.history.Current }

// order returns the managers in the unreserved pool's order.
func (c *cluster) order() []lambda.ManagerID {
	r := c.current()
	return r.Managers(unreserved, r.Len(), nil)
}

// call is one invocation under way.
type call struct {
	started     chan struct{}
	environment atomic.Value // lambda.EnvironmentID, once started
	done        chan struct{}
	outcome     *lambda.Outcome
	err         error
}

// begin starts an invocation of function on frontend i and returns when it runs, or has been refused.
func (c *cluster) begin(i int, function string) *call {
	c.t.Helper()
	return c.beginAs(i, function, "")
}

// beginAs is begin for a tenant.
func (c *cluster) beginAs(i int, function, tenant string) *call {
	c.t.Helper()
	k := &call{started: make(chan struct{}), done: make(chan struct{})}
	inv := &lambda.Invocation{RequestID: uuid.NewString(), Tenant: tenant}
	c.calls.Store(inv.RequestID, k)
	go func() {
		defer close(k.done)
		ref := lambda.Ref{Account: account, Region: "us-east-1", Function: function}
		k.outcome, k.err = c.frontends[i].Invoke(context.Background(), ref, inv)
	}()
	select {
	case <-k.started:
	case <-k.done:
	case <-time.After(patience):
		c.t.Fatalf("an invocation neither started nor ended within %v", patience)
	}
	return k
}

// mustBegin is begin for calls that must be admitted.
func (c *cluster) mustBegin(i int, function string) *call {
	c.t.Helper()
	k := c.begin(i, function)
	select {
	case <-k.done:
		c.t.Fatalf("a call of %s was refused: %v", function, k.err)
	default:
	}
	return k
}

func (c *cluster) mustBeginN(n, i int, function string) {
	c.t.Helper()
	for range n {
		c.mustBegin(i, function)
	}
}

// wantThrottled begins a call that must get 429 with the given reason.
func (c *cluster) wantThrottled(i int, function, reason string) {
	c.t.Helper()
	k := c.begin(i, function)
	select {
	case <-k.done:
	default:
		c.t.Fatalf("a call of %s was admitted above the limit; %d run", function, c.worker.count())
	}
	e, ok := k.err.(*lambda.Error)
	if !ok || e.Code != lambda.TooManyRequests || e.Reason != reason {
		c.t.Fatalf("error = %v, want TooManyRequests with %s", k.err, reason)
	}
}

// running is one environment of the scripted worker.
type running struct {
	key    lambda.EnvironmentKey
	pool   lambda.PoolID
	owner  lambda.ManagerID
	epoch  uint64
	owners []lambda.ManagerID // all that ever were
	number uint64             // of the last reservation that was used or given back
	finish chan struct{}      // nil while idle
	call   *call
}

// worker runs calls until the test ends them.
type worker struct {
	c    *cluster
	edge *wire.Worker // how others reach it, when not directly
	mu   sync.Mutex
	live map[lambda.EnvironmentID]*running
	made int
	room int // environments that it has room for; 0 is no bound
	most int // most calls that ever ran at once
	now  int
}

func (w *worker) Candidates(*lambda.Version) []placement.Worker {
	return []placement.Worker{{ID: "w", FreeBytes: 1 << 50}}
}
func (w *worker) All() []lambda.WorkerID { return []lambda.WorkerID{"w"} }

func (w *worker) Worker(lambda.WorkerID) (manager.Worker, bool) {
	if w.edge != nil {
		return w.edge, true
	}
	return w, true
}

func (w *worker) Start(_ context.Context, req lambda.StartRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.room > 0 && len(w.live) >= w.room {
		return lambda.ErrNoCapacity
	}
	w.made++
	w.live[req.Environment] = &running{key: req.Key, pool: req.Pool, owner: req.Owner, epoch: req.Epoch, owners: []lambda.ManagerID{req.Owner}}
	w.c.timeline.add("start " + string(req.Owner))
	if req.Ahead {
		m, _ := w.c.manager(req.Owner)
		go m.edgeIdle(req.Environment, 0)
	}
	return nil
}

func (w *worker) Renew(_ context.Context, req lambda.RenewRequest) (answer lambda.RenewAnswer, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range req.Holdings {
		switch e := w.live[h.Environment]; {
		case e == nil, !e.renew(req.Owner, h.Epoch):
			answer.Gone = append(answer.Gone, h.Environment)
		case e.finish != nil:
		case h.GiveBack:
			e.number = h.Reservation
			answer.Idle = append(answer.Idle, h.Environment)
		case e.number >= h.Reservation:
			answer.Idle = append(answer.Idle, h.Environment)
		}
	}
	return answer, nil
}

func (w *worker) End(_ context.Context, id lambda.EnvironmentID) error {
	w.mu.Lock()
	e := w.live[id]
	delete(w.live, id)
	w.mu.Unlock()
	if e != nil {
		m, _ := w.c.manager(e.owner)
		m.m.EnvironmentGone(id)
	}
	return nil
}

// Prepare completes the role for the wire.
func (w *worker) Prepare(context.Context, *lambda.Version) error { return nil }

func (w *worker) Invoke(_ context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	w.mu.Lock()
	e := w.live[r.Environment]
	if e == nil {
		w.mu.Unlock()
		return nil, lambda.ErrUnknownEnvironment
	}
	if e.finish != nil {
		w.mu.Unlock()
		w.c.t.Errorf("I1: environment %s was given two calls at once", r.Environment)
		return nil, lambda.ErrUnknownEnvironment
	}
	v, _ := w.c.calls.Load(inv.RequestID)
	k := v.(*call)
	finish := make(chan struct{})
	bound, its := lambda.Bind(e.key.Tenant, inv.Tenant)
	if !its {
		w.c.t.Errorf("I2: environment %s of tenant %q was given a call of tenant %q", r.Environment, e.key.Tenant, inv.Tenant)
	}
	e.key.Tenant = bound
	if r.Number <= e.number {
		w.c.t.Errorf("I1: reservation %d of environment %s was used twice", r.Number, r.Environment)
	}
	e.finish, e.call, e.number = finish, k, r.Number
	w.now++
	w.most = max(w.most, w.now)
	w.mu.Unlock()
	k.environment.Store(r.Environment)
	close(k.started)
	<-finish
	return &lambda.Outcome{Payload: []byte(r.Environment)}, nil
}

// end lets n running calls of the given manager ("" for any) return, tells their managers, and waits for the callers.
func (w *worker) end(n int, owner lambda.ManagerID) {
	w.c.t.Helper()
	w.mu.Lock()
	ended := map[lambda.EnvironmentID]running{} // as they were: a renewal may say that they are idle, before edgeIdle does
	for id, e := range w.live {
		if len(ended) < n && e.finish != nil && (owner == "" || e.owner == owner) {
			close(e.finish)
			e.finish = nil
			w.now--
			ended[id] = *e
		}
	}
	w.mu.Unlock()
	for id, e := range ended {
		m, _ := w.c.manager(e.owner)
		m.edgeIdle(id, e.number)
		<-e.call.done
	}
	if len(ended) < n {
		w.c.t.Fatalf("only %d calls were running, not %d", len(ended), n)
	}
}

// endAll lets every running call return.
func (w *worker) endAll() { w.c.t.Helper(); w.end(w.count(), "") }

func (w *worker) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *worker) countOf(owner lambda.ManagerID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.live {
		if e.finish != nil && e.owner == owner {
			n++
		}
	}
	return n
}

// tapped is a manager whose answers a test can watch, delay, replace, or cut off.
type tapped struct {
	id     lambda.ManagerID
	c      *cluster
	m      *manager.Manager
	edge   *wire.Manager // how others reach it, when not directly
	host   *host         // where it listens, when others do not reach it directly
	dead   atomic.Bool
	silent atomic.Bool // does not answer hand-overs
	tap    atomic.Pointer[func(lambda.AcquireRequest, lambda.Answer) lambda.Answer]
	feed   *ring.Feed
	ctx    context.Context // of its Run
	stop   context.CancelFunc
	hold   atomic.Int64 // nanoseconds by which each answer is late
}

func (m *tapped) alive() bool { return !m.dead.Load() }

// die ends the manager as SIGKILL does: whoever waits for an answer of it waits in vain, and nobody reaches it any more.
func (m *tapped) die() {
	m.dead.Store(true)
	if m.host != nil {
		m.host.kill()
	}
}

func (m *tapped) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	if m.dead.Load() {
		return lambda.Answer{}, lambda.ErrUnreachable
	}
	kind := "create"
	if req.ReuseOnly {
		kind = "reuse"
	}
	m.c.timeline.add(kind + " " + string(m.id))
	if d := m.hold.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
	answer, err := m.m.Acquire(ctx, req)
	if tap := m.tap.Load(); tap != nil && err == nil {
		answer = (*tap)(req, answer)
	}
	if m.dead.Load() { // over sockets this goes nowhere
		return lambda.Answer{}, lambda.ErrUnreachable
	}
	return answer, err
}

// EnvironmentIdle, EnvironmentGone and Provisioned complete the role for the wire.
func (m *tapped) EnvironmentIdle(id lambda.EnvironmentID, n uint64) { m.m.EnvironmentIdle(id, n) }
func (m *tapped) EnvironmentGone(id lambda.EnvironmentID)           { m.m.EnvironmentGone(id) }
func (m *tapped) Provisioned(ctx context.Context, req lambda.ProvisionedRequest) (lambda.ProvisionedAnswer, error) {
	return m.m.Provisioned(ctx, req)
}

// edgeIdle is the worker's word, by the way that the cluster is wired.
func (m *tapped) edgeIdle(id lambda.EnvironmentID, n uint64) {
	if m.edge == nil {
		m.m.EnvironmentIdle(id, n)
	} else if err := m.edge.Notify(context.Background(), []wire.Notice{{Environment: id, Reservation: n}}); err != nil && m.alive() {
		m.c.t.Errorf("telling %s that an environment is idle: %v", m.id, err)
	}
}

func (m *tapped) setTap(tap func(lambda.AcquireRequest, lambda.Answer) lambda.Answer) {
	m.tap.Store(&tap)
}

// peers connects one frontend with the others; a test can replace what they say.
type peers struct {
	c       *cluster
	self    int
	script  func(ctx context.Context) frontend.PeerLoad
	queries atomic.Int64
	now     atomic.Int64
	most    atomic.Int64
}

func (p *peers) PoolLoad(ctx context.Context, id lambda.PoolID) frontend.PeerLoad {
	p.queries.Add(1)
	p.most.Store(max(p.most.Load(), p.now.Add(1)))
	defer p.now.Add(-1)
	p.c.timeline.add("query")
	if p.script != nil {
		return p.script(ctx)
	}
	return p.sum(id)
}

// sum asks the other frontends.
func (p *peers) sum(id lambda.PoolID) frontend.PeerLoad {
	reply := frontend.PeerLoad{Complete: true}
	for i, f := range p.c.frontends {
		if i != p.self {
			n, size := f.Load(id)
			reply.InFlight += n
			reply.MaxSize = max(reply.MaxSize, size)
		}
	}
	return reply
}

// record keeps what happened between the roles, in order.
type record[T any] struct {
	mu  sync.Mutex
	all []T
}

func (r *record[T]) add(one T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
}

// take returns what there is so far and forgets it.
func (r *record[T]) take() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}
