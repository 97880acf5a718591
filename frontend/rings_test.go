package frontend_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/frontend"
	"berth/lambda"
	"berth/ring"
)

// movingManager goes by a newer ring twice: the second time after a long time, when the frontend has heard of that ring.
type movingManager struct {
	*stage
	feed *ring.Feed
}

func (m movingManager) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	if req.Ring == 3 {
		return m.stage.Acquire(ctx, req)
	}
	if req.Ring == 2 {
		time.Sleep(10 * time.Second)
	}
	m.feed.Set(ringVersion(ring.Version(req.Ring + 1)))
	return lambda.Answer{Verdict: lambda.Moved, Ring: req.Ring + 1}, nil
}

func ringVersion(v ring.Version) *ring.History {
	r, err := ring.New(v, 10, []lambda.ManagerID{"m"})
	if err != nil {
		panic(err)
	}
	return &ring.History{Current: r}
}

// A ring that the frontend has heard of during a search is looked at, however long the search took.
func TestARingHeardOfDuringALongSearchIsTried(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{version: active, answers: []error{nil}}
			m := movingManager{s, &ring.Feed{}}
			m.feed.Set(ringVersion(1))
			f := frontend.New(frontend.Config{
				Catalog: s, Rings: m.feed.Get, Limit: func(lambda.PoolID) int { return 10 },
				Manager:        func(lambda.ManagerID) (frontend.Manager, bool) { return m, true },
				Worker:         func(lambda.WorkerID) (frontend.Worker, bool) { return s, true },
				RuntimeVersion: func(*lambda.Version) (lambda.RuntimeVersionID, error) { return "r1", nil },
			})
			if _, err := f.Invoke(t.Context(), ref, &lambda.Invocation{RequestID: "1"}); err != nil {
				t.Fatal(err)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// A call whose managers are all lost waits for the ring that has others, and is not throttled: nobody has said that the limit is reached.
func TestACallWaitsForARingWithoutTheLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{version: active, answers: []error{nil}}
		feed := &ring.Feed{}
		feed.Set(ringVersion(1))
		var alive atomic.Bool
		f := frontend.New(frontend.Config{
			Catalog: s, Rings: feed.Get, Limit: func(lambda.PoolID) int { return 10 },
			Manager:        func(lambda.ManagerID) (frontend.Manager, bool) { return s, alive.Load() },
			Worker:         func(lambda.WorkerID) (frontend.Worker, bool) { return s, true },
			RuntimeVersion: func(*lambda.Version) (lambda.RuntimeVersionID, error) { return "r1", nil },
		})
		if _, err := f.Invoke(t.Context(), ref, &lambda.Invocation{RequestID: "1"}); lambda.CodeOf(err) != lambda.ServiceFailure {
			t.Errorf("without a manager the call ended with %v", err)
		}
		done := make(chan error)
		began := time.Now()
		go func() {
			_, err := f.Invoke(t.Context(), ref, &lambda.Invocation{RequestID: "2"})
			done <- err
		}()
		time.Sleep(2 * time.Second)
		alive.Store(true)
		feed.Set(ringVersion(2))
		if err := <-done; err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("the call ended with %v after %v, want none after 2s", err, time.Since(began))
		}
	})
}
