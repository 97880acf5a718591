package manager

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"berth/lambda"
)

// announceRounds bounds how often an environment is asked about again that has been reserved meanwhile.
const announceRounds = 3

// announcements are what workers must be told of environments that came from other managers. To each worker goes one message at a time,
// with all that came to wait while the last one was on its way.
type announcements struct {
	mu      sync.Mutex
	waiting map[lambda.WorkerID][]*environment // there is an entry while somebody tells the worker
}

// add reports whether nobody tells the worker yet: the caller does.
func (a *announcements) add(id lambda.WorkerID, list []*environment) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = map[lambda.WorkerID][]*environment{}
	}
	before, told := a.waiting[id]
	a.waiting[id] = append(before, list...)
	return !told
}

// take returns what waits for a worker; nothing, and nobody tells the worker any more.
func (a *announcements) take(id lambda.WorkerID) []*environment {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.waiting[id]
	if len(list) == 0 {
		delete(a.waiting, id)
		return nil
	}
	a.waiting[id] = nil
	return list
}

// announce tells the workers who owns the environments now, so that their words come here, and hears what was said to the owner
// before.
func (m *Manager) announce(come []*environment) {
	byWorker := map[lambda.WorkerID][]*environment{}
	for _, e := range come {
		byWorker[e.worker] = append(byWorker[e.worker], e)
	}
	for _, id := range slices.Sorted(maps.Keys(byWorker)) {
		if m.announcements.add(id, byWorker[id]) {
			m.spawn(func(ctx context.Context) {
				for list := m.announcements.take(id); len(list) > 0; list = m.announcements.take(id) {
					m.announceOn(ctx, id, list)
				}
			})
		}
	}
}

// announceOn tells one worker. An environment that was reserved between the question and the answer is asked about again.
func (m *Manager) announceOn(ctx context.Context, id lambda.WorkerID, list []*environment) {
	for range announceRounds {
		now := time.Now()
		told := &holdings{request: lambda.RenewRequest{Owner: m.cfg.ID}}
		for _, e := range list {
			if h, ok := e.set.holding(e, now, true); ok {
				told.environments = append(told.environments, e)
				told.request.Holdings = append(told.request.Holdings, h)
			}
		}
		if len(told.environments) == 0 {
			return
		}
		number := make([]uint64, len(told.environments)) // the order of Holdings changes
		for i, h := range told.request.Holdings {
			number[i] = h.Reservation
		}
		m.renewOn(ctx, now, id, told)
		list = nil
		for i, e := range told.environments {
			if e.set.reservedSince(e, number[i]) {
				list = append(list, e)
			}
		}
	}
}
