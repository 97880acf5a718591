package acceptance_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/frontend"
	"berth/lambda"
)

// Design B: frontends that talk to one another about load.

func TestB1_WithoutAThrottleNothingIsAsked(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 4, quota: 10, limit: 80})
		defer c.start()()
		for n := range 10 {
			c.mustBegin(n%4, "f")
		}
		w.sleep(30 * time.Second)
		if events := c.timeline.take(); slices.Contains(events, "query") {
			t.Errorf("a load query was sent: %v", events)
		}
	})
}

func TestB2_TheQueryGoesOutBeforeSGrows(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 2, quota: 10, limit: 80})
		c.mustBeginN(10, 0, "f")
		c.timeline.take()
		c.mustBegin(0, "f")
		first, second := string(c.order()[0]), string(c.order()[1])
		want := []string{"create " + first, "query", "create " + second, "start " + second}
		if got := c.timeline.take(); !slices.Equal(got, want) {
			t.Errorf("order of events %q, want %q", got, want)
		}
	})
}

func TestB3_SGrowsToWhatTheSumNeeds(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 4, quota: 10, limit: 80})
		for i := range 4 {
			c.mustBeginN(min(3, 10-3*i), i, "f")
		}
		c.mustBeginN(2, 3, "f") // 12 in flight: the 11th was throttled first
		if c.size(3) != 2 {
			t.Errorf("|S| = %d with 4 × 3 in flight, want 2", c.size(3))
		}
	})
}

// fullFirst makes the pool's first manager throttle whatever it is asked, as if others had filled it.
func fullFirst(c *cluster) {
	c.managers[c.order()[0]].setTap(func(_ lambda.AcquireRequest, a lambda.Answer) lambda.Answer {
		a.Verdict, a.Load.Running = lambda.Throttled, a.Load.Quota
		return a
	})
}

func TestB4_ASmallSumDoesNotGrowS(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 4, quota: 10, limit: 80})
		fullFirst(c)
		c.mustBeginN(3, 0, "f")
		if c.size(0) != 1 || c.peers[0].queries.Load() == 0 {
			t.Errorf("|S| = %d after %d queries that said 0 and an own load of 3, want 1", c.size(0), c.peers[0].queries.Load())
		}
	})
}

func TestB5_FourThrottledAtOnceGrowOnceByTheSum(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 4, quota: 10, limit: 80})
		for i := range 4 {
			c.peers[i].script = func(context.Context) frontend.PeerLoad {
				time.Sleep(2 * time.Millisecond) // the others' queries overlap
				return c.peers[i].sum(unreserved)
			}
		}
		for i := range 4 {
			c.mustBeginN([]int{3, 3, 2, 2}[i], i, "f")
		}
		var wg sync.WaitGroup
		for i := range 4 {
			for range 2 {
				wg.Go(func() { c.mustBegin(i, "f") })
			}
		}
		wg.Wait()
		total := c.worker.count()
		for i := range 4 {
			if want := (total + 9) / 10; c.size(i) != want {
				t.Errorf("frontend %d: |S| = %d with %d in flight, want %d", i, c.size(i), total, want)
			}
			if most := c.peers[i].most.Load(); most != 1 {
				t.Errorf("frontend %d had %d queries under way at once, want 1", i, most)
			}
		}
	})
}

func TestB6_AHangingFrontendDelaysByThePollLimit(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 2, quota: 10, limit: 80})
		c.peers[0].script = func(ctx context.Context) frontend.PeerLoad { <-ctx.Done(); return frontend.PeerLoad{} }
		c.mustBeginN(10, 0, "f")
		began := time.Now()
		c.mustBegin(0, "f")
		if took := time.Since(began); took < frontend.DefaultPollLimit || took > frontend.DefaultPollLimit+w.noise() {
			t.Errorf("the decision took %v, want the poll limit %v", took, frontend.DefaultPollLimit)
		}
	})
}

func TestB7_WithAllOthersDownItBehavesAsA(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 4, quota: 10, limit: 80})
		c.peers[0].script = func(context.Context) frontend.PeerLoad { return frontend.PeerLoad{} }
		fullFirst(c)
		c.mustBegin(0, "f")
		if c.size(0) != 2 {
			t.Errorf("|S| = %d after a throttle nobody could explain, want one more manager", c.size(0))
		}
	})
}

func TestB8_ANewFrontendAdoptsTheOthersS(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 2, quota: 10, limit: 80})
		c.mustBeginN(45, 0, "f")
		c.addFrontend(nil)
		c.mustBegin(2, "f")
		if c.size(2) != c.size(0) || c.size(2) != 5 {
			t.Errorf("|S| = %d at the new frontend, %d at the old one, want 5 at both", c.size(2), c.size(0))
		}
	})
}

func TestB9_WhateverIsReportedTheLimitHolds(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 8, frontends: 2, quota: 10, limit: 25})
		c.peers[0].script = func(context.Context) frontend.PeerLoad {
			return frontend.PeerLoad{InFlight: 1_000_000, MaxSize: 1_000_000, Complete: true}
		}
		c.mustBeginN(25, 0, "f")
		c.wantThrottled(0, "f", lambda.ReasonConcurrency)
		if c.size(0) > 3 {
			t.Errorf("|S| = %d, want at most the 3 managers that have a quota", c.size(0))
		}
	})
}
