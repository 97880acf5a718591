package parked

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// thing is an item of tests.
type thing struct {
	w         *workshop
	kind      string
	number    int
	done      chan struct{}
	discarded bool
}

func (t *thing) Done() <-chan struct{} { return t.done }
func (t *thing) Bytes() int64          { return t.w.bytes }
func (t *thing) Discard() {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if t.discarded {
		t.w.t.Error("discarded twice")
	}
	t.discarded = true
	t.w.alive--
}

// workshop makes things in virtual time.
type workshop struct {
	t     *testing.T
	takes time.Duration
	bytes int64
	fail  error

	mu                                   sync.Mutex
	made, alive, making, mostMaking, ran int
}

func (w *workshop) make(ctx context.Context, kind string) (*thing, error) {
	w.mu.Lock()
	w.ran++
	w.making++
	w.mostMaking = max(w.mostMaking, w.making)
	w.mu.Unlock()
	select {
	case <-time.After(w.takes):
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.making--
	if err := errors.Join(ctx.Err(), w.fail); err != nil {
		return nil, err
	}
	w.made++
	w.alive++
	return &thing{w: w, kind: kind, number: w.made, done: make(chan struct{})}, nil
}

// run tests a running pool in virtual time, and that its end leaves nothing.
func run(t *testing.T, change func(*Config[string, *thing]), test func(p *Pool[string, *thing], w *workshop)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &workshop{t: t, takes: 20 * time.Millisecond, bytes: 1 << 20}
		cfg := Config[string, *thing]{Make: w.make, MaxBytes: 1 << 30}
		if change != nil {
			change(&cfg)
		}
		p := New(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.Run(ctx)
		}()
		taken := func() int { w.mu.Lock(); defer w.mu.Unlock(); return w.alive }
		test(p, w)
		waiting := 0
		synctest.Wait()
		for k := range p.kinds {
			waiting += p.Waiting(k)
		}
		outside := taken() - waiting
		cancel()
		<-done
		if left := taken(); left > outside+w.making {
			t.Errorf("%d are left, %d were taken", left, outside)
		}
		if _, ok := p.Take("a"); ok {
			t.Error("taken after the end")
		}
		if p.bytes != 0 {
			t.Errorf("%d bytes are counted at the end", p.bytes)
		}
	})
}

func settle(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestKeptKindsAreReady(t *testing.T) {
	run(t, nil, func(p *Pool[string, *thing], w *workshop) {
		for k := range 4 {
			p.Keep(fmt.Sprint("kind-", k))
		}
		settle(90 * time.Millisecond) // one each comes first, one after the other
		for k := range 4 {
			if n := p.Waiting(fmt.Sprint("kind-", k)); n != 1 {
				t.Errorf("kind %d: %d", k, n)
			}
		}
		settle(time.Second)
		for k := range 4 {
			if n := p.Waiting(fmt.Sprint("kind-", k)); n != least {
				t.Errorf("kind %d: %d", k, n)
			}
		}
		if w.mostMaking != 1 {
			t.Errorf("%d were made at once", w.mostMaking)
		}
		settle(time.Hour) // they stay
		if n := p.Waiting("kind-0"); n != least || w.ran != 4*least {
			t.Errorf("%d wait after an hour, %d were made", n, w.ran)
		}
	})
}

// TestTakeHandsOutOnce: nothing is handed out twice, also to many at once.
func TestTakeHandsOutOnce(t *testing.T) {
	run(t, func(c *Config[string, *thing]) { c.Makers = 3 }, func(p *Pool[string, *thing], w *workshop) {
		p.Keep("a")
		seen := map[int]bool{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				for range 50 {
					if item, ok := p.Take("a"); ok {
						mu.Lock()
						if seen[item.number] || item.discarded {
							t.Errorf("thing %d was handed out before", item.number)
						}
						seen[item.number] = true
						mu.Unlock()
					}
					time.Sleep(7 * time.Millisecond)
				}
			})
		}
		all.Wait()
		if len(seen) < 40 { // 350 ms of three makers that take 20 ms each
			t.Errorf("only %d were handed out", len(seen))
		}
	})
}

// TestSizeFollowsUse: a burst makes the pool larger, for some seconds.
func TestSizeFollowsUse(t *testing.T) {
	run(t, nil, func(p *Pool[string, *thing], w *workshop) {
		p.Keep("a")
		settle(time.Second)
		for range 7 {
			p.Take("a")
		}
		settle(time.Second)
		if n := p.Waiting("a"); n != least+7 {
			t.Errorf("after a burst of 7: %d", n)
		}
		for range 3 * DefaultMaxEach {
			p.Take("a")
		}
		settle(5 * time.Second)
		if n := p.Waiting("a"); n != DefaultMaxEach {
			t.Errorf("after a larger burst: %d", n)
		}
		settle(20 * time.Second)
		if n := p.Waiting("a"); n != least {
			t.Errorf("later: %d", n)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	run(t, func(c *Config[string, *thing]) { c.MaxBytes = 5 << 20 }, func(p *Pool[string, *thing], w *workshop) {
		w.bytes = 1 << 20
		p.Keep("a")
		settle(time.Second)
		for range 30 {
			p.Take("a")
		}
		settle(2 * time.Second)
		if n := p.Waiting("a"); n != 5 {
			t.Errorf("%d of 1 MiB in 5 MiB", n)
		}
		settle(time.Millisecond)
		p.Expect("b") // used later than a: takes its place
		settle(2 * time.Second)
		if a, b := p.Waiting("a"), p.Waiting("b"); b != least || a+b > 5 {
			t.Errorf("%d of a, %d of b", a, b)
		}
	})
}

func TestUnusedKindsAreGivenUp(t *testing.T) {
	run(t, nil, func(p *Pool[string, *thing], w *workshop) {
		p.Expect("b")
		settle(time.Second)
		if n := p.Waiting("b"); n != least {
			t.Errorf("expected: %d", n)
		}
		settle(unusedLimit + 2*time.Second)
		if n := p.Waiting("b"); n != 0 || len(p.kinds) != 0 {
			t.Errorf("unused: %d, %d kinds", n, len(p.kinds))
		}
		p.Keep("c")
		settle(time.Second)
		p.Refuse("c")
		settle(time.Second)
		if _, ok := p.Take("c"); ok || p.Waiting("c") != 0 {
			t.Error("a refused kind was handed out")
		}
		settle(time.Hour)
		if p.Waiting("c") != 0 {
			t.Error("a refused kind was made again")
		}
	})
}

// TestEndedIsDropped: what ends while it waits is discarded and replaced, never handed out.
func TestEndedIsDropped(t *testing.T) {
	run(t, nil, func(p *Pool[string, *thing], w *workshop) {
		p.Keep("a")
		settle(time.Second)
		p.mu.Lock()
		first, second := p.kinds["a"].waiting[0].item, p.kinds["a"].waiting[1].item
		p.mu.Unlock()
		close(first.done)
		item, ok := p.Take("a") // before or after the pool noticed
		if !ok || item != second {
			t.Errorf("got %v, %t", item, ok)
		}
		settle(time.Second)
		if !first.discarded || second.discarded {
			t.Error("the wrong one was discarded")
		}
		if n := p.Waiting("a"); n != least+1 {
			t.Errorf("%d wait", n)
		}
	})
}

func TestFailuresPause(t *testing.T) {
	run(t, nil, func(p *Pool[string, *thing], w *workshop) {
		w.fail = errors.New("broken")
		p.Keep("a")
		settle(10 * time.Minute)
		if w.ran < 5 || w.ran > 20 {
			t.Errorf("tried %d times in ten minutes", w.ran)
		}
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		settle(2 * lastPause)
		if n := p.Waiting("a"); n != least {
			t.Errorf("%d wait once it works", n)
		}
	})
}

// TestHold: while somebody holds, only what ran out is made.
func TestHold(t *testing.T) {
	run(t, nil, func(p *Pool[string, *thing], w *workshop) {
		p.Keep("a")
		settle(time.Second)
		if p.Busy() {
			t.Error("busy before")
		}
		release := p.Hold()
		if !p.Busy() {
			t.Error("not busy while held")
		}
		p.Take("a")
		settle(time.Second)
		if n := p.Waiting("a"); n != 1 {
			t.Errorf("while held: %d", n)
		}
		p.Take("a")
		settle(100 * time.Millisecond)
		if n := p.Waiting("a"); n != 1 {
			t.Errorf("empty while held: %d", n)
		}
		release()
		if !p.Busy() {
			t.Error("not busy just after")
		}
		settle(time.Second)
		if p.Busy() {
			t.Error("busy long after")
		}
		if n := p.Waiting("a"); n < least {
			t.Errorf("released: %d", n)
		}
	})
}
