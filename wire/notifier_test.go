package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/lambda"
)

// running starts a notifier for the managers in the map; the returned function stops it and waits.
func running(t *testing.T, managers map[lambda.ManagerID]*Manager) (n *Notifier, stop func()) {
	t.Helper()
	n = NewNotifier(func(id lambda.ManagerID) (*Manager, bool) { m, ok := managers[id]; return m, ok })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return n, stop
}

// TestIdleIsSentWhenItReturns: the manager hears of it before the caller, who got the answer, can call again.
func TestIdleIsSentWhenItReturns(t *testing.T) {
	d := &double{}
	m, _, _ := serve(t, d)
	n, _ := running(t, map[lambda.ManagerID]*Manager{"m": m})
	late := 0
	for i := range 100 {
		id := lambda.EnvironmentID(fmt.Sprint(i))
		n.Owner("m").EnvironmentIdle(id, uint64(i))
		for range 3 { // the answer to the frontend, the one to the caller, and its next call
			m.Ping(t.Context())
		}
		if !slices.Contains(d.allHeard(), Notice{Environment: id, Reservation: uint64(i)}) {
			late++
		}
	}
	if late > 20 { // each may be, on a busy machine: the wait is bounded
		t.Errorf("%d of 100 notices were not heard by the next call", late)
	}
}

func TestNoticesAreHeardInOrder(t *testing.T) {
	d := &double{}
	m, _, _ := serve(t, d)
	n, stop := running(t, map[lambda.ManagerID]*Manager{"m": m})
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := range 50 {
				id := lambda.EnvironmentID(fmt.Sprintf("%d-%d", w, i))
				n.Owner("m").EnvironmentIdle(id, 1)
				n.Owner("m").EnvironmentGone(id)
			}
		})
	}
	workers.Wait()
	stop() // delivers the rest
	heard := d.allHeard()
	if len(heard) != 800 {
		t.Fatalf("heard %d notices, want 800", len(heard))
	}
	idle := map[lambda.EnvironmentID]bool{}
	for _, notice := range heard {
		if notice.Gone && !idle[notice.Environment] {
			t.Fatalf("%s was gone before it was idle", notice.Environment)
		}
		idle[notice.Environment] = true
	}
}

// TestNoticesAreRepeated: a manager that fails for a while hears all in the end, and nobody waits for it meanwhile.
func TestNoticesAreRepeated(t *testing.T) {
	d := &double{}
	inner := NewHandler(token, d, nil)
	var down atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(rw, r)
	}))
	defer s.Close()
	c := NewClient(token, nil)
	defer c.Close()
	n, _ := running(t, map[lambda.ManagerID]*Manager{"m": NewManager(c, s.Listener.Addr().String())})
	down.Store(true)
	n.Owner("m").EnvironmentIdle("first", 1)
	began := time.Now()
	var want []Notice
	for i := range 1000 {
		notice := Notice{Environment: lambda.EnvironmentID(fmt.Sprint(i)), Reservation: uint64(i)}
		want = append(want, notice)
		n.Owner("m").EnvironmentIdle(notice.Environment, notice.Reservation)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("1000 notices for a manager that does not answer took %v", took)
	}
	down.Store(false)
	waitUntil(t, func() bool { return len(d.allHeard()) == 1001 })
	if !slices.Equal(d.allHeard()[1:], want) {
		t.Error("the notices came in another order")
	}
}

func TestNoticesForNobodyEnd(t *testing.T) {
	n, stop := running(t, nil)
	for range 100 {
		n.Owner("unknown").EnvironmentGone("e")
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > flushLimit+5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	n.Owner("unknown").EnvironmentIdle("e", 1) // after the end: no effect, no panic
}

func TestPingSeesAManagerThatHangs(t *testing.T) {
	block := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block }))
	defer s.Close()
	defer close(block)
	c := NewClient(token, nil)
	defer c.Close()
	m := NewManager(c, s.Listener.Addr().String())
	if m.Ping(t.Context()) {
		t.Error("a manager that hangs answers")
	}
	if err := m.Notify(t.Context(), nil); !errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("Notify: %v", err)
	}
}
