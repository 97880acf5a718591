package acceptance_test

import (
	"slices"
	"testing"

	"berth/frontend"
	"berth/lambda"
)

// Design C: rings with attributes. C1 is with the catalog's records.

// grown is a cluster of 8 managers with 10 slots each, all of which have been used: 80 idle environments.
func grown(t *testing.T, w wiring) *cluster {
	c := newCluster(t, w, options{managers: 8, quota: 10, limit: 80, manager: patient})
	t.Cleanup(c.start())
	c.warm(80, "f")
	return c
}

// shrunk is one of 2 managers with 40 slots each.
func shrunk(t *testing.T, w wiring) *cluster {
	c := newCluster(t, w, options{managers: 2, quota: 40, limit: 80, manager: patient})
	t.Cleanup(c.start())
	c.warm(80, "f")
	return c
}

// steady makes frontends remember load as long as managers do.
func steady(cfg *frontend.Config) { cfg.ShrinkWindow = frontend.DefaultShrinkWindow }

func TestC2_FewManagersFollowMany(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := grown(t, w)
		old := c.current().Members()
		c.deploy(40, named("new", 2)...)
		seen := c.watchPredecessors()
		if cold := c.again(80, "f"); cold != 0 {
			t.Errorf("%d calls started cold", cold)
		}
		var all []lambda.ManagerID
		for _, id := range named("new", 2) {
			of := seen.of(id)
			if len(of) != 4 {
				t.Errorf("%s has the predecessors %v, want 4", id, of)
			}
			all = append(all, of...)
		}
		if slices.Sort(all); !slices.Equal(all, old) {
			t.Errorf("the predecessors are %v, want %v", all, old)
		}
	})
}

func TestC3_ManyManagersFollowFew(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := shrunk(t, w)
		there := len(c.worker.live)
		c.deploy(10, named("new", 8)...)
		seen := c.watchPredecessors()
		if cold := c.again(80, "f"); cold != 0 {
			t.Errorf("%d calls started cold", cold)
		}
		for _, id := range named("new", 8) {
			if of := seen.of(id); len(of) != 1 {
				t.Errorf("%s has the predecessors %v, want 1", id, of)
			}
		}
		given := handedTo(c.handed.take())
		if len(given) != there {
			t.Errorf("%d environments were handed over, want %d", len(given), there)
		}
		for id, to := range given {
			if len(to) != 1 {
				t.Errorf("environment %s was handed to %v", id, to)
			}
		}
	})
}

func TestC4_EqualRingsHaveOnePredecessorEach(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 4, quota: 10, limit: 40, manager: patient})
		t.Cleanup(c.start())
		c.warm(40, "f")
		c.deploy(10, named("new", 4)...)
		seen := c.watchPredecessors()
		if cold := c.again(40, "f"); cold != 0 {
			t.Errorf("%d calls started cold", cold)
		}
		for _, id := range named("new", 4) {
			if of := seen.of(id); len(of) != 1 {
				t.Errorf("%s has the predecessors %v, want 1", id, of)
			}
		}
	})
}

func TestC5_UnchangedTrafficStartsNothingCold(t *testing.T) {
	for _, c := range []struct{ managers, quota, calls int }{{8, 10, 80}, {2, 40, 80}, {8, 10, 7}, {2, 40, 12}} {
		wired(t, func(t *testing.T, w wiring) {
			k := newCluster(t, w, options{managers: c.managers, quota: c.quota, limit: 80, manager: patient, frontend: steady})
			t.Cleanup(k.start())
			k.warm(c.calls, "f")
			k.deploy(80/(10-c.managers), named("new", 10-c.managers)...) // 8 become 2, and the other way round
			for range 3 {
				if cold := k.again(c.calls, "f"); cold != 0 {
					t.Errorf("%d managers, %d calls: %d started cold", c.managers, c.calls, cold)
				}
			}
		})
	}
}

func TestC6_TheFrontendComputesThePredecessors(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := grown(t, w)
		c.deploy(40, named("new", 2)...)
		first := c.order()[0]
		want := c.history.Predecessors(unreserved, first, 80, nil)
		got := make(chan []lambda.Predecessor, 100)
		m, _ := c.manager(first)
		m.setTap(func(req lambda.AcquireRequest, a lambda.Answer) lambda.Answer {
			got <- req.Predecessors
			return a
		})
		c.again(80, "f")
		if told := <-got; !slices.Equal(told, want) || len(want) != 4 {
			t.Errorf("the manager was told %+v, want %+v", told, want)
		}
	})
}

func TestC7_OnlyADeadPredecessorsShareGoesCold(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := grown(t, w)
		m, _ := c.manager(c.order()[2])
		m.kill()
		c.deploy(40, named("new", 2)...)
		if cold := c.again(80, "f"); cold > 10 {
			t.Errorf("%d calls started cold; the dead manager had 10 environments", cold)
		}
	})
}

func TestC8_TheNewQuotaHolds(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := grown(t, w)
		c.deploy(40, named("new", 2)...)
		m, _ := c.manager(c.order()[0])
		req := request("f")
		req.Ring = 2
		for i := range 41 {
			answer, err := m.m.Acquire(t.Context(), req)
			if want := map[bool]lambda.Verdict{true: lambda.Granted, false: lambda.Throttled}[i < 40]; err != nil || answer.Verdict != want {
				t.Fatalf("call %d: %+v, %v", i+1, answer, err)
			}
		}
	})
}

func TestC9_StateTwoVersionsBackIsFound(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 4, quota: 10, limit: 40, manager: patient}) // nothing runs in the background
		c.warm(40, "f")
		c.deploy(10, named("second", 4)...)
		c.deploy(10, named("third", 4)...)
		if cold := c.again(40, "f"); cold != 0 {
			t.Errorf("%d calls started cold", cold)
		}
	})
}
