package manager

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"berth/lambda"
)

// Limits of time towards workers.
const (
	renewLimit = 2500 * time.Millisecond // less than the time between two renewals: they never overlap
	// longestStart bounds the time from a reservation to the begin of its invocation: a worker gives a start a minute.
	longestStart = time.Minute
)

// holdings is what one worker is told.
type holdings struct {
	environments []*environment
	request      lambda.RenewRequest
}

// renew tells each worker which environments this manager holds there, so that the worker keeps them, and hears what the
// manager missed. With all false it only gives back reservations that have just expired.
//
// It is what keeps the accounts right when messages are lost: an environment that the worker made although the answer to
// Start was lost is never renewed and ends with its lease; one whose end was not heard of is reported gone; one that became
// idle unheard is reported idle.
func (m *Manager) renew(ctx context.Context, now time.Time, all bool) {
	workers := map[lambda.WorkerID]*holdings{}
	m.environments.Range(func(_, v any) bool {
		e := v.(*environment)
		if h, ok := e.set.holding(e, now, all); ok {
			list := workers[e.worker]
			if list == nil {
				list = &holdings{request: lambda.RenewRequest{Owner: m.cfg.ID}}
				workers[e.worker] = list
			}
			list.environments = append(list.environments, e)
			list.request.Holdings = append(list.request.Holdings, h)
		}
		return true
	})
	for _, id := range slices.Sorted(maps.Keys(workers)) {
		m.spawn(func(ctx context.Context) { m.renewOn(ctx, now, id, workers[id]) })
	}
}

func (m *Manager) renewOn(ctx context.Context, now time.Time, id lambda.WorkerID, list *holdings) {
	answer, err := m.tell(ctx, id, list.request)
	if err != nil {
		if ctx.Err() == nil {
			m.workerSilent(now, list)
		}
		return
	}
	for _, e := range list.environments {
		e.set.confirm(e, now)
	}
	if len(answer.Gone) > 0 {
		told := make(map[lambda.EnvironmentID]*environment, len(list.environments))
		for _, e := range list.environments {
			told[e.id] = e
		}
		for _, id := range answer.Gone { // one that was given away since, and has come back, is another record
			if v, ok := m.environments.Load(id); ok && v == told[id] {
				m.forget(told[id])
			}
		}
	}
	if len(answer.Idle) == 0 {
		return
	}
	number := make(map[lambda.EnvironmentID]uint64, len(list.request.Holdings))
	for _, h := range list.request.Holdings {
		number[h.Environment] = h.Reservation
	}
	for _, id := range answer.Idle {
		m.EnvironmentIdle(id, number[id])
	}
}

func (m *Manager) tell(ctx context.Context, id lambda.WorkerID, req lambda.RenewRequest) (lambda.RenewAnswer, error) {
	slices.SortFunc(req.Holdings, func(a, b lambda.Holding) int { return cmp.Compare(a.Environment, b.Environment) })
	w, ok := m.cfg.Workers.Worker(id)
	if !ok {
		return lambda.RenewAnswer{}, lambda.ErrUnreachable
	}
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	defer cancel()
	return w.Renew(ctx, req)
}

// workerSilent hands out nothing more of a worker that does not answer, and drops what cannot be there any more.
func (m *Manager) workerSilent(now time.Time, list *holdings) {
	for _, e := range list.environments {
		e.set.silence(e)
		if e.set.lost(e, now, m.cfg.Lease) {
			m.forget(e)
		}
	}
}
