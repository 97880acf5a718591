package acceptance_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/frontend"
	"berth/lambda"
	"berth/manager"
)

// Design E: sandbox reuse by random draws.

// wide makes a cluster whose frontends believe in an S of all its managers, so that draws have a choice.
func wide(t *testing.T, w wiring, managers int, edit func(*frontend.Config)) *cluster {
	c := newCluster(t, w, options{managers: managers, frontends: 2, quota: 10, limit: 10 * managers, frontend: edit})
	adopt(c)
	return c
}

// adopt gives every frontend the largest S, by the way B8 shows.
func adopt(c *cluster) {
	fullFirst(c)
	for i := range c.frontends {
		c.peers[i].script = func(context.Context) frontend.PeerLoad { return frontend.PeerLoad{MaxSize: 1 << 20, Complete: true} }
		k := c.mustBegin(i, "warm-up")
		c.worker.endCall(k)
		c.peers[i].script = nil
	}
	for _, m := range c.managers {
		m.tap.Store(nil)
	}
	c.timeline.take()
}

// makeIdle leaves one idle environment of function on the given manager.
func (c *cluster) makeIdle(function string, owner lambda.ManagerID) {
	c.t.Helper()
	answer, err := c.managers[owner].m.Acquire(c.t.Context(), request(function))
	if err != nil || answer.Verdict != lambda.Granted {
		c.t.Fatalf("making an idle environment: %+v, %v", answer, err)
	}
	c.managers[owner].m.EnvironmentIdle(answer.Reservation.Environment, answer.Reservation.Number)
	c.timeline.take()
}

func request(function string) lambda.AcquireRequest {
	v := &lambda.Version{Account: account, Function: function, Number: lambda.Latest, ConfigID: "c1", MemoryMB: 128}
	key := lambda.EnvironmentKey{Account: account, Function: function, Version: v.Number, ConfigID: v.ConfigID, Runtime: "r1"}
	return lambda.AcquireRequest{Ring: 1, Pool: unreserved, Key: key, Version: v}
}

// favour makes frontends draw the managers in the given order.
func favour(order ...lambda.ManagerID) func(*frontend.Config) {
	return func(cfg *frontend.Config) {
		cfg.Weight = func(_ lambda.PoolID, id lambda.ManagerID) float64 {
			if i := slices.Index(order, id); i >= 0 {
				return math.Pow(1e9, float64(len(order)-i))
			}
			return 1
		}
	}
}

func kinds(events []string) string {
	var out []string
	for _, e := range events {
		kind, _, _ := strings.Cut(e, " ")
		out = append(out, kind)
	}
	return strings.Join(out, " ")
}

func TestE1_AnIdleMatchOnTheFirstDrawIsReused(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := wide(t, w, 4, favour("manager-2"))
		c.makeIdle("f", "manager-2")
		made := c.worker.made
		k := c.mustBegin(0, "f")
		if got := kinds(c.timeline.take()); got != "reuse" || c.worker.made != made {
			t.Errorf("events %q and %d environments made, want one reuse and none", got, c.worker.made-made)
		}
		id := k.environment.Load()
		c.worker.endCall(k)
		if again := c.mustBegin(0, "f"); again.environment.Load() != id {
			t.Error("the second call ran in another environment")
		}
	})
}

func TestE2_AMissThenAHitAreTwoRequests(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := wide(t, w, 4, favour("manager-1", "manager-3"))
		c.makeIdle("f", "manager-3")
		c.mustBegin(0, "f")
		want := []string{"reuse manager-1", "reuse manager-3"}
		if got := c.timeline.take(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestE3_TwoMissesThenOneIsMadeOnTheThirdDrawn(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := wide(t, w, 4, favour("manager-3", "manager-0", "manager-2"))
		c.mustBegin(0, "f")
		want := []string{"reuse manager-3", "reuse manager-0", "create manager-2", "start manager-2"}
		if got := c.timeline.take(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestE4_TheLastRequestPrefersAnExistingEnvironment(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := wide(t, w, 4, favour("manager-3", "manager-0", "manager-2"))
		c.makeIdle("f", "manager-2")
		c.mustBegin(0, "f")
		want := []string{"reuse manager-3", "reuse manager-0", "create manager-2"}
		if got := c.timeline.take(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q and no start", got, want)
		}
	})
}

func TestE5_AReuseOnlyRequestNeverProvisions(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 1, quota: 10, limit: 10})
		req := request("f")
		req.ReuseOnly = true
		answer, err := c.managers["manager-0"].Acquire(t.Context(), req)
		if err != nil || answer.Verdict != lambda.Miss || c.worker.made != 0 {
			t.Errorf("answer %+v, %v, %d made; want a Miss and nothing made", answer, err, c.worker.made)
		}
	})
}

func TestE6_DrawsAreEven(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := wide(t, w, 10, nil)
		first := map[string]int{}
		draws := w.draws()
		for range draws {
			c.worker.endCall(c.mustBegin(0, "f"))
			first[strings.Fields(c.timeline.take()[0])[1]]++
		}
		for id, n := range first {
			if share := float64(n) / float64(draws); math.Abs(share-0.1) > 0.01*w.tolerance() {
				t.Errorf("%s was drawn first %.1f %% of the time, want 10 ± 1", id, 100*share)
			}
		}
		if len(first) != 10 {
			t.Errorf("%d managers were drawn, want 10", len(first))
		}
	})
}

func TestE7_WeightedDrawsHonourTheirWeights(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		weights := map[lambda.ManagerID]float64{"manager-0": 1, "manager-1": 2, "manager-2": 3, "manager-3": 4}
		c := wide(t, w, 4, func(cfg *frontend.Config) {
			cfg.Weight = func(_ lambda.PoolID, id lambda.ManagerID) float64 { return weights[id] }
		})
		first := map[lambda.ManagerID]int{}
		draws := w.draws()
		for range draws {
			c.worker.endCall(c.mustBegin(0, "f"))
			first[lambda.ManagerID(strings.Fields(c.timeline.take()[0])[1])]++
		}
		for id, weight := range weights {
			if share, want := float64(first[id])/float64(draws), weight/10; math.Abs(share-want) > 0.015*w.tolerance() {
				t.Errorf("%s was drawn first %.3f of the time, want %.1f", id, share, want)
			}
		}
	})
}

func TestE8_ASlowManagerUsesUpTheTimeBudget(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		edit := favour("manager-0", "manager-1", "manager-2")
		c := wide(t, w, 4, func(cfg *frontend.Config) { edit(cfg); cfg.ReuseBudget = 2 * time.Millisecond })
		c.managers["manager-0"].hold.Store(int64(3 * time.Millisecond))
		c.mustBegin(0, "f")
		want := []string{"reuse manager-0", "create manager-1", "start manager-1"}
		if got := c.timeline.take(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestE9_OneIdleEnvironmentGoesToOneOfAHundredRacers(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 1, frontends: 4, quota: 200, limit: 200})
		c.makeIdle("f", "manager-0")
		made := c.worker.made
		var wg sync.WaitGroup
		for n := range 100 {
			wg.Go(func() { c.mustBegin(n%4, "f") })
		}
		wg.Wait()
		if c.worker.made-made != 99 || c.worker.count() != 100 {
			t.Errorf("%d environments made for %d calls, want 99 for 100", c.worker.made-made, c.worker.count())
		}
	})
}

func TestE10_AnAbandonedReservationIsIdleAgain(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 1, quota: 1, limit: 1, manager: func(cfg *manager.Config) {
			if w.http {
				cfg.ReservationLimit = time.Second // real time is dear
			}
		}})
		lost, err := c.managers["manager-0"].Acquire(t.Context(), request("f")) // its frontend dies here
		if err != nil || lost.Verdict != lambda.Granted {
			t.Fatal(lost, err)
		}
		c.wantThrottled(0, "f", lambda.ReasonConcurrency)
		defer c.start()() // only now: nothing is given back before, however long that took
		if !w.http {
			time.Sleep(manager.DefaultReservationLimit + 2*time.Second)
		}
		k := c.begin(0, "f")
		w.eventually(t, "the reservation is given back", func() bool { return k.err == nil || !w.http }, func() {
			time.Sleep(10 * time.Millisecond)
			k = c.begin(0, "f")
		})
		if got := k.environment.Load(); got != lost.Reservation.Environment {
			t.Errorf("the call ran in %v, want the abandoned %v", got, lost.Reservation.Environment)
		}
	})
}

func TestE11_FrontendsKeepNoEnvironmentState(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 4, quota: 10, limit: 40})
		k := c.mustBegin(0, "f")
		id := k.environment.Load()
		c.worker.endCall(k)
		c.addFrontend(nil) // the restarted one
		if got := c.mustBegin(1, "f").environment.Load(); got != id {
			t.Errorf("after a restart of the frontend the call ran in %v, want the idle %v", got, id)
		}
	})
}

func TestE12_OnlyAnEqualKeyIsReused(t *testing.T) {
	base := request("f").Key
	for name, change := range map[string]func(*lambda.EnvironmentKey){
		"account":         func(k *lambda.EnvironmentKey) { k.Account = "000000000002" },
		"function":        func(k *lambda.EnvironmentKey) { k.Function = "g" },
		"version":         func(k *lambda.EnvironmentKey) { k.Version = "1" },
		"configuration":   func(k *lambda.EnvironmentKey) { k.ConfigID = "c2" },
		"runtime version": func(k *lambda.EnvironmentKey) { k.Runtime = "r2" },
		"tenant":          func(k *lambda.EnvironmentKey) { k.Tenant = "blue" },
	} {
		wired(t, func(t *testing.T, w wiring) {
			c := newCluster(t, w, options{managers: 1, quota: 10, limit: 10})
			c.makeIdle("f", "manager-0")
			req := request("f")
			change(&req.Key)
			req.ReuseOnly = true
			if answer, _ := c.managers["manager-0"].Acquire(t.Context(), req); answer.Verdict != lambda.Miss {
				t.Errorf("another %s: verdict %d, want a Miss", name, answer.Verdict)
			}
			req.Key = base
			if answer, _ := c.managers["manager-0"].Acquire(t.Context(), req); answer.Verdict != lambda.Granted {
				t.Errorf("the equal key: verdict %d, want Granted", answer.Verdict)
			}
		})
	}
}
