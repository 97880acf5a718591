package manager_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
	"berth/manager"
)

// renewal is how long lost words may stay lost.
const renewal = lambda.OwnerLease/4 + 2*time.Second

func running(t *testing.T, m *manager.Manager) int {
	return m.Load(t.Context(), request("f").Pool).Running
}

func TestALostWordComesThroughWithTheNextRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(10, nil)
		run(t, m)
		idle, gone, busy := acquire(t, m, "f"), acquire(t, m, "f"), acquire(t, m, "f")
		w.mu.Lock()
		w.over = map[lambda.EnvironmentID]uint64{idle.Environment: idle.Number} // it ran, and ended unheard
		w.busy = map[lambda.EnvironmentID]bool{busy.Environment: true}
		delete(w.live, gone.Environment) // so did this one's life
		w.mu.Unlock()
		time.Sleep(renewal)
		synctest.Wait()
		if n := running(t, m); n != 1 {
			t.Errorf("%d counted as running, want the busy one only", n)
		}
		if got := acquire(t, m, "f"); got.Environment != idle.Environment || got.Number != 2 {
			t.Errorf("got %+v, want the second reservation of %s", got, idle.Environment)
		}
		m.EnvironmentIdle(busy.Environment, busy.Number)
	})
}

func TestAnOldWordMeansNothing(t *testing.T) {
	m, _ := setup(10, nil)
	first := acquire(t, m, "f")
	m.EnvironmentIdle(first.Environment, first.Number)
	second := acquire(t, m, "f")
	m.EnvironmentIdle(first.Environment, first.Number) // told twice
	if n := running(t, m); n != 1 {
		t.Errorf("%d counted as running, want 1", n)
	}
	if third := acquire(t, m, "f"); third.Environment == second.Environment {
		t.Error("an environment was reserved twice")
	}
}

func TestASilentWorkersEnvironmentsAreKeptBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(10, nil)
		run(t, m)
		idle := acquire(t, m, "f")
		m.EnvironmentIdle(idle.Environment, idle.Number)
		setDeaf := func(deaf bool) { w.mu.Lock(); w.deaf = deaf; w.mu.Unlock() }
		setDeaf(true)
		time.Sleep(renewal)
		w.mu.Lock()
		w.over = map[lambda.EnvironmentID]uint64{idle.Environment: idle.Number}
		w.mu.Unlock()
		req := request("f")
		req.ReuseOnly = true
		if a, _ := m.Acquire(t.Context(), req); a.Verdict != lambda.Miss {
			t.Errorf("verdict %d while the worker is silent, want a Miss", a.Verdict)
		}
		setDeaf(false)
		time.Sleep(renewal)
		synctest.Wait()
		if a, _ := m.Acquire(t.Context(), req); a.Verdict != lambda.Granted || a.Reservation.Environment != idle.Environment {
			t.Errorf("%+v when the worker is back, want the idle environment", a)
		}
	})
}

func TestADeadWorkersCallsAreCountedUntilTheyMustBeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(10, nil)
		run(t, m)
		acquire(t, m, "f")
		w.mu.Lock()
		w.deaf = true
		w.mu.Unlock()
		time.Sleep(lambda.OwnerLease + 30*time.Second)
		if n := running(t, m); n != 1 {
			t.Errorf("%d counted as running while the call may still run, want 1", n)
		}
		time.Sleep(time.Minute)
		if n := running(t, m); n != 0 {
			t.Errorf("%d counted as running after the longest that it can take, want 0", n)
		}
	})
}

func TestAWorkerThatDoesNotAnswerIsNotTheManagersSilence(t *testing.T) {
	m, w := setup(1, nil)
	w.fail = lambda.ErrUnreachable
	if _, err := m.Acquire(t.Context(), request("f")); err == nil || errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("error = %v, want one that is not ErrUnreachable: the manager did answer", err)
	}
	if n := running(t, m); n != 0 {
		t.Errorf("%d counted as running, want 0", n)
	}
}
