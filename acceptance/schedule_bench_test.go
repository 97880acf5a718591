package acceptance_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"berth/catalog"
	"berth/frontend"
	"berth/lambda"
	"berth/manager"
	"berth/placement"
	"berth/ring"
)

// instant is a cluster in one process whose environments start and run in no time: what is measured is the work of the
// frontend, the managers and the placement.
type instant struct {
	ring     *ring.Ring
	managers map[lambda.ManagerID]*manager.Manager
	workers  []placement.Worker
	frontend *frontend.Frontend
	versions []*lambda.Version
}

func newInstant(tb testing.TB, managers, workers, functions int) *instant {
	in := &instant{managers: map[lambda.ManagerID]*manager.Manager{}}
	var ids []lambda.ManagerID
	for i := range managers {
		ids = append(ids, lambda.ManagerID(fmt.Sprintf("manager-%d", i)))
	}
	for i := range workers {
		in.workers = append(in.workers, placement.Worker{ID: lambda.WorkerID(fmt.Sprintf("worker-%d", i)), FreeBytes: 1 << 50})
	}
	for i := range functions {
		in.versions = append(in.versions, &lambda.Version{
			Account: account, Function: fmt.Sprintf("f%d", i), Number: lambda.Latest, ConfigID: "c1", State: lambda.Active, MemoryMB: 128,
		})
	}
	var err error
	if in.ring, err = ring.New(1, 1000, ids); err != nil {
		tb.Fatal(err)
	}
	for _, id := range ids {
		in.managers[id] = manager.New(manager.Config{
			ID: id, Workers: in, Rings: ring.Fixed(in.ring), Limit: in.limit, Log: slog.New(slog.DiscardHandler),
			Current: func(lambda.EnvironmentKey) bool { return true },
		})
	}
	in.frontend = frontend.New(frontend.Config{
		Catalog: in, Rings: ring.Fixed(in.ring), Limit: in.limit,
		Manager:        func(id lambda.ManagerID) (frontend.Manager, bool) { m, ok := in.managers[id]; return m, ok },
		Worker:         func(lambda.WorkerID) (frontend.Worker, bool) { return in, true },
		RuntimeVersion: func(*lambda.Version) (lambda.RuntimeVersionID, error) { return "r1", nil },
	})
	return in
}

func (in *instant) limit(lambda.PoolID) int { return 1_000_000 }

// Resolve finds function fN by its number, which a Ref carries as its qualifier.
func (in *instant) Resolve(ref lambda.Ref) (catalog.Target, error) {
	n := 0
	for _, c := range ref.Qualifier {
		n = 10*n + int(c-'0')
	}
	return catalog.Target{Version: in.versions[n], Pool: lambda.PoolID{Account: account}, Reserved: -1, InvokedARN: "arn"}, nil
}

func (in *instant) Candidates(*lambda.Version) []placement.Worker { return in.workers }

func (in *instant) All() []lambda.WorkerID { return nil }

func (in *instant) Adopt(context.Context, lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	return lambda.AdoptAnswer{}, nil
}

func (in *instant) Worker(lambda.WorkerID) (manager.Worker, bool) { return in, true }

func (in *instant) Start(context.Context, lambda.StartRequest) error { return nil }

func (in *instant) End(context.Context, lambda.EnvironmentID) error { return nil }

func (in *instant) Renew(context.Context, lambda.RenewRequest) (lambda.RenewAnswer, error) {
	return lambda.RenewAnswer{}, nil
}

// Invoke ends at once: whichever manager owns the environment hears that it is idle.
func (in *instant) Invoke(_ context.Context, r lambda.Reservation, _ *lambda.Invocation) (*lambda.Outcome, error) {
	for _, m := range in.managers {
		m.EnvironmentIdle(r.Environment, r.Number)
	}
	return &lambda.Outcome{}, nil
}

func (in *instant) call(b *testing.B, n int) {
	ref := lambda.Ref{Account: account, Function: "f", Qualifier: fmt.Sprint(n)}
	if _, err := in.frontend.Invoke(context.Background(), ref, &lambda.Invocation{}); err != nil {
		b.Error(err)
	}
}

// BenchmarkScheduling measures scheduling in one process: acquire and release of a warm environment, and the placement of a
// cold one on one of many workers.
func BenchmarkScheduling(b *testing.B) {
	b.Run("warm", func(b *testing.B) {
		in := newInstant(b, 1, 1, 64)
		var next atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				in.call(b, int(next.Add(1))%64)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per-s")
	})
	b.Run("cold", func(b *testing.B) {
		in := newInstant(b, 1, 1000, b.N)
		var next atomic.Int64
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				in.call(b, int(next.Add(1))-1)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per-s")
	})
}
