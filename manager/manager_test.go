package manager_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
	"berth/manager"
	"berth/placement"
	"berth/ring"
)

// worker is a double with room for a number of environments, which it calls idle or gone when the test says so.
type worker struct {
	mu       sync.Mutex
	room     int
	live     map[lambda.EnvironmentID]lambda.EnvironmentKey
	released []lambda.EnvironmentID          // given back
	renewed  []lambda.Holding                // as they came
	over     map[lambda.EnvironmentID]uint64 // the last reservation that is over
	busy     map[lambda.EnvironmentID]bool   // run an invocation
	deaf     bool
	ended    []lambda.EnvironmentKey
	fail     error
	slow     time.Duration // how long End takes
	hidden   int           // how much more room it shows than it has
	owner    *manager.Manager
	ahead    int  // started ahead
	failInit bool // those fail to initialise
	initing  map[lambda.EnvironmentID]bool
	looked   func() // called before Candidates answers; nil is nothing
	adopted  lambda.AdoptAnswer
}

func (w *worker) Candidates(*lambda.Version) []placement.Worker {
	if w.looked != nil {
		w.looked()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return []placement.Worker{{ID: "w", FreeBytes: int64(w.room-len(w.live)+w.hidden) << 40}}
}

func (w *worker) All() []lambda.WorkerID { return []lambda.WorkerID{"w"} }

func (w *worker) Adopt(context.Context, lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.adopted, nil
}

func (w *worker) Worker(id lambda.WorkerID) (manager.Worker, bool) { return w, id == "w" }

func (w *worker) Start(_ context.Context, req lambda.StartRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	if len(w.live) >= w.room {
		return lambda.ErrNoCapacity
	}
	w.live[req.Environment] = req.Key
	if req.Ahead {
		w.ahead++
		if w.initing == nil {
			w.initing = map[lambda.EnvironmentID]bool{}
		}
		w.initing[req.Environment] = true
		go w.initialise(req.Environment, w.failInit)
	}
	return nil
}

func (w *worker) startedAhead() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ahead
}

// initialise takes a second; then the environment is idle, or gone.
func (w *worker) initialise(id lambda.EnvironmentID, fails bool) {
	time.Sleep(time.Second)
	w.mu.Lock()
	delete(w.initing, id)
	w.mu.Unlock()
	if !fails {
		w.owner.EnvironmentIdle(id, 0)
		return
	}
	w.mu.Lock()
	delete(w.live, id)
	w.mu.Unlock()
	w.owner.EnvironmentGone(id)
}

func (w *worker) Renew(_ context.Context, req lambda.RenewRequest) (answer lambda.RenewAnswer, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf {
		return answer, lambda.ErrUnreachable
	}
	for _, h := range req.Holdings {
		w.renewed = append(w.renewed, h)
		if _, ok := w.live[h.Environment]; !ok {
			answer.Gone = append(answer.Gone, h.Environment)
		} else if w.initing[h.Environment] {
			continue
		} else if h.GiveBack && !w.busy[h.Environment] || w.over[h.Environment] >= h.Reservation {
			answer.Idle = append(answer.Idle, h.Environment)
			if h.GiveBack {
				w.released = append(w.released, h.Environment)
			}
		}
	}
	return answer, nil
}

func (w *worker) End(_ context.Context, id lambda.EnvironmentID) error {
	time.Sleep(w.slow)
	w.mu.Lock()
	w.ended = append(w.ended, w.live[id])
	delete(w.live, id)
	w.mu.Unlock()
	w.owner.EnvironmentGone(id)
	return nil
}

func (w *worker) counts() (live, ended, released int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.live), len(w.ended), len(w.released)
}

func setup(room int, current func(lambda.EnvironmentKey) bool) (*manager.Manager, *worker) {
	return setupManager(room, current, manager.Fixed(keep), nil)
}

func setupWith(policy manager.KeepAlive) (*manager.Manager, *worker) {
	return setupManager(1000, nil, policy, nil)
}

func setupProvisioned(room int, current func(lambda.EnvironmentKey) bool, provisions func() []manager.Provision) (*manager.Manager, *worker) {
	return setupManager(room, current, manager.Fixed(keep), provisions)
}

func setupManager(room int, current func(lambda.EnvironmentKey) bool, policy manager.KeepAlive, provisions func() []manager.Provision) (*manager.Manager, *worker) {
	w := &worker{room: room, live: map[lambda.EnvironmentID]lambda.EnvironmentKey{}}
	if current == nil {
		current = func(lambda.EnvironmentKey) bool { return true }
	}
	r, err := ring.New(1, 10_000, []lambda.ManagerID{"m"})
	if err != nil {
		panic(err)
	}
	m := manager.New(manager.Config{
		ID: "m", Workers: w, Current: current, Provisions: provisions, KeepAlive: policy, Log: slog.New(slog.DiscardHandler),
		Rings: ring.Fixed(r),
		Limit: func(lambda.PoolID) int { return 10_000 },
	})
	w.owner = m
	return m, w
}

func request(function string) lambda.AcquireRequest {
	return lambda.AcquireRequest{
		Ring:    1,
		Pool:    lambda.PoolID{Account: "000000000001"},
		Key:     lambda.EnvironmentKey{Account: "000000000001", Function: function},
		Version: &lambda.Version{Function: function, MemoryMB: 128},
	}
}

func acquire(t *testing.T, m *manager.Manager, function string) lambda.Reservation {
	t.Helper()
	a, err := m.Acquire(t.Context(), request(function))
	if err != nil || a.Verdict != lambda.Granted {
		t.Fatalf("Acquire(%s) = %+v, %v", function, a, err)
	}
	return a.Reservation
}

// makeIdle runs one call of function.
func makeIdle(t *testing.T, m *manager.Manager, function string) {
	t.Helper()
	r := acquire(t, m, function)
	m.EnvironmentIdle(r.Environment, r.Number)
}

// run starts the manager in a synctest bubble and stops it when the test function returns.
func run(t *testing.T, m *manager.Manager) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// The reservation of a caller that has left before its answer is given back at once, not when its time is over.
func TestWhatACallerThatLeftWasGrantedIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(10, nil)
		run(t, m)
		ctx, leave := context.WithCancel(t.Context())
		w.looked = leave // while a worker is sought for it
		a, err := m.Acquire(ctx, request("f"))
		if err != nil || a.Verdict != lambda.Granted {
			t.Fatalf("Acquire = %+v, %v", a, err)
		}
		w.looked = nil
		kept := acquire(t, m, "g") // whose caller is there
		time.Sleep(manager.DefaultReservationLimit / 2)
		if running := m.Load(t.Context(), request("f").Pool).Running; running != 1 {
			t.Errorf("%d are counted as running, want that of the caller that is there", running)
		}
		if again := acquire(t, m, "f"); again.Environment != a.Reservation.Environment || again.Cold {
			t.Errorf("a later call got %+v, want environment %s", again, a.Reservation.Environment)
		}
		m.EnvironmentIdle(kept.Environment, kept.Number)
	})
}

func TestAcquireReusesTheMostRecentlyUsed(t *testing.T) {
	m, _ := setup(10, nil)
	a, b := acquire(t, m, "f"), acquire(t, m, "f")
	if !a.Cold || !b.Cold || a.Environment == b.Environment {
		t.Fatalf("two calls at once got %+v and %+v, want two new environments", a, b)
	}
	m.EnvironmentIdle(a.Environment, a.Number)
	m.EnvironmentIdle(b.Environment, b.Number)
	if got := acquire(t, m, "f"); got.Environment != b.Environment || got.Cold {
		t.Errorf("got %+v, want the last used, %s", got, b.Environment)
	}
	if got := acquire(t, m, "g"); got.Environment == a.Environment {
		t.Error("an environment of f was handed to g")
	}
}

func TestAnIdleEnvironmentGoesToExactlyOneOfManyCallers(t *testing.T) {
	m, w := setup(1000, nil)
	first := acquire(t, m, "f")
	m.EnvironmentIdle(first.Environment, first.Number)
	var wg sync.WaitGroup
	var mu sync.Mutex
	warm := 0
	for range 100 {
		wg.Go(func() {
			a, err := m.Acquire(context.Background(), request("f"))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !a.Reservation.Cold {
				warm++
			}
		})
	}
	wg.Wait()
	if live, _, _ := w.counts(); warm != 1 || live != 100 {
		t.Errorf("%d callers got the idle environment and %d live, want 1 and 100", warm, live)
	}
}

func TestANewEnvironmentEvictsTheLongestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(2, nil)
		old := acquire(t, m, "old")
		m.EnvironmentIdle(old.Environment, old.Number)
		time.Sleep(time.Second)
		young := acquire(t, m, "young")
		m.EnvironmentIdle(young.Environment, young.Number)
		acquire(t, m, "new")
		if len(w.ended) != 1 || w.ended[0].Function != "old" {
			t.Errorf("ended %v, want the one of old", w.ended)
		}
	})
}

func TestAWorkerThatRefusesMakesTheManagerEvict(t *testing.T) {
	m, w := setup(1, nil)
	w.hidden = 10 // the manager's picture of the worker is old
	makeIdle(t, m, "f")
	acquire(t, m, "g")
	if live, ended, _ := w.counts(); live != 1 || ended != 1 {
		t.Errorf("live %d, ended %d, want 1 and 1", live, ended)
	}
}

func TestANewEnvironmentWaitsForOneThatIsEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(1, func(k lambda.EnvironmentKey) bool { return k.Function != "old" })
		w.slow = time.Second
		run(t, m)
		makeIdle(t, m, "old")
		time.Sleep(1500 * time.Millisecond) // the sweep is ending it now
		if live, ended, _ := w.counts(); live != 1 || ended != 0 {
			t.Fatalf("live %d, ended %d, want it to be ending", live, ended)
		}
		if r := acquire(t, m, "new"); !r.Cold {
			t.Errorf("got %+v, want a new environment", r)
		}
	})
}

func TestACallWaitsForRoomUpToItsLimit(t *testing.T) {
	for name, c := range map[string]struct {
		becomesIdle string // function whose environment becomes idle after a second; "" for none
		granted     bool
		cold        bool
	}{
		"nothing changes":                        {"", false, false},
		"its own function's becomes idle":        {"g", true, false},
		"another's becomes idle and is replaced": {"f", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, w := setup(2, nil)
				running := map[string]lambda.Reservation{"f": acquire(t, m, "f"), "g": acquire(t, m, "g")}
				if r, ok := running[c.becomesIdle]; ok {
					time.AfterFunc(time.Second, func() { m.EnvironmentIdle(r.Environment, r.Number) })
				}
				began := time.Now()
				a, err := m.Acquire(t.Context(), request("g"))
				took := time.Since(began)
				if err != nil || (a.Verdict == lambda.Granted) != c.granted || a.Reservation.Cold != c.cold {
					t.Fatalf("Acquire = %+v, %v", a, err)
				}
				if want := map[bool]time.Duration{true: time.Second, false: manager.DefaultRoomLimit}[c.granted]; took < want || took > want+time.Millisecond {
					t.Errorf("it took %v, want %v", took, want)
				}
				if live, _, _ := w.counts(); live != 2 {
					t.Errorf("%d live, want 2", live)
				}
				if load := m.Load(t.Context(), request("g").Pool); !c.granted && load.Running != 2 {
					t.Errorf("%d counted as running, want the 2 that do", load.Running)
				}
			})
		})
	}
}

// A call that has found no environment finds out that there is no room for another; meanwhile one of its own kind has become
// idle. It takes that one: it does not end it for a new one.
func TestACallThatWaitsForRoomReusesItsKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(1, nil)
		first := acquire(t, m, "f")
		var once sync.Once
		w.looked = func() { once.Do(func() { m.EnvironmentIdle(first.Environment, first.Number) }) }
		second := acquire(t, m, "f")
		if second.Cold || second.Environment != first.Environment {
			t.Errorf("got %+v, want the environment of %+v again", second, first)
		}
	})
}

func TestWaitingForRoomUsesUpNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := setup(1, nil)
		r := acquire(t, m, "f")
		var wg sync.WaitGroup
		for range 1500 { // more than a function may gain
			wg.Go(func() {
				if a, err := m.Acquire(context.Background(), request("g")); err != nil || a.Verdict != lambda.Full {
					t.Errorf("Acquire = %+v, %v, want Full", a, err)
				}
			})
		}
		wg.Wait()
		m.EnvironmentIdle(r.Environment, r.Number)
		acquire(t, m, "g")
	})
}

func TestAFunctionGainsEnvironmentsAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := setup(5000, nil)
		gain := func() (granted int) {
			for range 2000 {
				if a, _ := m.Acquire(t.Context(), request("f")); a.Verdict == lambda.Granted {
					granted++
				} else if a.Verdict != lambda.RateLimited {
					t.Fatalf("verdict %d, want RateLimited", a.Verdict)
				}
			}
			return granted
		}
		if n := gain(); n != 1000 {
			t.Errorf("%d environments at once, want 1,000", n)
		}
		time.Sleep(5 * time.Second)
		if n := gain(); n != 500 {
			t.Errorf("%d more after 5 s, want 500", n)
		}
		acquire(t, m, "g") // another function has its own rate
	})
}

func TestAFailedStartLeavesNothing(t *testing.T) {
	m, w := setup(1, nil)
	w.fail = errors.New("broken")
	if _, err := m.Acquire(t.Context(), request("f")); !errors.Is(err, w.fail) {
		t.Fatalf("error = %v", err)
	}
	w.fail = nil
	if r := acquire(t, m, "f"); !r.Cold {
		t.Errorf("got %+v, want a new environment", r)
	}
}

// keep is for how long setup's managers keep idle environments.
const keep = 10 * time.Minute

func TestIdleEnvironmentsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(10, nil)
		run(t, m)
		makeIdle(t, m, "f")
		busy := acquire(t, m, "g")
		time.Sleep(keep - 2*time.Second)
		if _, ended, _ := w.counts(); ended != 0 {
			t.Fatal("ended before the idle limit")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if live, ended, _ := w.counts(); live != 1 || ended != 1 {
			t.Errorf("live %d, ended %d; want the busy one live, the idle one ended", live, ended)
		}
		m.EnvironmentGone(busy.Environment)
	})
}

func TestEnvironmentsOfAChangedFunctionEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stale sync.Map
		m, w := setup(10, func(k lambda.EnvironmentKey) bool { _, is := stale.Load(k.Function); return !is })
		run(t, m)
		makeIdle(t, m, "f")
		makeIdle(t, m, "g")
		stale.Store("f", true)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if live, ended, _ := w.counts(); live != 1 || ended != 1 || w.ended[0].Function != "f" {
			t.Errorf("live %d, ended %v; want only f's to have ended", live, w.ended)
		}
	})
}

func TestAnUnusedReservationIsGivenBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(10, nil)
		run(t, m)
		r := acquire(t, m, "f")
		time.Sleep(manager.DefaultReservationLimit + 10*time.Second)
		synctest.Wait()
		if _, _, released := w.counts(); released != 1 {
			t.Fatalf("released %d times, want once", released)
		}
		if again := acquire(t, m, "f"); again.Environment != r.Environment || again.Cold {
			t.Errorf("got %+v, want the environment that was given back", again)
		}
	})
}

func TestAGoneEnvironmentIsForgotten(t *testing.T) {
	m, _ := setup(10, nil)
	r := acquire(t, m, "f")
	m.EnvironmentGone(r.Environment)
	m.EnvironmentIdle(r.Environment, r.Number) // late word of a dead environment
	if again := acquire(t, m, "f"); !again.Cold || again.Environment == r.Environment {
		t.Errorf("got %+v, want a new environment", again)
	}
}

func BenchmarkAcquireAndIdle(b *testing.B) {
	m, _ := setup(1000, nil)
	b.ReportAllocs()
	req := request("f")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			a, err := m.Acquire(context.Background(), req)
			if err != nil {
				b.Error(err)
				return
			}
			m.EnvironmentIdle(a.Reservation.Environment, a.Reservation.Number)
		}
	})
}
