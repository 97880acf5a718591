package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"berth/catalog"
	"berth/frontend"
	"berth/lambda"
	"berth/manager"
	"berth/placement"
	"berth/ring"
)

// fleetSize is the size of a cluster without faults.
type fleetSize struct {
	Managers, Frontends, Workers int
	Accounts, Functions          int // functions per account
	Clients                      int // calls at once
	Calls                        int // in total
}

// fleet is a large cluster whose roles call one another directly: nothing fails, nothing is checked, and so it is fast. It is
// for questions of scale.
type fleet struct {
	ring      *ring.Ring
	managers  map[lambda.ManagerID]*manager.Manager
	workers   map[lambda.WorkerID]*fastWorker
	list      []placement.Worker
	frontends []*frontend.Frontend
	versions  map[string]*lambda.Version // by account and function
	cold      atomic.Int64
}

// runFleet runs calls through a large cluster and returns how many failed and how many started cold. It must be called in a
// testing/synctest bubble.
func runFleet(s fleetSize) (failed, cold int) {
	f := newFleet(s)
	ctx, stop := context.WithCancel(context.Background())
	var roles, clients sync.WaitGroup
	for _, m := range f.managers {
		roles.Go(func() { m.Run(ctx) })
	}
	for _, e := range f.frontends {
		roles.Go(func() { e.Run(ctx) })
	}
	var left, bad atomic.Int64
	left.Store(int64(s.Calls))
	for n := range s.Clients {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(n)))
			for left.Add(-1) >= 0 {
				ref := lambda.Ref{
					Account:  lambda.AccountID(fmt.Sprintf("%012d", rng.IntN(s.Accounts))),
					Function: fmt.Sprintf("f%d", rng.IntN(s.Functions)), Region: "us-east-1",
				}
				if _, err := f.frontends[n%s.Frontends].Invoke(ctx, ref, &lambda.Invocation{}); err != nil {
					bad.Add(1)
				}
			}
		})
	}
	clients.Wait()
	stop()
	roles.Wait()
	return int(bad.Load()), int(f.cold.Load())
}

func newFleet(s fleetSize) *fleet {
	f := &fleet{managers: map[lambda.ManagerID]*manager.Manager{}, workers: map[lambda.WorkerID]*fastWorker{}, versions: map[string]*lambda.Version{}}
	var ids []lambda.ManagerID
	for i := range s.Managers {
		ids = append(ids, lambda.ManagerID(fmt.Sprintf("m%d", i)))
	}
	f.ring, _ = ring.New(1, 100, ids) // ids are distinct
	for i := range s.Workers {
		id := lambda.WorkerID(fmt.Sprintf("w%d", i))
		f.workers[id] = &fastWorker{f: f, environments: map[lambda.EnvironmentID]*fastEnvironment{}}
		f.list = append(f.list, placement.Worker{ID: id, FreeBytes: 1 << 40})
	}
	for _, id := range ids {
		f.managers[id] = manager.New(manager.Config{
			ID: id, Workers: f, Rings: ring.Fixed(f.ring), Limit: f.limit, Log: slog.New(slog.DiscardHandler),
			Reachable: func(context.Context, lambda.ManagerID) bool { return true },
			Current:   func(lambda.EnvironmentKey) bool { return true },
		})
	}
	for range s.Frontends {
		f.frontends = append(f.frontends, frontend.New(frontend.Config{
			Catalog: f, Rings: ring.Fixed(f.ring), Limit: f.limit,
			Manager:        func(id lambda.ManagerID) (frontend.Manager, bool) { m, ok := f.managers[id]; return m, ok },
			Worker:         func(id lambda.WorkerID) (frontend.Worker, bool) { w, ok := f.workers[id]; return w, ok },
			RuntimeVersion: func(*lambda.Version) (lambda.RuntimeVersionID, error) { return "r1", nil },
		}))
	}
	for a := range s.Accounts {
		for n := range s.Functions {
			v := &lambda.Version{
				Account: lambda.AccountID(fmt.Sprintf("%012d", a)), Function: fmt.Sprintf("f%d", n), Number: lambda.Latest, ConfigID: "c",
				State: lambda.Active, MemoryMB: 128, Timeout: 3 * time.Second,
			}
			f.versions[string(v.Account)+v.Function] = v
		}
	}
	return f
}

func (f *fleet) limit(lambda.PoolID) int                       { return 1000 }
func (f *fleet) Candidates(*lambda.Version) []placement.Worker { return f.list }
func (f *fleet) All() []lambda.WorkerID                        { return nil }
func (f *fleet) Worker(id lambda.WorkerID) (manager.Worker, bool) {
	w, ok := f.workers[id]
	return w, ok
}

// Resolve implements frontend.Catalog.
func (f *fleet) Resolve(ref lambda.Ref) (catalog.Target, error) {
	v := f.versions[string(ref.Account)+ref.Function]
	return catalog.Target{Version: v, Pool: lambda.PoolID{Account: ref.Account}, Reserved: -1, InvokedARN: ""}, nil
}

// fastWorker holds environments and runs calls of 10 to 200 ms.
type fastWorker struct {
	f            *fleet
	mu           sync.Mutex
	environments map[lambda.EnvironmentID]*fastEnvironment
}

type fastEnvironment struct {
	owner *manager.Manager
	over  atomic.Uint64 // the last reservation that is
}

func (w *fastWorker) find(id lambda.EnvironmentID) *fastEnvironment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.environments[id]
}

// Start implements manager.Worker.
func (w *fastWorker) Start(_ context.Context, req lambda.StartRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.environments[req.Environment] = &fastEnvironment{owner: w.f.managers[req.Owner]}
	w.f.cold.Add(1)
	return nil
}

// Renew implements manager.Worker.
func (w *fastWorker) Renew(_ context.Context, req lambda.RenewRequest) (a lambda.RenewAnswer, _ error) {
	for _, h := range req.Holdings {
		e := w.find(h.Environment)
		switch {
		case e == nil:
			a.Gone = append(a.Gone, h.Environment)
		case h.GiveBack:
			e.over.Store(max(e.over.Load(), h.Reservation))
			a.Idle = append(a.Idle, h.Environment)
		case e.over.Load() >= h.Reservation:
			a.Idle = append(a.Idle, h.Environment)
		}
	}
	return a, nil
}

// Adopt implements manager.Worker: nobody is lost.
func (w *fastWorker) Adopt(context.Context, lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	return lambda.AdoptAnswer{}, nil
}

// End implements manager.Worker.
func (w *fastWorker) End(_ context.Context, id lambda.EnvironmentID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.environments, id)
	return nil
}

// Invoke implements frontend.Worker.
func (w *fastWorker) Invoke(_ context.Context, r lambda.Reservation, _ *lambda.Invocation) (*lambda.Outcome, error) {
	e := w.find(r.Environment)
	if e == nil {
		return nil, lambda.ErrUnknownEnvironment
	}
	time.Sleep(time.Duration(10+rand.IntN(190)) * time.Millisecond)
	e.over.Store(r.Number)
	e.owner.EnvironmentIdle(r.Environment, r.Number)
	return &lambda.Outcome{Class: lambda.OK}, nil
}
