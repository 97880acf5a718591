package manager_test

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
	"berth/manager"
	"berth/ring"
)

// wanting is a policy that wants the same number of environments of each function, always.
type wanting struct{ n *atomic.Int64 }

func want(n int64) wanting {
	w := wanting{new(atomic.Int64)}
	w.n.Store(n)
	return w
}

func (w wanting) Function(int) manager.Habit { return w }
func (w wanting) Began(time.Time)            {}
func (w wanting) Ended(time.Time)            {}
func (w wanting) Came(bool, time.Time)       {}
func (w wanting) Left(bool)                  {}
func (w wanting) Wanted(time.Time) (keep, ahead int) {
	return int(w.n.Load()), int(w.n.Load())
}

// live is how many environments there are a moment after some seconds.
func live(w *worker, seconds time.Duration) int {
	time.Sleep(seconds*time.Second + 100*time.Millisecond)
	synctest.Wait()
	n, _, _ := w.counts()
	return n
}

func setDeaf(w *worker, deaf bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = deaf
}

func TestFiftyAreMadeAheadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setupWith(want(200))
		run(t, m)
		makeIdle(t, m, "f")
		makeIdle(t, m, "g")
		setDeaf(w, true) // none gets ready
		if n := live(w, 5); n != 2+50 {
			t.Errorf("%d live, want the 2 that were called and 50 that are being made", n)
		}
		setDeaf(w, false)
		if n := live(w, 20); n != 400 {
			t.Errorf("%d live when they get ready, want 200 of each function", n)
		}
	})
}

func TestNoMoreIsMadeAheadThanThePoolMayRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{room: 100, live: map[lambda.EnvironmentID]lambda.EnvironmentKey{}}
		r, err := ring.New(1, 10, []lambda.ManagerID{"m"})
		if err != nil {
			t.Fatal(err)
		}
		m := manager.New(manager.Config{
			ID: "m", Workers: w, KeepAlive: want(50), Log: slog.New(slog.DiscardHandler),
			Rings: ring.Fixed(r), Limit: func(lambda.PoolID) int { return 6 },
			Current: func(lambda.EnvironmentKey) bool { return true },
		})
		w.owner = m
		run(t, m)
		w.mu.Lock()
		w.busy = map[lambda.EnvironmentID]bool{}
		for range 2 {
			w.mu.Unlock()
			r := acquire(t, m, "f")
			w.mu.Lock()
			w.busy[r.Environment] = true
		}
		w.mu.Unlock()
		setDeaf(w, true)
		if n := live(w, 5); n != 6 {
			t.Errorf("%d live with 2 calls running at a limit of 6, want 4 made ahead", n)
		}
	})
}

func TestWhatIsMadeAheadCountsForTheFunctionsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setupManager(5000, nil, want(5000), nil)
		run(t, m)
		time.Sleep(990 * time.Millisecond)
		for range 1000 {
			acquire(t, m, "f")
		}
		if n := live(w, 0); n > 1000+15 { // the first look was 10 ms later: 0.1 s gives 10
			t.Errorf("%d live just after a function gained the 1,000 that it may", n)
		}
	})
}

func TestNothingIsMadeAheadByEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setupManager(4, nil, want(3), nil)
		run(t, m)
		makeIdle(t, m, "f")
		makeIdle(t, m, "g")
		makeIdle(t, m, "h")
		n := live(w, 60)
		if _, ended, _ := w.counts(); n != 4 || ended != 0 {
			t.Errorf("%d live, %d ended; want the room filled and nobody's ended", n, ended)
		}
	})
}

func TestNothingIsMadeAheadWhileOthersAreProvisioned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wish wish
		policy := want(1)
		m, w := setupManager(1000, nil, policy, wish.list)
		run(t, m)
		makeIdle(t, m, "g")
		wish.set(200, keyF) // sixteen at a time, a second each
		live(w, 1)
		policy.n.Store(3)
		if n, provisioned := live(w, 2), w.startedAhead(); n != 1+provisioned || provisioned >= 200 {
			t.Errorf("%d live and %d provisioned so far, want one more", n, provisioned)
		}
		if n := live(w, 20); n != 3+200 {
			t.Errorf("%d live when all are provisioned, want 3 more", n)
		}
	})
}

func TestAfterOneThatCouldNotBeMadeThereIsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setupWith(want(3))
		run(t, m)
		makeIdle(t, m, "f")
		fail := func(err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.fail = err
		}
		fail(lambda.ErrUnreachable)
		live(w, 1)
		fail(nil)
		if n := live(w, 7); n != 1 {
			t.Errorf("%d live 8 s after a start failed, want none made before 10 s", n)
		}
		if n := live(w, 5); n != 3 {
			t.Errorf("%d live 13 s after a start failed, want 3", n)
		}
	})
}
