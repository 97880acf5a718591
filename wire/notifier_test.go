package wire

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
)

// notifying starts a notifier for the managers in the map; the returned function stops it and waits.
func notifying(t *testing.T, managers map[lambda.ManagerID]*Manager) (n *Notifier, stop func()) {
	t.Helper()
	n = NewNotifier(func(id lambda.ManagerID) (*Manager, bool) { m, ok := managers[id]; return m, ok })
	return n, running(t, n.Run)
}

// TestIdleIsSentWhenItReturns: then the notice is on its way, so that the manager hears of it before the caller, who gets the
// answer now, can call again. Nobody waits for the manager's acknowledgement.
func TestIdleIsSentWhenItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &double{holdNotices: make(chan struct{})} // it never acknowledges
		p := newPipes()
		m := NewManager(p.serve(t, d), "pipe:1")
		n, _ := notifying(t, map[lambda.ManagerID]*Manager{"m": m})
		began := time.Now()
		n.Owner("m").EnvironmentIdle("e-1", 7)
		if p.written.Load() == 0 {
			t.Error("nothing was sent")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it waited %v for more than the sending", took)
		}
		synctest.Wait()
		if got := d.allHeard(); !slices.Equal(got, []Notice{{Environment: "e-1", Reservation: 7}}) {
			t.Errorf("the manager heard %v", got)
		}
		close(d.holdNotices)
	})
}

// TestIdleWaitsAShortTimeToBeSent: a connection that takes nothing holds an answer back for sendGrace and no longer.
func TestIdleWaitsAShortTimeToBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p, stuck := &double{}, newPipes(), make(chan int)
		m := NewManager(p.serve(t, d), "pipe:1")
		n, _ := notifying(t, map[lambda.ManagerID]*Manager{"m": m})
		p.stuck.Store(&stuck)
		began := time.Now()
		n.Owner("m").EnvironmentIdle("e-1", 7)
		if took := time.Since(began); took != sendGrace {
			t.Errorf("it took %v, want %v", took, sendGrace)
		}
		close(stuck)
		synctest.Wait()
		if got := d.allHeard(); len(got) != 1 {
			t.Errorf("the manager heard %v in the end", got)
		}
	})
}

func TestNoticesAreHeardInOrder(t *testing.T) {
	d := &double{}
	m, _, _ := serve(t, d)
	n, stop := notifying(t, map[lambda.ManagerID]*Manager{"m": m})
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

// TestNoticesAreRepeated: a manager that fails for a while hears all in the end, in order, and nobody waits for it meanwhile.
func TestNoticesAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &double{}, newPipes()
		n, _ := notifying(t, map[lambda.ManagerID]*Manager{"m": NewManager(p.serve(t, d), "pipe:1")})
		p.down.Store(true)
		want := []Notice{{Environment: "first", Reservation: 1}}
		n.Owner("m").EnvironmentIdle("first", 1)
		synctest.Wait() // the first delivery has failed
		began := time.Now()
		for i := range 2*maxNotices + 1 {
			notice := Notice{Environment: lambda.EnvironmentID(fmt.Sprint(i)), Reservation: uint64(i)}
			want = append(want, notice)
			n.Owner("m").EnvironmentIdle(notice.Environment, notice.Reservation)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("%d notices for a manager that does not answer took %v", len(want), took)
		}
		time.Sleep(time.Minute)
		p.down.Store(false)
		time.Sleep(lastPause)
		synctest.Wait()
		if !slices.Equal(d.allHeard(), want) {
			t.Errorf("%d notices came, want %d, in order", len(d.allHeard()), len(want))
		}
	})
}

// TestNoticesForNobodyEnd: what nobody takes is dropped in time when the worker stops.
func TestNoticesForNobodyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, stop := notifying(t, nil)
		for range 100 {
			n.Owner("unknown").EnvironmentGone("e")
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took != flushLimit {
			t.Errorf("stopping took %v, want %v", took, flushLimit)
		}
		n.Owner("unknown").EnvironmentIdle("e", 1) // after the end: no effect, no panic
	})
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
