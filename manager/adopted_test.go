package manager_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
)

// adopts has the worker hand environments of function "f" to the manager when that asks.
func (w *worker) adopts(list ...lambda.Handed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range list {
		list[i].Worker = "w"
		w.live[list[i].Environment] = keyF
	}
	keys := []lambda.HandedKey{{Key: keyF, MemoryMB: 128, Environments: list}}
	w.adopted.Pools = []lambda.HandedPool{{Pool: request("f").Pool, Keys: keys}}
}

func TestAdoptedEnvironmentsThatAreNoLongerProvisionedEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wish // for nothing: it was taken back while their manager was lost
		m, machine := setupProvisioned(10, nil, w.list)
		machine.adopts(
			lambda.Handed{Environment: "idle", State: lambda.HandedIdle, Reservation: 3, Provisioned: true},
			lambda.Handed{Environment: "making", State: lambda.HandedMaking, Provisioned: true},
			lambda.Handed{Environment: "busy", State: lambda.HandedInUse, Reservation: 4, Provisioned: true},
			lambda.Handed{Environment: "other", State: lambda.HandedIdle, Reservation: 1},
		)
		machine.busy = map[lambda.EnvironmentID]bool{"busy": true}
		run(t, m)
		after(time.Second)
		if live, ended, _ := machine.counts(); live != 2 || ended != 2 {
			t.Errorf("%d live, %d ended: want the busy one and the one that was never provisioned to live", live, ended)
		}
		if n := running(t, m); n != 0 {
			t.Errorf("%d calls are counted in the pool: it has not admitted the one in a provisioned environment", n)
		}
		if r := acquire(t, m, "f"); r.Environment != "other" {
			t.Errorf("a call got %s, want the ordinary one", r.Environment)
		}
		m.EnvironmentIdle("busy", 4)
		after(time.Second)
		if live, ended, _ := machine.counts(); live != 1 || ended != 3 {
			t.Errorf("%d live, %d ended: the busy one outlived its call", live, ended)
		}
	})
}

func TestAdoptedEnvironmentsCountForWhatIsProvisioned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wish
		w.set(2, keyF)
		m, machine := setupProvisioned(10, nil, w.list)
		machine.adopts(
			lambda.Handed{Environment: "idle", State: lambda.HandedIdle, Reservation: 3, Provisioned: true},
			lambda.Handed{Environment: "busy", State: lambda.HandedInUse, Reservation: 4, Provisioned: true},
		)
		machine.busy = map[lambda.EnvironmentID]bool{"busy": true}
		run(t, m)
		after(time.Minute)
		if live, ended, _ := machine.counts(); live != 2 || ended != 0 || machine.startedAhead() != 0 {
			t.Errorf("%d live, %d ended, %d started: want the two that were there", live, ended, machine.startedAhead())
		}
	})
}

// A manager that was restarted may hear of an environment from its predecessor first, as it stood long ago: the worker knows
// better, and refuses reservations by their numbers.
func TestAWorkersWordOfLaterReservationsIsBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, machine := setup(2, nil)
		idle, busy := acquire(t, m, "f"), acquire(t, m, "f")
		m.EnvironmentIdle(idle.Environment, idle.Number)
		m.EnvironmentIdle(busy.Environment, busy.Number)
		machine.adopts(
			lambda.Handed{Environment: idle.Environment, State: lambda.HandedIdle, Reservation: 16},
			lambda.Handed{Environment: busy.Environment, State: lambda.HandedInUse, Reservation: 8},
		)
		machine.busy = map[lambda.EnvironmentID]bool{busy.Environment: true}
		run(t, m)
		after(time.Second)
		if n := running(t, m); n != 1 {
			t.Errorf("%d counted as running, want the busy one", n)
		}
		if r := acquire(t, m, "f"); r.Environment != idle.Environment || r.Number != 17 {
			t.Errorf("got reservation %d of %s, want 17 of %s", r.Number, r.Environment, idle.Environment)
		}
		m.EnvironmentIdle(busy.Environment, 8)
		if r := acquire(t, m, "f"); r.Environment != busy.Environment || r.Number != 9 {
			t.Errorf("got reservation %d of %s, want 9 of %s", r.Number, r.Environment, busy.Environment)
		}
	})
}

// The starts before one may have taken so long that another manager has the pool meanwhile.
func TestNothingIsMadeAheadForAPoolThatHasMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wish
		w.set(2, keyF)
		m, machine := setupProvisioned(10, nil, w.list)
		var once sync.Once
		machine.looked = func() {
			once.Do(func() {
				pool := request("f").Pool
				_, err := m.HandOver(t.Context(), lambda.HandOverRequest{
					Ring: 2, Successor: "n",
					Pools: []lambda.PoolHandOver{{Pool: pool, Parts: []lambda.Part{{Ring: 1, Manager: "n", To: 10_000}}}},
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		run(t, m)
		after(time.Minute)
		if n := machine.startedAhead(); n != 0 {
			t.Errorf("%d were started, although another manager has the pool", n)
		}
	})
}
