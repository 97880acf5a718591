package manager

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"berth/lambda"
)

// start asks a worker for a new environment and makes room for it when there is none. The pool has admitted it already;
// without an environment (nil: no room anywhere) that is given back.
func (m *Manager) start(ctx context.Context, p *pool, req lambda.AcquireRequest, expires time.Time) (*environment, error) {
	for range evictionTries {
		id, worker, found := m.drawWorker(req.Version)
		if found {
			e, err := m.startOn(ctx, p, req, expires, id, worker)
			if err == nil {
				return e, nil
			}
			if !errors.Is(err, lambda.ErrNoCapacity) {
				return nil, startFailed(err)
			}
			// startOn gave the admission back; ask for it anew, or the quota could be exceeded meanwhile.
			if !p.admit(m.quota(ctx, p, req.Unreachable)) {
				return nil, nil
			}
		}
		if !m.makeRoom(ctx) {
			break
		}
	}
	p.release()
	return nil, nil
}

// startOn registers the environment before the worker knows of it: the worker may call back before Start returns.
func (m *Manager) startOn(ctx context.Context, p *pool, req lambda.AcquireRequest, expires time.Time, id lambda.WorkerID, w Worker) (*environment, error) {
	e := &environment{
		id:      lambda.EnvironmentID(uuid.NewString()),
		worker:  id,
		state:   reserved,
		pool:    p,
		expires: expires,
	}
	m.register(req.Key, e)
	err := w.Start(ctx, lambda.StartRequest{Environment: e.id, Owner: m.cfg.ID, Key: req.Key, Version: req.Version})
	if err != nil {
		m.forget(e)
		return nil, err
	}
	return e, nil
}
