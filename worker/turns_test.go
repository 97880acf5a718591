package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
	"berth/sandbox"
)

// burning is a sandbox that uses processor time, one part in share of what goes by.
type burning struct {
	began time.Time
	share int
}

func (b burning) Usage(context.Context) (sandbox.Usage, error) {
	return sandbox.Usage{CPUNanoseconds: int64(time.Since(b.began)) / int64(b.share)}, nil
}

// asleep is one that uses none.
type asleep struct{}

func (asleep) Usage(context.Context) (sandbox.Usage, error) { return sandbox.Usage{}, nil }

// starter starts things in virtual time.
type starter struct {
	*turns
	t   *testing.T
	all sync.WaitGroup

	mu            sync.Mutex
	order         []string
	running, most int
}

func newStarter(t *testing.T, most int, idle float64) *starter {
	return &starter{t: t, turns: newTurns(most, func() float64 { return idle }, func(f func()) { go f() })}
}

// start begins a start that takes d in a sandbox, with a turn or without.
func (s *starter) start(account lambda.AccountID, name string, ahead bool, d time.Duration, sleeps bool) {
	s.all.Go(func() {
		turn, err := s.enter(context.Background(), &lambda.Version{Account: account, Function: name}, ahead)
		if err != nil {
			s.t.Error(err)
			return
		}
		defer turn.leave()
		s.mu.Lock()
		s.order = append(s.order, name)
		s.running++
		s.most = max(s.most, s.running)
		s.mu.Unlock()
		if sleeps {
			turn.uses(asleep{})
		} else {
			turn.uses(burning{time.Now(), 20})
		}
		time.Sleep(d)
		s.mu.Lock()
		s.running--
		s.mu.Unlock()
	})
	time.Sleep(time.Millisecond) // so that no two end at the same instant
}

// runs is how many run now.
func (s *starter) runs() int {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// finish waits for all, and that nothing is left.
func (s *starter) finish() []string {
	s.t.Helper()
	s.all.Wait()
	time.Sleep(2 * turnLook)
	synctest.Wait()
	s.turns.mu.Lock()
	defer s.turns.mu.Unlock()
	if len(s.held)+len(s.waiting) != 0 || s.watching {
		s.t.Errorf("left: %d turns, %d waiting, watching %t", len(s.held), len(s.waiting), s.watching)
	}
	return s.order
}

func TestStartsThatUseProcessorsWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter(t, 4, 0)
		began := time.Now()
		for i := range 40 {
			s.start("1", fmt.Sprintf("%02d", i), false, 500*time.Millisecond, false)
		}
		if order := s.finish(); !slices.IsSorted(order) {
			t.Errorf("not first come, first served: %v", order)
		}
		if s.most != 4 {
			t.Errorf("%d ran at once", s.most)
		}
		if d := time.Since(began).Round(time.Second); d != 5*time.Second {
			t.Errorf("40 starts of half a second took %v", d)
		}
	})
}

func TestStartsThatOnlyWaitHoldNobodyUp(t *testing.T) {
	t.Run("idle processors", func(t *testing.T) { startsThatOnlyWait(t, 1, 2*turnLook) })
	t.Run("busy processors", func(t *testing.T) { startsThatOnlyWait(t, 0, (turnSure+1)*turnLook) })
}

func startsThatOnlyWait(t *testing.T, idle float64, turnEnds time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter(t, 4, idle)
		began := time.Now()
		for range 100 {
			s.start("1", "sleeps", false, time.Minute, true)
		}
		s.start("1", "works", false, time.Millisecond, false)
		s.finish()
		if d := time.Since(began); d > time.Minute+100/4*turnEnds+time.Second {
			t.Errorf("a hundred starts that sleep for a minute took %v", d)
		}
		if s.most < 100 {
			t.Errorf("%d ran at once", s.most)
		}
	})
}

func TestWhoseTurnComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter(t, 3, 0)
		for i := range 6 {
			s.start("1", "a", true, time.Second, false)
			if n := s.runs(); n != min(i+1, 2) {
				t.Errorf("%d made ahead at once", n)
			}
		}
		for range 3 {
			s.start("1", "b", false, time.Second, false)
		}
		s.start("1", "c", false, time.Second, false)
		s.start("2", "d", false, time.Second, false)
		if got, want := strings.Join(s.finish(), ""), "aab"+"dcbb"+"aaaa"; got != want {
			t.Errorf("order %s, want %s", got, want)
		}
	})
}

// Whatever a start does, others get a turn after some time.
func TestTurnsAndWaitingHaveLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter(t, 2, 1)
		for range 3 {
			s.start("1", "endless", false, time.Hour, false)
		}
		time.Sleep(turnLimit + turnLook)
		if n := s.runs(); n != 3 {
			t.Errorf("%d run when the first ones' time is over", n)
		}
		s.finish()
		s.turns.limit = time.Hour
		for range 6 {
			s.start("1", "endless", false, time.Hour, false)
		}
		time.Sleep(turnWait - 3*turnLook)
		if n := s.runs(); n != 2 {
			t.Errorf("%d run before the others have waited for long enough", n)
		}
		time.Sleep(5 * turnLook)
		if n := s.runs(); n < 3 || n > 5 {
			t.Errorf("%d run when the others have just waited for long enough; they come one by one", n)
		}
		time.Sleep(4 * turnLook)
		if n := s.runs(); n != 6 {
			t.Errorf("%d run when the others have waited for long enough", n)
		}
		s.finish()
	})
}

func TestWhoStopsWaitingForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter(t, 1, 0)
		s.start("1", "first", false, time.Second, false)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := s.enter(ctx, &lambda.Version{}, false)
			left <- err
		}()
		synctest.Wait()
		s.start("1", "second", false, time.Second, false)
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		s.finish()
	})
}

// crowd counts how many inits run at once.
type crowd struct{ now, most atomic.Int32 }

func (c *crowd) in() {
	for n, most := c.now.Add(1), c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
}

// startMany starts n functions and waits until each has its first answer.
func (h *harness) startMany(n int) {
	var all sync.WaitGroup
	for i := range n {
		v := testVersion()
		v.Function = fmt.Sprint("f", i)
		res := h.start(v)
		all.Go(func() {
			out, err := h.Invoke(context.Background(), res, &lambda.Invocation{RequestID: "req", Payload: []byte(`1`)})
			if err != nil || out.Class != lambda.OK {
				h.t.Errorf("%+v, %v", out, err)
			}
		})
	}
	all.Wait()
}

func TestAStormOfStarts(t *testing.T) {
	const many, atOnce = 200, 3
	var inits crowd
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		inits.in()
		time.Sleep(time.Millisecond)
		inits.now.Add(-1)
		return serve(echo)(p)
	}, func(_ *Config, d *standinDriver) { d.burns = turnUse })
	h.turns.most, h.turns.limit, h.turns.wait = atOnce, time.Hour, time.Hour // however slow this machine is
	h.startMany(many)
	if n := inits.most.Load(); n > atOnce {
		t.Errorf("%d inits ran at once, %d may", n, atOnce)
	}
}

// All inits wait until all have begun.
func TestInitsThatWaitDoNotSerialise(t *testing.T) {
	const many = 50
	var begun sync.WaitGroup
	begun.Add(many)
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		begun.Done()
		begun.Wait()
		return serve(echo)(p)
	})
	h.turns.most, h.turns.limit, h.turns.wait = 4, time.Hour, time.Hour
	h.startMany(many)
}

// The init phase of one function calls another, whose start comes after.
func TestAnInitThatCallsAnotherFunction(t *testing.T) {
	var h *harness
	inner := make(chan lambda.Reservation, 1)
	h = newHarness(t, func(p *standinProcess) sandbox.Exit {
		if slices.Contains(p.cmd.Env, "AWS_LAMBDA_FUNCTION_NAME=outer") {
			if _, err := h.Invoke(context.Background(), <-inner, &lambda.Invocation{RequestID: "inner", Payload: []byte(`1`)}); err != nil {
				t.Error(err)
			}
		}
		return serve(echo)(p)
	})
	h.turns.most, h.turns.limit, h.turns.wait = 1, time.Hour, time.Hour
	v := testVersion()
	v.Function = "outer"
	outer := h.start(v)
	inner <- h.start(testVersion())
	h.call(outer, `2`)
}

func TestAnEnvironmentThatEndsWhileItWaitsForItsTurn(t *testing.T) {
	h := newHarness(t, serve(echo))
	h.turns.most = 0
	h.turns.wait = time.Hour
	res := h.start(testVersion())
	eventually(t, "it waits", func() bool { h.turns.mu.Lock(); defer h.turns.mu.Unlock(); return len(h.turns.waiting) == 1 })
	if err := h.End(t.Context(), res.Environment); err != nil {
		t.Error(err)
	}
	if n := len(h.turns.waiting); n != 0 || h.driver.live() != 0 {
		t.Errorf("%d wait, %d sandboxes", n, h.driver.live())
	}
}

func BenchmarkTurn(b *testing.B) {
	q := newTurns(4, nil, func(f func()) { go f() })
	v := testVersion()
	b.ReportAllocs()
	for b.Loop() {
		turn, err := q.enter(b.Context(), v, false)
		if err != nil {
			b.Fatal(err)
		}
		turn.uses(asleep{})
		turn.leave()
	}
}
