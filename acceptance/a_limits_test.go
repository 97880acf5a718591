package acceptance_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"berth/frontend"
	"berth/lambda"
)

// Design A: a limit on concurrent executions that ramps by adding managers.

func TestA1_ConcurrencyOneUsesOnlyTheManagerAtThePoolsHash(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 4, quota: 10, limit: 80})
		for n := range 20 {
			c.worker.endCall(c.mustBegin(n%4, "f"))
		}
		events := c.timeline.take()
		if len(events) < 20 {
			t.Fatalf("20 calls made the requests %q only", events)
		}
		for _, event := range events {
			if want := string(c.order()[0]); event != "create "+want && event != "start "+want {
				t.Fatalf("%q happened, want only requests to %s", event, want)
			}
		}
	})
}

func TestA2_TheEleventhCallSucceedsThroughOneMoreManager(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, quota: 10, limit: 80})
		c.mustBeginN(10, 0, "f")
		if c.size(0) != 1 {
			t.Fatalf("|S| = %d after 10 calls, want 1", c.size(0))
		}
		c.mustBegin(0, "f")
		if c.size(0) != 2 || c.worker.countOf(c.order()[0]) != 10 || c.worker.countOf(c.order()[1]) != 1 {
			t.Errorf("|S| = %d, want 2, with 10 calls on the first manager and 1 on the second", c.size(0))
		}
	})
}

func TestA3_TheCallAboveTheLimitIsThrottled(t *testing.T) {
	for function, reason := range map[string]string{
		"f":        lambda.ReasonConcurrency,
		"reserved": lambda.ReasonReservedConcurrency,
	} {
		wired(t, func(t *testing.T, w wiring) {
			c := newCluster(t, w, options{managers: 8, quota: 10, limit: 20})
			if function == "reserved" {
				c.setLimit(lambda.PoolID{Account: account, Function: "reserved"}, 20)
			}
			c.mustBeginN(20, 0, function)
			before := c.size(0)
			c.wantThrottled(0, function, reason)
			if c.size(0) != before {
				t.Errorf("|S| went from %d to %d", before, c.size(0))
			}
		})
	}
}

func TestA4_ADeadManagerIsReplacedByAnAddedOne(t *testing.T) {
	for name, limit := range map[string]int{"the limit needs several managers": 80, "the limit needs one manager": 5} {
		t.Run(name, func(t *testing.T) {
			wired(t, func(t *testing.T, w wiring) {
				c := newCluster(t, w, options{managers: 8, quota: 10, limit: limit})
				c.mustBegin(0, "f")
				c.worker.endAll()
				c.managers[c.order()[0]].die()
				c.mustBegin(0, "f")
				if c.worker.countOf(c.order()[1]) != 1 {
					t.Error("the call does not run on the next manager")
				}
				c.worker.endAll()
			})
		})
	}
}

// Whether the manager has granted something before it died is unknown. Its reservation runs out; the call does not wait for that.
func TestA4_AManagerThatDiesWhileItIsAskedIsReplaced(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, quota: 10, limit: 80})
		first := c.managers[c.order()[0]]
		first.setTap(func(_ lambda.AcquireRequest, answer lambda.Answer) lambda.Answer {
			first.die()
			return answer
		})
		c.mustBegin(0, "f")
		if first.alive() || c.worker.countOf(c.order()[1]) != 1 {
			t.Error("the call does not run on the next manager")
		}
	})
}

func TestA5_NeverMoreThanTheLimitRun(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		const limit = 25
		c := newCluster(t, w, options{managers: 5, frontends: 6, quota: 10, limit: limit})
		var wg sync.WaitGroup
		for i := range 6 {
			for range 20 {
				wg.Go(func() {
					for range w.rounds() {
						k := c.begin(i, "f")
						time.Sleep(rand.N(5*time.Millisecond) + w.lingers())
						select {
						case <-k.done:
						default:
							c.worker.endCall(k)
						}
					}
				})
			}
		}
		wg.Wait()
		if c.worker.most > limit {
			t.Errorf("%d ran at once, the limit is %d", c.worker.most, limit)
		}
		if w.http { // to give back what answers that came too late on a busy machine have left
			defer c.start()()
		}
		for n := range limit { // and the limit is reached, whatever the frontends believe by now
			if c.belowLimit(n%6, "f") == nil {
				return
			}
		}
		c.wantThrottled(0, "f", lambda.ReasonConcurrency)
	})
}

func TestA6_SShrinksWhenTheLoadFalls(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, quota: 10, limit: 80, frontend: func(cfg *frontend.Config) {
			cfg.ShrinkWindow = w.d(10 * time.Second)
		}})
		defer c.start()()
		c.mustBeginN(35, 0, "f")
		if c.size(0) != 4 {
			t.Fatalf("|S| = %d with 35 running, want 4", c.size(0))
		}
		c.worker.end(30, "")
		kept := c.worker.count()
		for range 15 { // light traffic goes on
			w.sleep(time.Second)
			k := c.mustBegin(0, "f")
			c.worker.endCall(k)
		}
		if !w.http && c.size(0) != 1 { // in virtual time what is due has happened
			t.Errorf("|S| = %d a window after the load fell, want 1", c.size(0))
		}
		w.eventually(t, "|S| is 1 after the load fell", func() bool { return c.size(0) == 1 }, func() {
			c.worker.endCall(c.mustBegin(0, "f"))
			w.sleep(time.Second)
		})
		c.timeline.take()
		c.mustBegin(0, "f")
		for _, event := range c.timeline.take() {
			if event != "create "+string(c.order()[0]) && event != "start "+string(c.order()[0]) {
				t.Errorf("%q after shrinking to one manager", event)
			}
		}
		if c.worker.count() != kept+1 {
			t.Errorf("%d run, want the %d that ran on removed managers to go on", c.worker.count(), kept)
		}
	})
}

func TestA7_ShrinkingFollowsTheManagersReports(t *testing.T) {
	for name, tc := range map[string]struct{ reported, want int }{
		"a high report never shrinks": {10, 2},
		"a low report shrinks":        {0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			wired(t, func(t *testing.T, w wiring) {
				c := newCluster(t, w, options{managers: 4, quota: 10, limit: 40})
				defer c.start()()
				c.mustBeginN(11, 0, "f")
				c.worker.endAll()
				for _, m := range c.managers {
					m.setTap(func(_ lambda.AcquireRequest, a lambda.Answer) lambda.Answer {
						a.Load.Running = tc.reported
						return a
					})
				}
				for range 400 {
					k := c.mustBegin(0, "f")
					c.worker.endCall(k)
					w.sleep(100 * time.Millisecond)
				}
				if c.size(0) != tc.want {
					t.Errorf("|S| = %d, want %d", c.size(0), tc.want)
				}
			})
		})
	}
}

func TestA8_APoolAtItsCapThrottlesNoOther(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 3, quota: 10, limit: 100})
		c.setLimit(lambda.PoolID{Account: account, Function: "reserved"}, 5)
		c.setLimit(lambda.PoolID{Account: account, Function: "reserved-too"}, 7)
		c.mustBeginN(5, 0, "reserved")
		c.wantThrottled(0, "reserved", lambda.ReasonReservedConcurrency)
		c.mustBeginN(7, 0, "reserved-too")
		c.mustBeginN(50, 0, "f")
	})
}

func TestA9_SwingingLoadChangesSOncePerCoolDown(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		const coolDown = 5 * time.Second
		c := newCluster(t, w, options{managers: 8, quota: 10, limit: 80, frontend: func(cfg *frontend.Config) {
			cfg.CoolDown, cfg.ShrinkWindow = w.d(coolDown), w.d(2*time.Second)
		}})
		defer c.start()()
		var changes []struct{ after, before time.Time } // each happened in between
		looked := time.Now()
		size := c.size(0)
		look := func() {
			began := time.Now()
			if now := c.size(0); now != size {
				size = now
				changes = append(changes, struct{ after, before time.Time }{looked, time.Now()})
			}
			looked = began
		}
		for began := time.Now(); time.Since(began) < w.d(time.Minute) || len(changes) < 2 && time.Since(began) < patience; {
			for _, load := range []int{12, 3} {
				c.mustBeginN(load-min(load, c.worker.count()), 0, "f")
				c.worker.end(c.worker.count()-load, "")
				for range 12 { // longer than the window, so that old reports fade
					w.sleep(250 * time.Millisecond)
					look()
				}
			}
		}
		for i := 1; i < len(changes); i++ {
			if gap := changes[i].before.Sub(changes[i-1].after); gap < w.d(coolDown) {
				t.Errorf("S changed twice within %v", gap)
			}
		}
		if len(changes) < 2 {
			t.Errorf("S changed %d times in a minute of swings, want some", len(changes))
		}
	})
}

func TestA10_ALoweredLimitKillsNothing(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 4, quota: 10, limit: 30})
		c.mustBeginN(30, 0, "f")
		c.setLimit(unreserved, 10)
		if c.worker.count() != 30 {
			t.Fatalf("%d run after the limit was lowered, want all 30", c.worker.count())
		}
		for c.worker.count() > 10 {
			c.wantThrottled(0, "f", lambda.ReasonConcurrency)
			c.worker.end(1, "")
			if n := c.worker.countOf(c.order()[0]); n < 10 {
				c.mustBeginN(10-n, 0, "f") // the first manager holds the whole lowered limit
			}
		}
	})
}

func TestA11_BelowTheLimitNoCallIsThrottled(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		const limit = 30
		c := newCluster(t, w, options{managers: 7, frontends: 3, quota: 4, limit: limit})
		if w.http {
			defer c.start()()
		}
		var wg sync.WaitGroup
		for i := range limit { // never more than the limit are under way at once
			wg.Go(func() {
				for range 4 * w.rounds() {
					k := c.belowLimit(i%3, "f")
					if k == nil {
						return
					}
					time.Sleep(rand.N(3 * time.Millisecond))
					c.worker.endCall(k)
				}
			})
		}
		wg.Wait()
	})
}
