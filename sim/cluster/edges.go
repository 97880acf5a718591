package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"berth/catalog"
	"berth/frontend"
	"berth/lambda"
	"berth/manager"
	"berth/placement"
)

// requestKey is under which a context carries the id of the invocation that a call between roles is made for.
type requestKey struct{}

func requestOf(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// Resolve finds a function of the run.
func (c *Cluster) Resolve(ref lambda.Ref) (catalog.Target, error) {
	for _, f := range c.shape.functions {
		if f.name == ref.Function {
			f, ahead := c.wishes.of(f)
			return catalog.Target{Version: f.version, Pool: f.pool, Reserved: -1, InvokedARN: ref.ARN(), Provisioned: ahead}, nil
		}
	}
	return catalog.Target{}, lambda.Errorf(lambda.ResourceNotFound, "Function not found: %s", ref.ARN())
}

// managerOf is a manager as one frontend reaches it.
type managerOf struct {
	c    *Cluster
	from *process
	to   *site[Manager]
}

// Acquire implements frontend.Manager.
func (e managerOf) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	limit := acquireLimit
	if req.ReuseOnly {
		limit = reuseLimit
	}
	return call(ctx, e.c.net, e.from, e.to, message{"acquire", requestOf(ctx)}, limit, func(ctx context.Context, m Manager) (lambda.Answer, error) {
		a, err := m.Acquire(ctx, req)
		if a.Verdict == lambda.Granted && ctx.Err() == nil { // not the last words of a crashed one
			e.c.history.note("grant", e.to.name, string(a.Reservation.Environment), a.Reservation.Number)
		}
		return a, err
	})
}

// workerOf is a worker as one frontend reaches it.
type workerOf struct {
	c    *Cluster
	from *process
	to   *site[*worker]
}

// Invoke implements frontend.Worker.
func (e workerOf) Invoke(ctx context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	out, err := call(ctx, e.c.net, e.from, e.to, message{"invoke", inv.RequestID}, invokeLimit, func(ctx context.Context, w *worker) (*lambda.Outcome, error) {
		return w.Invoke(ctx, r, inv)
	})
	return out, asWorker(err)
}

// workersOf are the workers as one manager reaches them.
type workersOf struct {
	c    *Cluster
	from *process
}

// Candidates implements manager.Workers.
func (e workersOf) Candidates(*lambda.Version) []placement.Worker { return e.c.candidates(e.from) }

// All implements manager.Workers.
func (e workersOf) All() []lambda.WorkerID { return e.c.names.workers }

// Worker implements manager.Workers.
func (e workersOf) Worker(id lambda.WorkerID) (manager.Worker, bool) {
	var w manager.Worker = managedWorker{e.c, e.from, e.c.workers[id]}
	if wrap := e.c.o.Tamper.Worker; wrap != nil {
		w = wrap(w)
	}
	return w, true
}

type managedWorker struct {
	c    *Cluster
	from *process
	to   *site[*worker]
}

// Start implements manager.Worker.
func (e managedWorker) Start(ctx context.Context, req lambda.StartRequest) error {
	by := promiser{e.from, lambda.WorkerID(e.to.name)}
	e.c.directory.promise(by, int64(req.Version.MemoryMB)<<20, false)
	_, err := call(ctx, e.c.net, e.from, e.to, message{"start", string(req.Environment)}, startLimit, func(_ context.Context, w *worker) (struct{}, error) {
		return struct{}{}, w.start(req, e.from)
	})
	if errors.Is(err, lambda.ErrNoCapacity) {
		e.c.directory.promise(by, 0, true)
	}
	return err
}

// Renew implements manager.Worker.
func (e managedWorker) Renew(ctx context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error) {
	key := fmt.Sprint(len(req.Holdings), req.Holdings[0])
	return call(ctx, e.c.net, e.from, e.to, message{"renew", key}, controlLimit, func(_ context.Context, w *worker) (lambda.RenewAnswer, error) {
		return w.renew(req, e.from), nil
	})
}

// End implements manager.Worker.
func (e managedWorker) End(ctx context.Context, id lambda.EnvironmentID) error {
	_, err := call(ctx, e.c.net, e.from, e.to, message{"end", string(id)}, endLimit, func(ctx context.Context, w *worker) (struct{}, error) {
		return struct{}{}, w.End(ctx, id)
	})
	return err
}

// Probes of another manager: one lost message does not make it dead.
const probes = 3

// reachable is manager.Config.Reachable.
func (c *Cluster) reachable(ctx context.Context, from *process, other lambda.ManagerID) bool {
	for range probes {
		_, err := call(ctx, c.net, from, c.managers[other], message{"probe", requestOf(ctx)}, pingLimit,
			func(context.Context, Manager) (struct{}, error) { return struct{}{}, nil })
		if err == nil {
			return true
		}
	}
	c.check.lost(other)
	return false
}

// peersOf are the other frontends as one reaches them.
type peersOf struct {
	c    *Cluster
	from *process
	self int
}

// PoolLoad implements frontend.Peers.
func (e peersOf) PoolLoad(ctx context.Context, id lambda.PoolID) frontend.PeerLoad {
	type load struct{ inFlight, size int }
	reply := frontend.PeerLoad{Complete: true}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, to := range e.c.frontends {
		if i == e.self {
			continue
		}
		wg.Go(func() {
			l, err := call(ctx, e.c.net, e.from, to, message{"load", fmt.Sprint(id)}, time.Second, func(_ context.Context, f *frontend.Frontend) (load, error) {
				n, size := f.Load(id)
				return load{n, size}, nil
			})
			mu.Lock()
			defer mu.Unlock()
			reply.InFlight += l.inFlight
			reply.MaxSize = max(reply.MaxSize, l.size)
			reply.Complete = reply.Complete && (err == nil || errors.Is(err, errUnsent))
		})
	}
	wg.Wait()
	return reply
}
