package manager

import (
	"context"

	"berth/lambda"
)

// Leave ends the environments on a worker in which nothing runs, because the worker is to stop: no call is sent there once
// it has begun. Those that run a call the worker ends itself, after it.
func (m *Manager) Leave(ctx context.Context, id lambda.WorkerID) {
	m.environments.Range(func(_, v any) bool {
		if e := v.(*environment); e.worker == id {
			m.endIdle(ctx, e)
		}
		return true
	})
}
