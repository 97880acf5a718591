package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"berth/catalog"
	"berth/control"
	"berth/frontend"
	"berth/lambda"
	"berth/manager"
	"berth/members"
	"berth/placement"
	"berth/ring"
	"berth/runtimes"
	"berth/tenanttoken"
	"berth/wire"
	"berth/worker"
)

// cluster finds the roles of all processes for those of this one: its own by method calls, others over the wire.
type cluster struct {
	id       string
	boot     string
	address  string // of this process's role-to-role HTTP; "" without
	quota    int
	log      *slog.Logger
	catalog  *catalog.Catalog
	client   *wire.Client
	conn     *nats.Conn // to the engine
	members  *members.Members
	notifier *wire.Notifier
	draining atomic.Bool // this process was told to stop

	frontend bool                              // whether this process has the role
	calls    atomic.Pointer[frontend.Frontend] // that of the role, once it is there
	tokens   *tenanttoken.Signer               // with frontend or control
	control  *control.Control
	manager  *manager.Manager
	worker   *worker.Worker
	runtimes *runtimes.Set // with worker

	silent      silentManagers
	heard       []*members.Tracked // the managers of the last view; changed's own
	places      codePlaces
	joined      func(*members.View)         // told of changes too; may be nil
	stopServing func(context.Context) error // the public API; nil without
}

// changed is told of every view of the members.
func (c *cluster) changed(v *members.View) {
	c.abandonLost(v)
	if c.joined != nil {
		c.joined(v)
	}
}

// abandonLost ends the calls that wait for managers that are not in the view any more: one that is cut off never answers.
func (c *cluster) abandonLost(v *members.View) {
	for _, m := range c.heard {
		if now, lives := v.Manager(lambda.ManagerID(m.ID)); !lives || now.Boot != m.Boot {
			c.client.Abandon(m.Address)
		}
	}
	c.heard = v.Managers
}

// Rings returns the ring versions in force, as the control role makes them, and a channel that is closed when there is a
// newer history.
func (c *cluster) Rings() (*ring.History, <-chan struct{}) { return c.catalog.Rings() }

// Ring returns the current ring; an empty one before the first was made.
func (c *cluster) Ring() *ring.Ring {
	history, _ := c.catalog.Rings()
	return history.Current
}

// Limit returns a pool's limit as the catalog has it now.
func (c *cluster) Limit(id lambda.PoolID) int { return c.catalog.Limit(id) }

// self describes this process's roles for the heartbeats.
func (c *cluster) self() []members.Member {
	base := members.Member{ID: c.id, Boot: c.boot, Address: c.address, Draining: c.draining.Load()}
	var out []members.Member
	if c.frontend {
		f := base
		f.Role = members.Frontend
		out = append(out, f)
	}
	if c.control != nil {
		b := base
		b.Role = members.Control
		out = append(out, b)
	}
	if c.manager != nil {
		m := base
		m.Role, m.Quota, m.Settled = members.Manager, c.quota, c.manager.Settled()
		out = append(out, m)
	}
	if c.worker != nil {
		w, stats := base, c.worker.Stats()
		w.Role, w.MemoryFree, w.MemoryLimit = members.Worker, stats.MemoryLimit-stats.MemoryUsed, stats.MemoryLimit
		w.Runtimes = map[string]lambda.RuntimeVersionID{}
		for _, r := range c.runtimes.All() {
			w.Runtimes[r.Name] = r.Version
		}
		out = append(out, w)
	}
	return out
}

// frontendManager finds a manager for the frontend.
func (c *cluster) frontendManager(id lambda.ManagerID) (frontend.Manager, bool) {
	if c.manager != nil && string(id) == c.id {
		return c.manager, true
	}
	return c.remoteManager(id)
}

func (c *cluster) remoteManager(id lambda.ManagerID) (*wire.Manager, bool) {
	m, ok := c.members.View().Manager(id)
	if !ok {
		return nil, false
	}
	return wire.NewManager(c.client, m.Address), true
}

// frontendWorker finds a worker for the frontend.
func (c *cluster) frontendWorker(id lambda.WorkerID) (frontend.Worker, bool) {
	if c.worker != nil && string(id) == c.id {
		return c.worker, true
	}
	w, ok := c.members.View().Worker(id)
	if !ok {
		return nil, false
	}
	return wire.NewWorker(c.client, w.Address), true
}

// peer finds another manager for the manager.
func (c *cluster) peer(id lambda.ManagerID) (manager.Peer, bool) {
	m, ok := c.remoteManager(id)
	return m, ok
}

// All lists the living workers.
func (c *cluster) All() []lambda.WorkerID {
	living := c.members.View().Workers
	out := make([]lambda.WorkerID, 0, len(living))
	for _, w := range living {
		out = append(out, lambda.WorkerID(w.ID))
	}
	return out
}

// Worker finds a worker for the manager.
func (c *cluster) Worker(id lambda.WorkerID) (manager.Worker, bool) {
	if c.worker != nil && string(id) == c.id {
		return placedWorker{c.worker, id, &c.places}, true
	}
	w, ok := c.members.View().Worker(id)
	if !ok {
		return nil, false
	}
	return placedWorker{&remoteWorker{wire.NewWorker(c.client, w.Address), w, c.catalog}, id, &c.places}, true
}

// remoteWorker counts what is started there until the worker's next word on its memory.
type remoteWorker struct {
	*wire.Worker
	known   *members.Tracked
	catalog *catalog.Catalog
}

// Start is wire.Worker's. While workers are upgraded a frontend may have meant another version of the runtime than this
// worker has: the environment's key would lie (I2). What is an image every worker can have.
func (w *remoteWorker) Start(ctx context.Context, req lambda.StartRequest) error {
	if has := w.known.Runtimes[req.Version.Runtime]; has != req.Key.Runtime && req.Version.Image == nil && !w.released(req.Key.Runtime) {
		return fmt.Errorf("worker %s has version %q of the runtime %s, and %q was asked for", w.known.ID, has, req.Version.Runtime, req.Key.Runtime)
	}
	w.known.Promise(int64(req.Version.MemoryMB)<<20 + worker.EnvironmentOverhead)
	err := w.Worker.Start(ctx, req)
	if errors.Is(err, lambda.ErrNoCapacity) {
		w.known.Promise(max(0, w.known.MemoryFree())) // others have promised it away: look elsewhere
	}
	return err
}

func (w *remoteWorker) released(id lambda.RuntimeVersionID) bool {
	_, _, ok := w.catalog.RuntimeRelease(id)
	return ok
}

// versions says in which versions of their runtimes functions run.
func (c *cluster) versions() versions { return versions{c.catalog, c.runtimeVersion} }

// Candidates describes the workers that stay and can run the version: all, unless it needs what some have installed.
func (c *cluster) Candidates(v *lambda.Version) []placement.Worker {
	living := c.members.View().Workers
	wanted, _ := runtimeOf(living, v.Runtime)
	has := c.places.of(v.Code)
	out := make([]placement.Worker, 0, len(living))
	for _, w := range living {
		if !w.Draining && c.versions().suits(v, w.Runtimes[v.Runtime], wanted) {
			id := lambda.WorkerID(w.ID)
			out = append(out, placement.Worker{ID: id, FreeBytes: w.MemoryFree() - worker.EnvironmentOverhead, HasCode: slices.Contains(has, id)})
		}
	}
	return out
}

// runtimeOf is the version of a runtime that the cluster uses: where workers differ, that of the one with the smallest id.
// Those that are to stop count when no other has it.
func runtimeOf(workers []*members.Tracked, name string) (version lambda.RuntimeVersionID, found bool) {
	for _, w := range workers {
		has, ok := w.Runtimes[name]
		switch {
		case ok && !w.Draining:
			return has, true
		case ok && !found:
			version, found = has, true
		}
	}
	return version, found
}

func (c *cluster) runtimeVersion(name string) (lambda.RuntimeVersionID, error) {
	living := c.members.View().Workers
	version, ok := runtimeOf(living, name)
	if !ok {
		return "", lambda.Errorf(lambda.ServiceFailure, "None of the %d living workers has the runtime %s.", len(living), name)
	}
	return version, nil
}

// reachable asks another manager whether it lives.
func (c *cluster) reachable(ctx context.Context, id lambda.ManagerID) bool {
	if string(id) == c.id {
		return c.manager != nil
	}
	m, ok := c.remoteManager(id)
	return ok && m.Ping(ctx)
}

// owner finds the manager that a worker's environment belongs to. It may not have been heard of yet.
func (c *cluster) owner(id lambda.ManagerID) worker.Owner {
	if c.manager != nil && string(id) == c.id {
		return c.manager
	}
	return c.notifier.Owner(id)
}

// Prepare has a worker make a version ready; the others fetch the code when they need it.
func (c *cluster) Prepare(ctx context.Context, v *lambda.Version) error {
	if c.worker != nil && !c.draining.Load() {
		return c.worker.Prepare(ctx, v)
	}
	err := errors.New("no worker lives")
	for _, w := range c.members.View().Workers {
		if w.Draining {
			continue
		}
		if !c.versions().suits(v, w.Runtimes[v.Runtime], w.Runtimes[v.Runtime]) {
			err = fmt.Errorf("no living worker has the runtime %s", v.Runtime)
			continue
		}
		if err = wire.NewWorker(c.client, w.Address).Prepare(ctx, v); !errors.Is(err, lambda.ErrUnreachable) {
			return err
		}
	}
	return err
}

// current reports whether an environment key is what an invocation would ask for now. While no worker is known nothing is
// ended for want of its runtime.
func (c *cluster) current(k lambda.EnvironmentKey) bool {
	v, ok := c.catalog.Current(k.Account, k.Function, k.Version)
	if !ok || v.ConfigID != k.ConfigID {
		return false
	}
	if _, known := runtimeOf(c.members.View().Workers, v.Runtime); !known && c.catalog.RuntimeChoice(v).Version == lambda.HostRuntime {
		return true
	}
	return c.versions().allows(v, k.Runtime)
}
