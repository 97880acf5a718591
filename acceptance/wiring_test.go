package acceptance_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
	"berth/wire"
)

// wiring is how the roles of a test reach one another. Every test runs with each.
type wiring struct {
	http  bool          // over HTTP on real sockets; otherwise by method calls in virtual time
	scale time.Duration // by how much times are shortened: real time is dear
}

// token is the cluster's secret in tests.
const token = "a-token-for-tests"

// wired runs a test body with the roles wired directly and over HTTP.
func wired(t *testing.T, body func(*testing.T, wiring)) {
	t.Run("direct", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { body(t, wiring{scale: 1}) })
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		body(t, wiring{http: true, scale: 20})
	})
}

// d is a duration of the test's script as this wiring runs it.
func (w wiring) d(d time.Duration) time.Duration { return d / w.scale }

func (w wiring) sleep(d time.Duration) { time.Sleep(w.d(d)) }

// noise is by how much a measured time may exceed the right one: virtual time is exact, a machine may be very busy.
func (w wiring) noise() time.Duration {
	if w.http {
		return patience
	}
	return 0
}

// patience is how long a test waits for what must come, on a machine that may be very busy.
const patience = time.Minute

// eventually waits for what must come, doing step in between.
func (w wiring) eventually(t *testing.T, what string, is func() bool, step func()) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); step() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not so: %s", patience, what)
		}
	}
}

// draws is how often the tests of probabilities draw, and tolerance by how much wider fewer draws scatter.
func (w wiring) draws() int {
	if w.http {
		return 2_500
	}
	return 25_000 // one hundredth is five standard deviations of a share of a tenth then
}

// rounds is how often each of many racing callers calls.
func (w wiring) rounds() int {
	if w.http {
		return 3
	}
	return 10
}

// lingers is for how long racing calls run besides, so that there are enough at once.
func (w wiring) lingers() time.Duration {
	if w.http {
		return 20 * time.Millisecond
	}
	return 0
}

func (w wiring) tolerance() float64 { return math.Sqrt(25_000 / float64(w.draws())) }

// lateEdge counts answers of a living manager that come too late, as happens on a busy machine: each may leave a reservation that
// nobody uses, and that counts until it is given back.
type lateEdge struct {
	*wire.Manager
	m *tapped
}

func (e lateEdge) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	answer, err := e.Manager.Acquire(ctx, req)
	if errors.Is(err, lambda.ErrUnreachable) && e.m.alive() {
		e.m.c.late.Add(1)
	}
	return answer, err
}

// belowLimit begins a call that must be admitted. Only when answers of managers came too late it is tried again, until what those
// left behind has been given back: the cluster must have been started.
func (c *cluster) belowLimit(i int, function string) (k *call) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		k = c.begin(i, function)
		select {
		case <-k.done:
		default:
			return k
		}
		if c.late.Load() == 0 || time.Now().After(deadline) {
			c.t.Errorf("a call below the limit was throttled, with %d running and after %d late answers: %v", c.worker.count(), c.late.Load(), k.err)
			return nil
		}
	}
}

// endCall lets the given call return and waits for it.
func (w *worker) endCall(k *call) {
	w.c.t.Helper()
	id := k.environment.Load().(lambda.EnvironmentID)
	w.mu.Lock()
	e := w.live[id]
	if e.finish == nil { // the test is over
		w.mu.Unlock()
		return
	}
	close(e.finish)
	e.finish = nil
	w.now--
	owner, number := e.owner, e.number
	w.mu.Unlock()
	m, _ := w.c.manager(owner)
	m.edgeIdle(id, number)
	<-k.done
}
