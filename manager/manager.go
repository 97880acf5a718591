// Package manager knows the environments of its pools: which are idle and which are reserved or running. It hands idle ones
// out, asks workers for new ones, and ends those that nobody needs.
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"berth/lambda"
)

// Worker makes and ends environments.
type Worker interface {
	// Start registers a new environment, reserved, and returns before it is initialised. Error: lambda.ErrNoCapacity.
	Start(ctx context.Context, req lambda.StartRequest) error
	// Release gives a reservation back that was never used. It has no effect on a running environment.
	Release(ctx context.Context, env lambda.EnvironmentID)
	// End ends an environment; when it returns its memory is free.
	End(ctx context.Context, env lambda.EnvironmentID) error
}

// Limits of time. See Config to change them.
const (
	DefaultIdleLimit        = 10 * time.Minute // an idle environment ends after this; Lambda's own is 5–15 min
	DefaultReservationLimit = 5 * time.Second  // an unused reservation is given back after this
	sweepInterval           = time.Second
	evictionTries           = 64 // idle environments ended to make room for one new environment
	endLimit                = 5 * time.Second
)

// Config of a Manager. Zero durations take the defaults.
type Config struct {
	ID       lambda.ManagerID
	WorkerID lambda.WorkerID
	Worker   Worker
	// Current reports whether a key can still be asked for: its function exists and has not changed. Environments of other
	// keys are ended when idle.
	Current          func(lambda.EnvironmentKey) bool
	IdleLimit        time.Duration
	ReservationLimit time.Duration
	Log              *slog.Logger
}

// Manager keeps one set of environments per environment key. Locks are per set: calls of different functions never wait
// for one another.
type Manager struct {
	cfg          Config
	sets         sync.Map // lambda.EnvironmentKey → *set
	environments sync.Map // lambda.EnvironmentID → *environment
	ending       sync.WaitGroup
}

// New makes a manager without environments.
func New(cfg Config) *Manager {
	if cfg.IdleLimit == 0 {
		cfg.IdleLimit = DefaultIdleLimit
	}
	if cfg.ReservationLimit == 0 {
		cfg.ReservationLimit = DefaultReservationLimit
	}
	return &Manager{cfg: cfg}
}

// Run looks after expired reservations and idle environments until ctx ends. Environments themselves end with their worker.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	defer m.ending.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			m.sweep(ctx, now)
		}
	}
}

// Acquire reserves an environment of the request's key: an idle one, the most recently used first so that the others can
// end, or else a new one. Errors: TooManyRequests when no worker has room.
func (m *Manager) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Reservation, error) {
	now := time.Now()
	expires := now.Add(m.cfg.ReservationLimit)
	if e := m.takeIdle(req.Key, expires); e != nil {
		return m.reservation(e.id, expires, false), nil
	}
	id, err := m.start(ctx, req, expires)
	if err != nil {
		return lambda.Reservation{}, err
	}
	return m.reservation(id, expires, true), nil
}

func (m *Manager) reservation(id lambda.EnvironmentID, expires time.Time, cold bool) lambda.Reservation {
	return lambda.Reservation{Environment: id, Worker: m.cfg.WorkerID, Expires: expires, Cold: cold}
}

func (m *Manager) takeIdle(key lambda.EnvironmentKey, expires time.Time) *environment {
	s, ok := m.sets.Load(key)
	if !ok {
		return nil
	}
	return s.(*set).take(expires)
}

// start asks the worker for a new environment and makes room for it when there is none.
func (m *Manager) start(ctx context.Context, req lambda.AcquireRequest, expires time.Time) (lambda.EnvironmentID, error) {
	e := &environment{
		id:      lambda.EnvironmentID(uuid.NewString()),
		state:   reserved,
		expires: expires,
	}
	m.register(req.Key, e)
	start := lambda.StartRequest{Environment: e.id, Owner: m.cfg.ID, Key: req.Key, Version: req.Version}
	for range evictionTries {
		err := m.cfg.Worker.Start(ctx, start)
		if err == nil {
			return e.id, nil
		}
		if !errors.Is(err, lambda.ErrNoCapacity) {
			m.forget(e)
			return "", fmt.Errorf("starting an environment: %w", err)
		}
		if !m.evictOne(ctx) {
			break
		}
	}
	m.forget(e)
	return "", &lambda.Error{
		Code: lambda.TooManyRequests, Message: "Rate Exceeded.", Reason: lambda.ReasonConcurrency, RetryAfter: time.Second,
	}
}

// register puts an environment into the set of its key, making the set if it is not there.
func (m *Manager) register(key lambda.EnvironmentKey, e *environment) {
	for {
		v, ok := m.sets.Load(key)
		if !ok {
			v, _ = m.sets.LoadOrStore(key, &set{key: key})
		}
		e.set = v.(*set)
		if e.set.add() {
			m.environments.Store(e.id, e)
			return
		}
		// The set was dropped between the look-up and add: its slot in the map is free again.
		m.sets.CompareAndDelete(key, v)
	}
}

// forget drops an environment that is gone, and its set when that was the last one.
func (m *Manager) forget(e *environment) {
	if _, known := m.environments.LoadAndDelete(e.id); !known {
		return
	}
	if e.set.remove(e) {
		m.sets.CompareAndDelete(e.set.key, e.set)
	}
}

// EnvironmentIdle is the worker's word that an environment can take the next invocation.
func (m *Manager) EnvironmentIdle(id lambda.EnvironmentID) {
	if v, ok := m.environments.Load(id); ok {
		e := v.(*environment)
		e.set.put(e, time.Now())
	}
}

// EnvironmentGone is the worker's word that an environment has ended.
func (m *Manager) EnvironmentGone(id lambda.EnvironmentID) {
	if v, ok := m.environments.Load(id); ok {
		m.forget(v.(*environment))
	}
}
