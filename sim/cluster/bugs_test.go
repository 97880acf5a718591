package cluster

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/lambda"
	"berth/manager"
)

// forgetful hands now and then a warm environment out a second time, as a manager would whose set was not locked.
type forgetful struct {
	Manager
	mu   sync.Mutex
	last map[lambda.EnvironmentKey]lambda.Answer
	n    int
}

func (m *forgetful) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	m.mu.Lock()
	m.n++
	a, ok := m.last[req.Key]
	again := ok && m.n%40 == 0
	m.mu.Unlock()
	if again {
		a.Reservation.Number++
		return a, nil
	}
	a, err := m.Manager.Acquire(ctx, req)
	if err == nil && a.Verdict == lambda.Granted {
		m.mu.Lock()
		m.last[req.Key] = a
		m.mu.Unlock()
	}
	return a, err
}

// leaky never gives an expired reservation back.
type leaky struct{ manager.Worker }

func (w leaky) Renew(ctx context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error) {
	for i := range req.Holdings {
		req.Holdings[i].GiveBack = false
	}
	return w.Worker.Renew(ctx, req)
}

// aging ends provisioned environments when they are a while old, as a manager would that took them for others.
type aging struct {
	manager.Worker
	made *sync.Map // environment → when
}

func (w aging) Start(ctx context.Context, req lambda.StartRequest) error {
	if req.Ahead {
		w.made.Store(req.Environment, time.Now())
	}
	return w.Worker.Start(ctx, req)
}

func (w aging) Renew(ctx context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error) {
	for _, h := range req.Holdings {
		if at, ahead := w.made.Load(h.Environment); ahead && time.Since(at.(time.Time)) > 20*time.Second {
			w.made.Delete(h.Environment)
			_ = w.Worker.End(ctx, h.Environment)
		}
	}
	return w.Worker.Renew(ctx, req)
}

// TestPlantedBugsAreCaught is the test of the simulator: each bug is found within 200 seeds, by what it violates.
func TestPlantedBugsAreCaught(t *testing.T) {
	const within = 200
	for _, bug := range []struct {
		name, sign string
		tamper     Tamper
	}{
		{"double reservation", "I1:", Tamper{Manager: func(m Manager) Manager {
			return &forgetful{Manager: m, last: map[lambda.EnvironmentKey]lambda.Answer{}}
		}}},
		{"off-by-one cap", "I3:", Tamper{Limit: func(limit int) int { return limit + 1 }}},
		{"provisioned environment ended for age", "is provisioned, and was ended", Tamper{Worker: func() func(manager.Worker) manager.Worker {
			var made sync.Map
			return func(w manager.Worker) manager.Worker { return aging{w, &made} }
		}()}},
		{"leaked reservation", "I5:", Tamper{Worker: func(w manager.Worker) manager.Worker { return leaky{w} }}},
	} {
		t.Run(bug.name, func(t *testing.T) {
			for seed := range uint64(within) {
				h := simulate(t, Options{Seed: seed, Tamper: bug.tamper})
				if err := h.Err(); err != nil && strings.Contains(err.Error(), bug.sign) {
					t.Logf("found with seed %d: %s", seed, h.Violations[0])
					return
				}
			}
			t.Errorf("%d seeds did not find it", within)
		})
	}
}
