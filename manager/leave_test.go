package manager_test

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
	"berth/manager"
	"berth/placement"
	"berth/ring"
)

// two are two workers; the first is to stop when leaving is set.
type two struct {
	a, b    *worker
	leaving bool
}

func (w *two) Candidates(*lambda.Version) []placement.Worker {
	all := []placement.Worker{{ID: "a", FreeBytes: 1 << 30}, {ID: "b", FreeBytes: 1 << 30}}
	if w.leaving {
		return all[1:]
	}
	return all[:1]
}

func (w *two) All() []lambda.WorkerID { return []lambda.WorkerID{"a", "b"} }

func (w *two) Worker(id lambda.WorkerID) (manager.Worker, bool) {
	return map[lambda.WorkerID]manager.Worker{"a": w.a, "b": w.b}[id], true
}

func setupTwo(t *testing.T, room int) (*manager.Manager, *two) {
	w := &two{
		a: &worker{room: 100, live: map[lambda.EnvironmentID]lambda.EnvironmentKey{}},
		b: &worker{room: room, live: map[lambda.EnvironmentID]lambda.EnvironmentKey{}},
	}
	r, err := ring.New(1, 1000, []lambda.ManagerID{"m"})
	if err != nil {
		t.Fatal(err)
	}
	m := manager.New(manager.Config{
		ID: "m", Workers: w, KeepAlive: manager.Fixed(keep), Log: slog.New(slog.DiscardHandler),
		Rings: ring.Fixed(r), Limit: func(lambda.PoolID) int { return 1000 }, Current: func(lambda.EnvironmentKey) bool { return true },
	})
	w.a.owner, w.b.owner = m, m
	run(t, m)
	return m, w
}

// TestAWorkersEnvironmentsAreReplacedBeforeItStops: at each moment calls find as many environments as before.
func TestAWorkersEnvironmentsAreReplacedBeforeItStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setupTwo(t, 100)
		functions := []string{"f", "g", "h", "i", "j"}
		for _, f := range functions {
			makeIdle(t, m, f)
		}
		busy := acquire(t, m, "f")
		makeIdle(t, m, "f")
		w.a.busy = map[lambda.EnvironmentID]bool{busy.Environment: true}
		w.leaving = true
		m.Leave("a")
		m.Leave("a")
		for range 200 {
			for _, f := range functions {
				r := acquire(t, m, f)
				if r.Cold {
					t.Errorf("a call of %s started cold", f)
				}
				m.EnvironmentIdle(r.Environment, r.Number)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if n, _, _ := w.a.counts(); n != 1 {
			t.Errorf("%d environments are on the worker that is to stop, want the busy one", n)
		}
		m.EnvironmentIdle(busy.Environment, busy.Number)
		w.a.mu.Lock()
		w.a.busy = nil
		w.a.mu.Unlock()
		time.Sleep(time.Second)
		if n, _, _ := w.a.counts(); n != 0 {
			t.Errorf("%d environments are on the worker that is to stop", n)
		}
		if n, _, _ := w.b.counts(); n != 6 {
			t.Errorf("%d environments are on the other one, want 6", n)
		}
	})
}

// TestWhatFindsNoRoomEndsWithItsWorker: a worker stops although the others are full.
func TestWhatFindsNoRoomEndsWithItsWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setupTwo(t, 1)
		for _, f := range []string{"f", "g", "h"} {
			makeIdle(t, m, f)
		}
		w.leaving = true
		m.Leave("a")
		time.Sleep(5 * time.Second)
		a, _, _ := w.a.counts()
		b, _, _ := w.b.counts()
		if a != 0 || b != 1 {
			t.Errorf("%d are left, and %d were made; want none and 1", a, b)
		}
	})
}
