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
	m.environments.Range(func(_, v any) bool {
		switch e := v.(*environment); {
		case e.worker != id:
		case ended:
			m.forget(e)
		default:
			e.set.silence(e)
		}
		return true
	})
	if !ended {
		m.doubt(id)
	}
}

// Back is told that a worker is heard again, or another process of its name: it is asked at once what is there.
func (m *Manager) Back(id lambda.WorkerID) {
	m.spawn(func(ctx context.Context) { m.recheck(ctx, id) })
}

// doubt asks a worker that somebody could not reach whether it is there. If it does not answer, nothing idle there is handed out
// until it does. It is not taken for lost on that word alone: a frontend that has just started may not know it yet.
func (m *Manager) doubt(id lambda.WorkerID) {
	if _, begun := m.doubted.LoadOrStore(id, struct{}{}); begun {
		return
	}
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
