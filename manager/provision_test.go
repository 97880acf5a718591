package manager_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
	"berth/manager"
)

// wish is what a test wants provisioned for function "f"; it can change.
type wish struct {
	atomic.Pointer[manager.Provision]
}

func (w *wish) set(count int, keys ...lambda.EnvironmentKey) {
	p := &manager.Provision{
		ID:   manager.ProvisionID{Account: "000000000001", Function: "f", Qualifier: "live"},
		Pool: lambda.PoolID{Account: "000000000001"}, Changed: time.Unix(1, 0),
	}
	for _, k := range keys {
		p.Targets = append(p.Targets, manager.ProvisionTarget{Key: k, Version: &lambda.Version{Function: "f", MemoryMB: 128}, Count: count})
	}
	w.Store(p)
}

func (w *wish) list() []manager.Provision {
	if p := w.Load(); p != nil {
		return []manager.Provision{*p}
	}
	return nil
}

var (
	keyF  = request("f").Key
	keyF2 = lambda.EnvironmentKey{Account: "000000000001", Function: "f", Version: "2"}
)

// after lets virtual time pass, and what it causes happen.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestProvisionedEnvironmentsNeverEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wish
		w.set(2, keyF)
		m, machine := setupProvisioned(3, nil, w.list)
		run(t, m)
		after(100 * time.Millisecond)
		if s := m.ProvisionStatus(w.list()[0]); s.Allocated != 0 || s.Failed {
			t.Errorf("while they start: %+v", s)
		}
		after(keep + time.Hour)
		if s := m.ProvisionStatus(w.list()[0]); s.Allocated != 2 || s.Current != 2 {
			t.Errorf("an hour later: %+v", s)
		}
		acquire(t, m, "g")
		if a, err := m.Acquire(t.Context(), request("h")); err != nil || a.Verdict != lambda.Full {
			t.Errorf("a call that needs room got %+v, %v: a provisioned environment was ended for it", a, err)
		}
		if r := acquire(t, m, "f"); r.Cold {
			t.Error("a provisioned function started cold")
		}
		if load := m.Load(t.Context(), request("f").Pool); load.Running != 1 {
			t.Errorf("%d calls are counted in the pool, want g's", load.Running)
		}
		if machine.startedAhead() != 2 {
			t.Errorf("%d were started, want 2", machine.startedAhead())
		}
	})
}

func TestProvisioningMakesRoomAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wish
		m, machine := setupProvisioned(40, nil, w.list)
		run(t, m)
		synctest.Wait() // the first look sees nothing; the next is half a second later
		var idle []lambda.Reservation
		for range 20 {
			idle = append(idle, acquire(t, m, "g"))
		}
		for _, r := range idle {
			m.EnvironmentIdle(r.Environment, r.Number)
		}
		w.set(40, keyF)
		after(time.Second)
		if machine.startedAhead() != 16 {
			t.Errorf("%d start at the same time, want 16", machine.startedAhead())
		}
		after(10 * time.Second)
		if s := m.ProvisionStatus(w.list()[0]); s.Current != 40 {
			t.Errorf("%+v, want all 40 in place of g's idle ones", s)
		}
	})
}

func TestAMovedAliasReplacesOneForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wish
		w.set(2, keyF)
		m, machine := setupProvisioned(3, nil, w.list) // room for one more only
		run(t, m)
		after(5 * time.Second)
		busy := acquire(t, m, "f")
		w.set(2, keyF2)
		if s := m.ProvisionStatus(w.list()[0]); s.Allocated != 2 || s.Current != 0 {
			t.Errorf("just moved: %+v", s)
		}
		after(4 * time.Second) // less than the reservation's limit
		if s := m.ProvisionStatus(w.list()[0]); s.Current != 2 {
			t.Errorf("later: %+v", s)
		}
		if live, _, _ := machine.counts(); live != 3 {
			t.Errorf("%d live, want the two new ones and the busy old one", live)
		}
		m.EnvironmentIdle(busy.Environment, busy.Number)
		after(time.Second)
		if live, ended, _ := machine.counts(); live != 2 || ended != 2 {
			t.Errorf("%d live, %d ended: the old one outlived its call", live, ended)
		}
	})
}

func TestAFailedInitIsTriedEverLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wish
		w.set(4, keyF)
		m, machine := setupProvisioned(10, nil, w.list)
		machine.failInit = true
		run(t, m)
		after(90 * time.Second)
		first := machine.startedAhead()
		after(10 * time.Minute)
		if s := m.ProvisionStatus(w.list()[0]); !s.Failed || s.Allocated != 0 {
			t.Errorf("%+v, want it to have failed", s)
		}
		if more := machine.startedAhead() - first; first > 16 || more < 5 || more > 11 {
			t.Errorf("%d starts in 90 s, %d in the 10 min after; want about one a minute in the end", first, more)
		}
		machine.mu.Lock()
		machine.failInit = false
		machine.mu.Unlock()
		after(70 * time.Second)
		if s := m.ProvisionStatus(w.list()[0]); s.Failed || s.Current != 4 {
			t.Errorf("%+v, want it to have recovered", s)
		}
	})
}

func TestARetiredReservationThatIsNotUsedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wish
		w.set(1, keyF)
		m, machine := setupProvisioned(3, nil, w.list)
		run(t, m)
		after(5 * time.Second)
		acquire(t, m, "f") // and never used
		w.Store(nil)
		after(manager.DefaultReservationLimit + 5*time.Second)
		if live, _, released := machine.counts(); live != 0 || released != 1 {
			t.Errorf("%d live, %d released", live, released)
		}
	})
}

func TestEvictionTakesTheLeastValueAndNotTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setup(2, nil)
		for range 10 { // busy is used again and again, and is the one idle for longer in the end
			r := acquire(t, m, "busy")
			if r.Cold {
				time.Sleep(900 * time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond)
			m.EnvironmentIdle(r.Environment, r.Number)
		}
		r := acquire(t, m, "once")
		time.Sleep(100 * time.Millisecond)
		m.EnvironmentIdle(r.Environment, r.Number)
		acquire(t, m, "new")
		if len(w.ended) != 1 || w.ended[0].Function != "once" {
			t.Errorf("ended %v, want the one of once", w.ended)
		}
	})
}
