package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/lambda"
	"berth/sandbox"
)

func TestStateTable(t *testing.T) {
	for from, list := range transitions {
		for _, to := range list {
			if _, ok := transitions[to]; !ok {
				t.Errorf("%s → %s: no such state", from, to)
			}
		}
	}
	h := newHarness(t, serve(echo))
	res := h.start(testVersion())
	h.call(res, `1`)
	e := h.registry.find(res.Environment)
	e.mu.Lock()
	e.to(Reserved) // Idle → Reserved is the owner's business
	state, mustEnd := e.state, e.mustEnd
	e.mu.Unlock()
	if state != Idle || !mustEnd {
		t.Errorf("after an illegal change: %s, mustEnd %v", state, mustEnd)
	}
	if _, err := h.Invoke(t.Context(), res, &lambda.Invocation{}); !errors.Is(err, lambda.ErrUnknownEnvironment) {
		t.Errorf("an environment with a broken state took a call: %v", err)
	}
}

func TestCapacity(t *testing.T) {
	v := testVersion()
	need := int64(v.MemoryMB)<<20 + EnvironmentOverhead
	h := newHarness(t, serve(echo), func(c *Config, _ *standinDriver) { c.MemoryBytes = 2*need + 1 })
	a, b := h.start(v), h.start(v)
	err := h.Start(t.Context(), lambda.StartRequest{Environment: "e-x", Owner: "m1", Version: v})
	if !errors.Is(err, lambda.ErrNoCapacity) {
		t.Errorf("third: %v", err)
	}
	if s := h.Stats(); s.MemoryUsed != 2*need {
		t.Errorf("%+v", s)
	}
	h.call(a, `1`)
	if err := h.End(t.Context(), a.Environment); err != nil {
		t.Error(err)
	}
	if _, gone := h.owner.counts(a.Environment); gone != 1 {
		t.Error("End returned before the owner was told")
	}
	c := h.start(v)
	h.call(c, `1`)
	h.call(b, `1`)
	if err := h.End(t.Context(), a.Environment); !errors.Is(err, lambda.ErrUnknownEnvironment) {
		t.Errorf("End of one that is gone: %v", err)
	}
	if _, err := h.Invoke(t.Context(), a, &lambda.Invocation{}); !errors.Is(err, lambda.ErrUnknownEnvironment) {
		t.Errorf("Invoke of one that is gone: %v", err)
	}
	for name, req := range map[string]lambda.StartRequest{
		"id twice": {Environment: b.Environment, Owner: "m1", Version: &lambda.Version{MemoryMB: -200}},
		"bad id":   {Environment: "../x", Owner: "m1", Version: v},
	} {
		if h.Start(t.Context(), req) == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestReservations(t *testing.T) {
	h := newHarness(t, serve(echo))
	res := h.start(testVersion())
	expired := res
	expired.Expires = time.Now().Add(-time.Second)
	if _, err := h.Invoke(t.Context(), expired, &lambda.Invocation{}); !errors.Is(err, ErrNotReserved) {
		t.Errorf("expired: %v", err)
	}
	eventually(t, "reserved", func() bool { return h.Stats().Environments[Reserved] == 1 })
	h.giveBack(res)
	if idle, _ := h.owner.counts(res.Environment); idle != 1 || h.Stats().Environments[Idle] != 1 {
		t.Error("giving back a reserved environment")
	}
	if a, _ := h.Renew(t.Context(), lambda.RenewRequest{Holdings: []lambda.Holding{{Environment: "unknown"}}}); len(a.Gone) != 1 {
		t.Errorf("an unknown environment is not reported gone: %+v", a)
	}

	early := h.start(testVersion())
	h.giveBack(early) // maybe before it is ready
	eventually(t, "idle", func() bool { idle, _ := h.owner.counts(early.Environment); return idle == 1 })
	h.wantOutcome(h.call(early, `1`), lambda.OK, `1`)
}

func TestOneInvocationAtATime(t *testing.T) {
	var inside, most atomic.Int32
	h := newHarness(t, serve(func(_ *standinProcess, payload string) (byte, string) {
		most.Store(max(most.Load(), inside.Add(1)))
		time.Sleep(time.Millisecond)
		inside.Add(-1)
		return 'R', payload
	}))
	res := h.start(testVersion())
	var ran, refused atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				_, err := h.Invoke(context.Background(), res, &lambda.Invocation{RequestID: "r", Payload: []byte(`1`)})
				switch {
				case err == nil:
					ran.Add(1)
				case errors.Is(err, ErrNotReserved):
					refused.Add(1)
					time.Sleep(100 * time.Microsecond)
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 || ran.Load() == 0 || ran.Load()+refused.Load() != 400 {
		t.Errorf("%d at once, %d ran, %d refused", most.Load(), ran.Load(), refused.Load())
	}
}

func TestHundredEnvironments(t *testing.T) {
	h := newHarness(t, serve(func(p *standinProcess, payload string) (byte, string) {
		p.print(payload + "\n")
		return 'R', payload
	}))
	var wg sync.WaitGroup
	for i := range 100 {
		res := h.start(testVersion())
		wg.Go(func() {
			for j := range 20 {
				want := fmt.Sprint(i*1000 + j)
				out, err := h.Invoke(context.Background(), res, &lambda.Invocation{RequestID: want, Payload: []byte(want)})
				if err != nil || string(out.Payload) != want {
					t.Errorf("%v %v", out, err)
				}
			}
		})
	}
	wg.Wait()
	if s := h.Stats(); s.Environments[Idle] != 100 || s.Invocations != 2000 || s.ColdStarts != 100 {
		t.Errorf("%+v", s)
	}
}

func TestStartFails(t *testing.T) {
	for _, op := range []string{"create", "listen", "exec", "runtime"} {
		t.Run(op, func(t *testing.T) {
			h := newHarness(t, serve(echo), func(_ *Config, d *standinDriver) {
				d.fault = func(at string) error {
					if at == op {
						return errors.New("injected")
					}
					return nil
				}
			})
			v := testVersion()
			if op == "runtime" {
				v.Runtime = "cobol85"
			}
			res := h.start(v)
			_, err := h.Invoke(t.Context(), res, &lambda.Invocation{})
			want := lambda.ServiceFailure
			if op == "runtime" {
				want = lambda.InvalidRuntime
			}
			if err == nil || lambda.CodeOf(err) != want {
				t.Errorf("%v", err)
			}
			eventually(t, "gone", func() bool { _, gone := h.owner.counts(res.Environment); return gone == 1 })
			if _, late := h.Invoke(t.Context(), res, &lambda.Invocation{}); lambda.CodeOf(late) != want || errors.Is(late, lambda.ErrUnknownEnvironment) {
				t.Errorf("a call that came after the failure: %v", late)
			}
		})
	}
}

func TestIdleEnvironmentsAreFrozen(t *testing.T) {
	h := newHarness(t, serve(echo), func(c *Config, _ *standinDriver) { c.IdleFreeze = 20 * time.Millisecond })
	res := h.start(testVersion())
	for range 20 {
		h.call(res, `1`)
	}
	b := h.driver.box(0)
	if b.thaws.Load() > 2 { // the machine may be slow
		t.Errorf("a busy environment was frozen %d times", b.thaws.Load())
	}
	eventually(t, "frozen", func() bool { return h.Stats().Frozen == 1 })
	n := b.freezes.Load()
	h.wantOutcome(h.call(res, `2`), lambda.OK, `2`)
	if b.thaws.Load() != n {
		t.Errorf("%d freezes, %d thaws", n, b.thaws.Load())
	}
	eventually(t, "frozen again", func() bool { return h.Stats().Frozen == 1 })
	if err := h.End(t.Context(), res.Environment); err != nil {
		t.Error(err)
	}
}

// Run's end ends everything, whatever it is doing.
func TestRunEndsEverything(t *testing.T) {
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		if p.box.spec.ID == "e-1" { // never ready
			<-p.ctx.Done()
			return killed
		}
		return serve(func(p *standinProcess, payload string) (byte, string) {
			if payload == `"hang"` {
				<-p.ctx.Done()
				return 0, ""
			}
			return 'R', payload
		})(p)
	})
	h.t = nil // the second Run below is ours
	ctx, cancel := context.WithCancel(t.Context())
	w := h.Worker
	h.t = t
	v := testVersion()
	v.Timeout = 15 * time.Minute
	starting, hanging, idle, reserved := h.start(v), h.start(v), h.start(v), h.start(v)
	errs := make(chan error, 2)
	for _, res := range []lambda.Reservation{starting, hanging} {
		go func() {
			_, err := w.Invoke(context.Background(), res, &lambda.Invocation{RequestID: "r", Payload: []byte(`"hang"`)})
			errs <- err
		}()
	}
	h.call(idle, `1`)
	first := h.registry.find(starting.Environment)
	eventually(t, "all are where they should be", func() bool {
		s := w.Stats().Environments
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.claimed && s[Starting] == 1 && s[Running] == 1 && s[Idle] == 1 && s[Reserved] == 1
	})
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- w.Run(ctx) }()
	cancel()
	if err := <-done; err != nil || time.Since(began) > patience {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	for range 2 {
		if err := <-errs; lambda.CodeOf(err) != lambda.ServiceFailure || !errors.Is(err, ErrStopped) && !errors.Is(err, context.Canceled) {
			t.Errorf("cut off with %v", err)
		}
	}
	for _, res := range []lambda.Reservation{starting, hanging, idle, reserved} {
		if _, gone := h.owner.counts(res.Environment); gone != 1 {
			t.Errorf("%s: told %d times", res.Environment, gone)
		}
	}
	if err := w.Start(t.Context(), lambda.StartRequest{Environment: "late", Owner: "m1", Version: v}); !errors.Is(err, ErrStopped) {
		t.Errorf("Start afterwards: %v", err)
	}
}

func TestEndDuringInvocation(t *testing.T) {
	answer := make(chan struct{})
	h := newHarness(t, serve(func(_ *standinProcess, payload string) (byte, string) {
		<-answer
		return 'R', payload
	}))
	res := h.start(testVersion())
	done := make(chan *lambda.Outcome, 1)
	go func() { done <- h.call(res, `1`) }()
	eventually(t, "running", func() bool { return h.Stats().Environments[Running] == 1 })
	if err := h.End(t.Context(), res.Environment); err != nil {
		t.Error(err)
	}
	answer <- struct{}{}
	h.wantOutcome(<-done, lambda.OK, `1`)
	if idle, gone := h.owner.counts(res.Environment); idle != 0 || gone != 1 {
		t.Errorf("idle %d, gone %d", idle, gone)
	}
}

// Random faults in every operation of the driver, random programs, random callers: at the end nothing is left, no file is
// open, and every call had one answer.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			goroutines, files := runtime.NumGoroutine(), openFiles(t)
			t.Run("run", func(t *testing.T) { randomFaults(t, seed) })
			eventually(t, "goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
			eventually(t, "files are closed", func() bool { return openFiles(t) <= files })
		})
	}
}

func randomFaults(t *testing.T, seed uint64) {
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 1))
	chance := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n)
	}
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		switch chance(12) {
		case 0:
			return sandbox.Exit{Code: chance(2)}
		case 1:
			p.send('I', "\x00{}")
		case 2:
			p.send('?', "")
		}
		return serve(func(p *standinProcess, payload string) (byte, string) {
			p.print("line\npart")
			switch chance(12) {
			case 0:
				p.conn.Close()
				return 0, ""
			case 1:
				p.send('R', payload) // and once more
			case 2:
				return 'r', payload // without asking
			case 3:
				return 'E', "\x01x{}"
			}
			return 'R', payload
		})(p)
	}, func(c *Config, d *standinDriver) {
		c.IdleFreeze = 3 * time.Millisecond
		d.fault = func(string) error {
			if chance(40) == 0 {
				return errors.New("injected")
			}
			return nil
		}
	})
	h.initLimit = 20 * time.Millisecond
	v := testVersion()
	v.Timeout = 30 * time.Millisecond
	var wg sync.WaitGroup
	for range 40 {
		res := h.start(v)
		wg.Go(func() {
			for range 10 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(chance(20))*time.Millisecond)
				switch chance(20) {
				case 0:
					h.giveBack(res)
				case 1:
					h.End(ctx, res.Environment)
				default:
					out, err := h.Invoke(ctx, res, &lambda.Invocation{RequestID: "r", Payload: []byte(`1`), WantLog: chance(2) == 0})
					if (out == nil) == (err == nil) {
						t.Errorf("outcome %v, error %v", out, err)
					}
				}
				cancel()
				time.Sleep(time.Duration(chance(3)) * time.Millisecond)
			}
		})
	}
	wg.Wait()
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc/self/fd here")
	}
	return len(list)
}

func BenchmarkInvoke(b *testing.B) {
	for _, logged := range []bool{false, true} {
		b.Run(fmt.Sprint("WantLog=", logged), func(b *testing.B) {
			h := newHarness(b, serve(echo))
			h.sink.quiet = true
			res := h.start(testVersion())
			inv := &lambda.Invocation{RequestID: "5c9f4cbc-8c4e-4bd8-a2b8-8a5f6a3a3b3c", Payload: []byte(`{"name":"world"}`), WantLog: logged}
			h.call(res, `1`)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Invoke(context.Background(), res, inv); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestInvokeGarbage holds a warm invocation to its budget, the stand-in runtime's part (2) included.
func TestInvokeGarbage(t *testing.T) {
	const budget = 12
	h := newHarness(t, serve(echo))
	h.sink.quiet = true
	res := h.start(testVersion())
	inv := &lambda.Invocation{RequestID: "5c9f4cbc-8c4e-4bd8-a2b8-8a5f6a3a3b3c", Payload: []byte(`{"name":"world"}`)}
	h.call(res, `1`)
	invoke := func() {
		if _, err := h.Invoke(context.Background(), res, inv); err != nil {
			t.Fatal(err)
		}
	}
	if got := testing.AllocsPerRun(200, invoke); got > budget {
		t.Errorf("%.1f allocations, budget %d", got, budget)
	}
}

// BenchmarkStartEnd is a whole life: what the worker adds to the sandbox and the runtime.
func BenchmarkStartEnd(b *testing.B) {
	h := newHarness(b, serve(echo))
	h.sink.quiet = true
	b.ReportAllocs()
	for b.Loop() {
		res := h.start(testVersion())
		h.call(res, `1`)
		if err := h.End(context.Background(), res.Environment); err != nil {
			b.Fatal(err)
		}
	}
}
