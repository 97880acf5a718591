package cluster

import (
	"context"
	"slices"
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

// generous hands what it gave to one successor to another one too.
type generous struct {
	Manager
	mu   sync.Mutex
	last map[lambda.PoolID]gift
}

type gift struct {
	to  lambda.ManagerID
	was lambda.HandedPool
}

func (m *generous) HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error) {
	answer, err := m.Manager.HandOver(ctx, req)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range answer.Pools {
		p := &answer.Pools[i]
		if last, ok := m.last[p.Pool]; ok && last.to != req.Successor && len(p.Keys) == 0 {
			*p = last.was
		}
		if len(p.Keys) > 0 {
			m.last[p.Pool] = gift{req.Successor, *p}
		}
	}
	return answer, err
}

// careless hands idle environments over and says nothing of what runs.
type careless struct{ Manager }

func (m careless) HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error) {
	answer, err := m.Manager.HandOver(ctx, req)
	for i := range answer.Pools {
		answer.Pools[i].Busy = 0
		for j := range answer.Pools[i].Keys {
			k := &answer.Pools[i].Keys[j]
			k.Environments = slices.DeleteFunc(slices.Clone(k.Environments), func(h lambda.Handed) bool { return h.State == lambda.HandedInUse })
		}
	}
	return answer, err
}

// stubborn hands nothing over and goes on.
type stubborn struct{ Manager }

func (m stubborn) HandOver(_ context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error) {
	var answer lambda.HandOverAnswer
	for _, p := range req.Pools {
		answer.Pools = append(answer.Pools, lambda.HandedPool{Pool: p.Pool})
	}
	return answer, nil
}

// mingling forgets to which tenants it has bound environments.
type mingling struct{ Manager }

func (m mingling) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	if req.Key.Tenant != "" {
		req.Key.Tenant = lambda.Unbound
	}
	return m.Manager.Acquire(ctx, req)
}

// TestPlantedBugsAreCaught is the test of the simulator: each bug is found within 200 seeds, by its invariant.
func TestPlantedBugsAreCaught(t *testing.T) {
	const within = 200
	for _, bug := range []struct {
		name, sign string
		tamper     Tamper
	}{
		{"double reservation", "I1:", Tamper{Manager: func(m Manager) Manager {
			return &forgetful{Manager: m, last: map[lambda.EnvironmentKey]lambda.Answer{}}
		}}},
		{"provisioned environment ended for age", "is provisioned, and was ended", Tamper{Worker: func() func(manager.Worker) manager.Worker {
			var made sync.Map
			return func(w manager.Worker) manager.Worker { return aging{w, &made} }
		}()}},
		{"an environment handed to two", "D5:", Tamper{Manager: func(m Manager) Manager {
			return &generous{Manager: m, last: map[lambda.PoolID]gift{}}
		}}},
		{"inherited executions not counted", "I3:", Tamper{Manager: func(m Manager) Manager { return careless{m} }}},
		{"a predecessor that goes on", "I3:", Tamper{Manager: func(m Manager) Manager { return stubborn{m} }}},
		{"binding to a tenant forgotten", "I2:", Tamper{Manager: func(m Manager) Manager { return mingling{m} }}},
		{"off-by-one cap", "I3:", Tamper{Limit: func(limit int) int { return limit + 1 }}},
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
