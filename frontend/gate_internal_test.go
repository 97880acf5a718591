package frontend

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
)

// busy is a machine without idle time.
func busy() float64 { return 0 }

// took is a call's outcome.
func took(d time.Duration) *lambda.Outcome { return &lambda.Outcome{Duration: d} }

// gateOfShortCalls is a gate that has seen a short call.
func gateOfShortCalls(t *testing.T, floor int, idle func() float64) *gate {
	t.Helper()
	g := newGate(floor, idle)
	if err := g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.leave(took(100 * time.Microsecond))
	return g
}

// looks gives what others change under the lock.
func (g *gate) looks() (running, waiting, limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running, len(g.waiting), g.limit
}

// calls starts n calls, one after the other, that take d each, and returns a function that waits for them and gives the order in which they began.
func calls(t *testing.T, g *gate, n int, d time.Duration) func() []int {
	var mu sync.Mutex
	var order []int
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := g.enter(context.Background()); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			time.Sleep(d)
			g.leave(took(d))
		})
		synctest.Wait()
	}
	return func() []int {
		all.Wait()
		return order
	}
}

func TestShortCallsWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateOfShortCalls(t, 4, busy)
		began := time.Now()
		order := calls(t, g, 20, 500*time.Microsecond)
		if running, waiting, _ := g.looks(); running != 4 || waiting != 16 {
			t.Errorf("%d run and %d wait", running, waiting)
		}
		order()
		if d := time.Since(began); d != 5*500*time.Microsecond {
			t.Errorf("20 calls, four at a time, took %v", d)
		}
		if running, waiting, limit := g.looks(); running != 0 || waiting != 0 || limit != 4 {
			t.Errorf("afterwards %d run, %d wait, limit %d", running, waiting, limit)
		}
		if got := calls(t, gateOfShortCalls(t, 1, busy), 20, 500*time.Microsecond)(); !slices.IsSorted(got) {
			t.Errorf("not first come, first served: %v", got)
		}
	})
}

func TestCallsThatAreNotShortDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4, busy)
		for range 2 { // of unknown length, then of a known one
			wait := calls(t, g, 50, time.Second)
			if running, waiting, _ := g.looks(); running != 50 || waiting != 0 {
				t.Errorf("%d run and %d wait", running, waiting)
			}
			wait()
		}
	})
}

// A function that is quick once and slow ever after has its calls wait some milliseconds, and not at all when what was quick is forgotten.
func TestGateOpensWhenNothingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateOfShortCalls(t, 4, busy)
		began := time.Now()
		order := calls(t, g, 100, time.Minute)
		for {
			if _, waiting, _ := g.looks(); waiting == 0 {
				break
			}
			time.Sleep(stall)
			synctest.Wait()
		}
		if d := time.Since(began); d > 6*stall {
			t.Errorf("the last of 100 began after %v", d)
		}
		order()
		for range 2 * gateWindow {
			if err := g.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
			g.leave(took(time.Second))
		}
		order = calls(t, g, 100, time.Second)
		if running, _, _ := g.looks(); running != 100 {
			t.Errorf("%d of 100 run at once", running)
		}
		order()
	})
}

// Calls that wait for something else than processors are not held up, and the limit falls again when processors are short.
func TestGateFollowsTheProcessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var share atomic.Int64 // in percent
		share.Store(100)
		g := gateOfShortCalls(t, 4, func() float64 { return float64(share.Load()) / 100 })
		crowd := func(d time.Duration) (limit int) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			var all sync.WaitGroup
			for range 64 {
				all.Go(func() {
					for ctx.Err() == nil && g.enter(ctx) == nil {
						time.Sleep(900 * time.Microsecond)
						g.leave(took(900 * time.Microsecond))
					}
				})
			}
			all.Wait()
			_, _, limit = g.looks()
			return limit
		}
		if limit := crowd(6 * gateSample); limit != 64 {
			t.Errorf("with idle processors 64 callers have a limit of %d", limit)
		}
		share.Store(0)
		if limit := crowd(20 * gateSample); limit != 4 {
			t.Errorf("with busy processors the limit stays %d", limit)
		}
		if running, waiting, _ := g.looks(); running != 0 || waiting != 0 {
			t.Errorf("%d run and %d wait", running, waiting)
		}
	})
}

func TestWhoLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateOfShortCalls(t, 1, busy)
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- g.enter(ctx) }()
		synctest.Wait()
		next := make(chan error, 1)
		go func() { next <- g.enter(t.Context()) }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		g.leave(nil)
		if err := <-next; err != nil {
			t.Error(err)
		}
		// Whose turn came as it left passes it on.
		turn := make(chan struct{}, 1)
		g.mu.Lock()
		g.waiting = append(g.waiting, turn)
		g.mu.Unlock()
		g.leave(nil)
		g.giveUp(turn)
		if running, waiting, _ := g.looks(); running != 0 || waiting != 0 {
			t.Errorf("%d run and %d wait", running, waiting)
		}
	})
}

func TestGatesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{Idle: busy, ShrinkWindow: time.Minute})
		version := &lambda.Version{}
		g := f.gateOf(version, &lambda.Invocation{})
		if g == nil || f.gateOf(version, &lambda.Invocation{}) != g || f.gateOf(&lambda.Version{Number: "1"}, &lambda.Invocation{}) == g {
			t.Fatal("each version has one gate")
		}
		if f.gateOf(version, &lambda.Invocation{Tenant: "blue"}) != nil || New(Config{}).gateOf(version, &lambda.Invocation{}) != nil {
			t.Error("tenants, and frontends that know nothing of the processors, have no gates")
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go f.Run(ctx)
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if _, kept := f.gates.Load(version); !kept {
			t.Error("a gate was forgotten while a call ran")
		}
		g.leave(nil)
		time.Sleep((gateKept + 5) * shrinkInterval)
		if _, kept := f.gates.Load(version); kept {
			t.Error("a gate without calls was kept")
		}
		var none *gate
		if err := none.enter(t.Context()); err != nil {
			t.Error(err)
		}
		none.leave(nil)
	})
}

func BenchmarkGate(b *testing.B) {
	g := newGate(8, busy)
	out := took(100 * time.Microsecond)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := g.enter(ctx); err != nil {
			b.Fatal(err)
		}
		g.leave(out)
	}
}
