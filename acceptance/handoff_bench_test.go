package acceptance_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/lambda"
	"berth/manager"
	"berth/placement"
	"berth/ring"
	"berth/wire"
)

// mover is two managers and a worker that make and move environments in no time, over HTTP.
type mover struct {
	client   *wire.Client
	servers  []*httptest.Server
	managers map[lambda.ManagerID]*wire.Manager
	worker   *wire.Worker
	roles    map[lambda.ManagerID]*manager.Manager
	feeds    []*ring.Feed

	mu    sync.Mutex
	live  map[lambda.EnvironmentID]*running
	moved atomic.Int64 // environments that got another owner
}

func newMover(b *testing.B, first *ring.History, ids ...lambda.ManagerID) *mover {
	v := &mover{
		client: wire.NewClient(token, nil), managers: map[lambda.ManagerID]*wire.Manager{}, live: map[lambda.EnvironmentID]*running{},
		roles: map[lambda.ManagerID]*manager.Manager{},
	}
	v.worker = wire.NewWorker(v.client, v.serve(nil, v))
	for _, id := range ids {
		feed := &ring.Feed{}
		feed.Set(first)
		v.feeds = append(v.feeds, feed)
		m := manager.New(manager.Config{
			ID: id, Workers: v, Rings: feed.Get, Limit: func(lambda.PoolID) int { return 1000 }, Log: slog.New(slog.DiscardHandler),
			Current:   func(lambda.EnvironmentKey) bool { return true },
			KeepAlive: manager.Fixed(time.Hour),
			Managers:  func(id lambda.ManagerID) (manager.Peer, bool) { p, ok := v.managers[id]; return p, ok },
		})
		v.roles[id], v.managers[id] = m, wire.NewManager(v.client, v.serve(m, nil))
	}
	return v
}

func (v *mover) serve(m wire.ManagerRole, w wire.WorkerRole) string {
	s := httptest.NewServer(wire.NewHandler(token, m, w))
	v.servers = append(v.servers, s)
	return s.Listener.Addr().String()
}

func (v *mover) close() {
	v.client.Close()
	for _, s := range v.servers {
		s.Close()
	}
}

// Candidates and the other methods are a worker's, and those that know it.
func (v *mover) Candidates(*lambda.Version) []placement.Worker {
	return []placement.Worker{{ID: "w", FreeBytes: 1 << 60}}
}
func (v *mover) All() []lambda.WorkerID                          { return []lambda.WorkerID{"w"} }
func (v *mover) Worker(lambda.WorkerID) (manager.Worker, bool)   { return v.worker, true }
func (v *mover) End(context.Context, lambda.EnvironmentID) error { return nil }
func (v *mover) Prepare(context.Context, *lambda.Version) error  { return nil }
func (v *mover) Start(_ context.Context, r lambda.StartRequest) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.live[r.Environment] = &running{owner: r.Owner, epoch: r.Epoch}
	return nil
}
func (v *mover) Adopt(context.Context, lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	return lambda.AdoptAnswer{}, nil
}
func (v *mover) Invoke(context.Context, lambda.Reservation, *lambda.Invocation) (*lambda.Outcome, error) {
	return &lambda.Outcome{}, nil
}
func (v *mover) Renew(_ context.Context, req lambda.RenewRequest) (answer lambda.RenewAnswer, _ error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, h := range req.Holdings {
		e := v.live[h.Environment]
		if e == nil {
			answer.Gone = append(answer.Gone, h.Environment)
			continue
		}
		before := e.owner
		if !e.renew(req.Owner, h.Epoch) {
			answer.Gone = append(answer.Gone, h.Environment)
		}
		if e.owner != before {
			v.moved.Add(1)
		}
	}
	return answer, nil
}

func moverRequest(n int, version uint64) lambda.AcquireRequest {
	req := request(fmt.Sprintf("f%d", n))
	req.Pool.Function = req.Key.Function
	req.Ring = version
	return req
}

// BenchmarkHandOff moves 1,000 pools with 10,000 idle environments from one manager to another over HTTP: until the successor has
// all of them and the worker knows. Meanwhile calls of pools come that have not moved yet; what a hand-over adds to such a
// first call is compared with the next call of the same pool.
func BenchmarkHandOff(b *testing.B) {
	const pools, each = 1000, 10
	one, err := ring.New(1, 100, []lambda.ManagerID{"old"})
	if err != nil {
		b.Fatal(err)
	}
	two, err := ring.New(2, 100, []lambda.ManagerID{"new"})
	if err != nil {
		b.Fatal(err)
	}
	var firsts, seconds []time.Duration
	cold, moves := 0, 0.0
	for b.Loop() {
		v := newMover(b, &ring.History{Current: one}, "old", "new")
		for n := range pools {
			var got []lambda.Reservation
			for range each {
				a, err := v.roles["old"].Acquire(b.Context(), moverRequest(n, 1))
				if err != nil || a.Verdict != lambda.Granted {
					b.Fatal(a, err)
				}
				got = append(got, a.Reservation)
			}
			for _, r := range got {
				v.roles["old"].EnvironmentIdle(r.Environment, r.Number)
			}
		}
		ctx, cancel := context.WithCancel(b.Context())
		var roles sync.WaitGroup
		for _, m := range v.roles {
			roles.Go(func() { m.Run(ctx) })
		}
		time.Sleep(100 * time.Millisecond) // all have started
		runtime.GC()                       // of what was made for the test
		began := time.Now()
		for _, f := range v.feeds {
			f.Set(&ring.History{Current: two, Earlier: []*ring.Ring{one}})
		}
		for i := 0; v.moved.Load() < pools*each; i++ {
			if time.Sleep(time.Millisecond); i >= pools {
				continue // all have had their first call
			}
			n := (i*617 + 500) % pools
			for _, into := range []*[]time.Duration{&firsts, &seconds} {
				at := time.Now()
				a, err := v.managers["new"].Acquire(b.Context(), moverRequest(n, 2))
				if err != nil || a.Verdict != lambda.Granted {
					b.Fatal(a, err)
				}
				if a.Reservation.Cold {
					cold++
				}
				*into = append(*into, time.Since(at))
			}
		}
		moves += time.Since(began).Seconds() * 1000
		cancel()
		roles.Wait()
		v.close()
	}
	b.ReportMetric(moves/float64(b.N), "ms/move")
	b.ReportMetric(float64(cold), "cold-calls")
	b.ReportMetric(float64(len(firsts)), "first-calls")
	slices.Sort(firsts)
	slices.Sort(seconds)
	for name, q := range map[string]float64{"p50": 0.5, "p99": 0.99} {
		first, next := firsts[int(q*float64(len(firsts)))], seconds[int(q*float64(len(seconds)))]
		b.ReportMetric(first.Seconds()*1000, "first-call-"+name+"-ms")
		b.ReportMetric((first-next).Seconds()*1000, "added-"+name+"-ms")
	}
}
