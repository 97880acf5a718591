package manager

import (
	"context"
	"time"

	"berth/lambda"
)

// Lost is told that a worker is not heard any more. When its process has ended, everything there has ended with it: it counts no
// longer, and calls that ran there have failed. Otherwise the worker may only be cut off: nothing idle there is handed out, and
// what runs there counts until its time limits are over.
func (m *Manager) Lost(id lambda.WorkerID, ended bool) {
	if !ended {
		m.doubt(id)
		return
	}
	m.environments.Range(func(_, v any) bool {
		if e := v.(*environment); e.worker == id {
			m.forget(e)
		}
		return true
	})
}

// Back is told that a worker is heard again, or another process of its name: it is asked at once what is there.
func (m *Manager) Back(id lambda.WorkerID) {
	m.spawn(func(ctx context.Context) { m.recheck(ctx, id) })
}

// doubt hands out nothing idle on a worker that somebody could not reach, until it has answered.
func (m *Manager) doubt(id lambda.WorkerID) {
	if _, begun := m.doubted.LoadOrStore(id, struct{}{}); begun {
		return
	}
	m.environments.Range(func(_, v any) bool {
		if e := v.(*environment); e.worker == id {
			e.set.silence(e)
		}
		return true
	})
	m.spawn(func(ctx context.Context) {
		defer m.doubted.Delete(id)
		m.recheck(ctx, id)
	})
}

// recheck compares with a worker what both know of the environments there.
func (m *Manager) recheck(ctx context.Context, id lambda.WorkerID) {
	if list := m.heldOn(id); len(list.environments) > 0 {
		m.renewOn(ctx, time.Now(), id, list)
	}
}

// heldOn is what is to be told to one worker about everything there.
func (m *Manager) heldOn(id lambda.WorkerID) *holdings {
	list := &holdings{request: lambda.RenewRequest{Owner: m.cfg.ID}}
	now := time.Now()
	m.environments.Range(func(_, v any) bool {
		e := v.(*environment)
		if e.worker != id {
			return true
		}
		if h, ok := e.set.holding(e, now, true); ok {
			list.environments = append(list.environments, e)
			list.request.Holdings = append(list.request.Holdings, h)
		}
		return true
	})
	return list
}
