package manager

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"berth/lambda"
	"berth/placement"
)

// unreachableTries is how many workers that do not answer one request waits for; whose machine refuses the call at once costs no
// waiting, and does not count.
const (
	unreachableTries = 2
	waitedFor        = 100 * time.Millisecond
)

// errMoved: the tenure under which a call was admitted has ended.
var errMoved = errors.New("the pool has another manager now")

// errMany: a function with tenant isolation has as many environments as it may have.
var errMany = errors.New("the function has as many environments as it may have")

// start asks a worker for a new environment and makes room for it when there is none. The pool has admitted it already;
// that is given back when there is no environment (nil) but a refusal: Full, RateLimited, Throttled, Moved.
func (m *Manager) start(ctx context.Context, p *pool, t *tenure, req lambda.AcquireRequest, quota int, expires time.Time) (*environment, lambda.Verdict, error) {
	var silent, refused []lambda.WorkerID
	gained, waited := false, 0
	id, worker, found := m.drawWorker(req.Version, req.Avoid)
	if !found && len(req.Avoid) > 0 {
		id, worker, found = m.drawWorker(req.Version, nil)
	}
	for range evictionTries {
		if !found {
			if m.hasIdle(req.Key) { // meanwhile: the call takes it, rather than end it for a new one
				break
			}
			freed, ok := m.makeRoom(ctx)
			if !ok {
				break
			}
			// The worker where room was made is tried next: what is known of the workers' free memory is older.
			refused = nil
			if id, worker, found = m.workerNamed(freed); !found {
				id, worker, found = m.drawWorker(req.Version, silent)
			}
			continue
		}
		if !gained && !p.mayGain(req.Key.Function, quota, m.cfg.Limit(p.id)) { // only now: a call that finds no room gains nothing
			p.release()
			return nil, lambda.RateLimited, nil
		}
		gained = true
		began := time.Now()
		e, err := m.startOn(ctx, p, t, req, quota, expires, id, worker)
		if errors.Is(err, lambda.ErrUnreachable) && time.Since(began) >= waitedFor {
			waited++
		}
		switch {
		case err == nil:
			return e, 0, nil
		case errors.Is(err, errMoved):
			return nil, lambda.Moved, nil
		case errors.Is(err, errMany):
			return nil, lambda.RateLimited, nil
		case errors.Is(err, lambda.ErrNoCapacity):
			refused = append(refused, id)
		case errors.Is(err, lambda.ErrUnreachable) && ctx.Err() == nil && waited < unreachableTries:
			silent = append(silent, id)
		default:
			return nil, 0, startFailed(err)
		}
		// startOn gave the admission back; ask for it anew, or the quota could be exceeded meanwhile.
		if quota = m.quota(ctx, p, t, req.Unreachable); !p.admit(quota) {
			return nil, lambda.Throttled, nil
		}
		id, worker, found = m.drawWorker(req.Version, slices.Concat(silent, refused))
	}
	p.release()
	if len(silent) > 0 {
		return nil, 0, startFailed(lambda.ErrUnreachable)
	}
	return nil, lambda.Full, nil
}

// hasIdle reports whether a call of this key would find an idle environment now.
func (m *Manager) hasIdle(key lambda.EnvironmentKey) bool {
	v, ok := m.sets.Load(key)
	if !ok {
		return false
	}
	s := v.(*set)
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.idle)+len(s.ahead) > 0
}

// startOn registers the environment before the worker knows of it: the worker may call back before Start returns. An
// environment that the worker made although no answer came ends there with its lease.
func (m *Manager) startOn(ctx context.Context, p *pool, t *tenure, req lambda.AcquireRequest, quota int, expires time.Time, id lambda.WorkerID, w Worker) (*environment, error) {
	now := time.Now()
	e := m.newEnvironment(p, t.version, req, id, m.record(req, now))
	e.state, e.expires = reserved, expires
	e.record.began(now)
	m.gains(e, &req, now)
	m.register(req.Key, e)
	if e.set.isolated.fullFor(0, quota) { // another call was faster
		m.forget(e)
		return nil, errMany
	}
	if p.tenure.Load() != t { // whoever ended it may have looked before e was there
		m.forget(e)
		return nil, errMoved
	}
	err := w.Start(ctx, lambda.StartRequest{Environment: e.id, Owner: m.cfg.ID, Epoch: e.epoch, Pool: p.id, Key: req.Key, Version: req.Version})
	if err != nil {
		m.drop(e) // it was never made: who waits for room has nothing to look for
		return nil, err
	}
	e.set.confirm(e, now)
	return e, nil
}

func (m *Manager) newEnvironment(p *pool, epoch uint64, req lambda.AcquireRequest, w lambda.WorkerID, r *record) *environment {
	now := time.Now()
	return &environment{
		id: m.newID(), worker: w, pool: p, epoch: epoch, record: r, number: firstReservation, began: now, confirmed: now,
		timeout: req.Version.Timeout, bytes: int64(req.Version.MemoryMB) << 20,
	}
}

// newID returns a random UUID.
func (m *Manager) newID() lambda.EnvironmentID {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], m.rng.Uint64())
	binary.LittleEndian.PutUint64(b[8:], m.rng.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, RFC 9562
	return lambda.EnvironmentID(uuid.UUID(b).String())
}

// drawWorker chooses a worker for an environment of v, none of those to avoid; false when none has room.
func (m *Manager) drawWorker(v *lambda.Version, avoid []lambda.WorkerID) (lambda.WorkerID, Worker, bool) {
	candidates := m.cfg.Workers.Candidates(v)
	if len(avoid) > 0 {
		candidates = slices.DeleteFunc(slices.Clone(candidates), func(w placement.Worker) bool { return slices.Contains(avoid, w.ID) })
	}
	i := placement.Choose(m.rng, candidates, int64(v.MemoryMB)<<20)
	if i < 0 {
		return "", nil, false
	}
	w, ok := m.cfg.Workers.Worker(candidates[i].ID)
	return candidates[i].ID, w, ok
}

// workerNamed is Workers.Worker; "" is none.
func (m *Manager) workerNamed(id lambda.WorkerID) (lambda.WorkerID, Worker, bool) {
	if id == "" {
		return "", nil, false
	}
	w, ok := m.cfg.Workers.Worker(id)
	return id, w, ok
}

// startFailed says why. That a worker does not answer is told in words only: to the frontend the manager has answered.
func startFailed(err error) error {
	if errors.Is(err, lambda.ErrUnreachable) {
		return lambda.Errorf(lambda.ServiceFailure, "starting an environment: %v", err)
	}
	return fmt.Errorf("starting an environment: %w", err)
}
