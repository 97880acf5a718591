package manager

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"berth/lambda"
)

// start asks a worker for a new environment and makes room for it when there is none. The pool has admitted it already;
// that is given back when there is no environment (nil) but a refusal: Full, RateLimited, Throttled.
func (m *Manager) start(ctx context.Context, p *pool, req lambda.AcquireRequest, quota int, expires time.Time) (*environment, lambda.Verdict, error) {
	for range evictionTries {
		id, worker, found := m.drawWorker(req.Version)
		switch {
		case !found && m.makeRoom(ctx):
			continue
		case !found:
			p.release()
			return nil, lambda.Full, nil
		case !p.mayGain(req.Key.Function, quota, m.cfg.Limit(p.id)): // only now: a call that finds no room gains nothing
			p.release()
			return nil, lambda.RateLimited, nil
		}
		e, err := m.startOn(ctx, p, req, expires, id, worker)
		if err == nil {
			return e, 0, nil
		}
		if !errors.Is(err, lambda.ErrNoCapacity) {
			return nil, 0, startFailed(err)
		}
		// startOn gave the admission back; it must be asked for anew, or the quota could be exceeded meanwhile.
		if !p.admit(quota) {
			return nil, lambda.Throttled, nil
		}
		if !m.makeRoom(ctx) {
			break
		}
	}
	p.release()
	return nil, lambda.Full, nil
}

// startOn registers the environment before the worker knows of it: the worker may call back before Start returns.
func (m *Manager) startOn(ctx context.Context, p *pool, req lambda.AcquireRequest, expires time.Time, id lambda.WorkerID, w Worker) (*environment, error) {
	e := &environment{
		id:      lambda.EnvironmentID(uuid.NewString()),
		worker:  id,
		state:   reserved,
		pool:    p,
		expires: expires,
		began:   expires.Add(-m.cfg.ReservationLimit),
		bytes:   int64(req.Version.MemoryMB) << 20,
	}
	m.register(req.Key, e)
	err := w.Start(ctx, lambda.StartRequest{Environment: e.id, Owner: m.cfg.ID, Key: req.Key, Version: req.Version})
	if err != nil {
		m.forget(e)
		return nil, err
	}
	return e, nil
}
