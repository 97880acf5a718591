package manager_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"berth/lambda"
	"berth/manager"
	"berth/placement"
	"berth/ring"
)

// manyTenants is how many tenants of one function the benchmarks have.
const manyTenants = 10_000

// endless is a worker with room for everything.
type endless struct{ owner *manager.Manager }

func (w *endless) Candidates(*lambda.Version) []placement.Worker {
	return []placement.Worker{{ID: "w", FreeBytes: 1 << 60}}
}
func (w *endless) All() []lambda.WorkerID                           { return []lambda.WorkerID{"w"} }
func (w *endless) Worker(lambda.WorkerID) (manager.Worker, bool)    { return w, true }
func (w *endless) Start(context.Context, lambda.StartRequest) error { return nil }
func (w *endless) End(_ context.Context, id lambda.EnvironmentID) error {
	w.owner.EnvironmentGone(id)
	return nil
}
func (w *endless) Renew(context.Context, lambda.RenewRequest) (a lambda.RenewAnswer, err error) {
	return a, nil
}
func (w *endless) Adopt(context.Context, lambda.AdoptRequest) (a lambda.AdoptAnswer, err error) {
	return a, nil
}

func tenantRequest(n int, tenants bool) lambda.AcquireRequest {
	r := lambda.AcquireRequest{
		Pool: lambda.PoolID{Account: "000000000001"}, Ring: 1,
		Key:     lambda.EnvironmentKey{Account: "000000000001", Function: "f", Version: lambda.Latest, ConfigID: "c", Runtime: "r"},
		Version: &lambda.Version{MemoryMB: 128, Timeout: 3 * time.Second, PerTenant: tenants},
	}
	if tenants {
		r.Key.Tenant = fmt.Sprintf("tenant-%05d", n)
	}
	return r
}

// crowd is a manager with one idle environment of each of many tenants.
func crowd(tb testing.TB, tenants int) (*manager.Manager, []lambda.AcquireRequest) {
	tb.Helper()
	w := &endless{}
	r, err := ring.New(1, 1_000_000, []lambda.ManagerID{"m"})
	if err != nil {
		tb.Fatal(err)
	}
	m := manager.New(manager.Config{
		ID: "m", Workers: w, Rings: ring.Fixed(r), Limit: func(lambda.PoolID) int { return 1_000_000 },
		Current: func(lambda.EnvironmentKey) bool { return true }, Log: slog.New(slog.DiscardHandler),
	})
	w.owner = m
	requests := make([]lambda.AcquireRequest, tenants)
	for n := range requests {
		requests[n] = tenantRequest(n, true)
	}
	return m, requests
}

func fillCrowd(tb testing.TB, m *manager.Manager, requests []lambda.AcquireRequest) {
	tb.Helper()
	for n, r := range requests {
		r.Pool.Function = fmt.Sprint(n / 900) // a function gains 1,000 environments of one pool at once
		a, err := m.Acquire(tb.Context(), r)
		if err != nil || a.Verdict != lambda.Granted {
			tb.Fatal(a, err)
		}
		m.EnvironmentIdle(a.Reservation.Environment, a.Reservation.Number)
	}
}

// BenchmarkTenants measures what a warm call costs a manager that knows 10,000 tenants of the function, and beside it 10,000
// functions without tenants.
func BenchmarkTenants(b *testing.B) {
	for _, c := range []struct {
		name    string
		n       int
		tenants bool
	}{{"1 function", 1, false}, {"10000 functions", manyTenants, false}, {"1 tenant", 1, true}, {"10000 tenants", manyTenants, true}} {
		b.Run(c.name, func(b *testing.B) {
			m, requests := crowd(b, c.n)
			if !c.tenants {
				for n := range requests {
					requests[n] = tenantRequest(n, false)
					requests[n].Key.Function = fmt.Sprint("f", n)
				}
			}
			before := heap()
			fillCrowd(b, m, requests)
			perTenant := float64(heap()-before) / float64(len(requests))
			n := 0
			for b.Loop() {
				a, err := m.Acquire(b.Context(), requests[n%len(requests)])
				if err != nil || a.Verdict != lambda.Granted || a.Reservation.Cold {
					b.Fatal(a, err)
				}
				m.EnvironmentIdle(a.Reservation.Environment, a.Reservation.Number)
				n += 7919 // all over
			}
			b.ReportAllocs()
			b.ReportMetric(perTenant, "B/tenant")
			runtime.KeepAlive(m)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// BenchmarkTenantsList measures berth tenants, and what finding shares costs, which is as much.
func BenchmarkTenantsList(b *testing.B) {
	m, requests := crowd(b, manyTenants)
	fillCrowd(b, m, requests)
	for b.Loop() {
		if got := len(m.Tenants("000000000001", "f", manyTenants)); got != manyTenants+1 { // and the unbound ones' record
			b.Fatal(got)
		}
	}
}
