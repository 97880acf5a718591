package worker

import (
	"context"
	"sync"
	"time"

	"berth/lambda"
)

// Renew extends an owner's lease on environments, and compares what both know of them: it is how words that got lost
// between them come through after all, and how a reservation that was never used is given back. A new owner takes an
// environment over by it, if its epoch is higher than the last one's. It never waits.
func (w *Worker) Renew(_ context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error) {
	var answer lambda.RenewAnswer
	until := time.Now().Add(w.cfg.Lease)
	for _, h := range req.Holdings {
		e := w.registry.find(h.Environment)
		if e == nil {
			answer.Gone = append(answer.Gone, h.Environment)
			continue
		}
		if req.Owner != "" {
			held, stale := e.extend(h, req.Owner, until)
			if !held {
				answer.Gone = append(answer.Gone, h.Environment)
			}
			if !held || stale {
				continue
			}
		}
		if e.compare(h) {
			answer.Idle = append(answer.Idle, h.Environment)
		}
	}
	return answer, nil
}

// extend renews the lease of the owner, or of a newer one. held is false for everybody else: what they believe to own is
// another's. stale is a word that the owner said before it had lost the environment and got it back.
func (e *environment) extend(h lambda.Holding, by lambda.ManagerID, until time.Time) (held, stale bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case by == e.ownerID && h.Epoch < e.epoch:
		return true, true
	case by != e.ownerID && h.Epoch <= e.epoch:
		return false, false
	case by != e.ownerID && !e.own(by):
		return false, false
	}
	e.epoch, e.leaseEnd = h.Epoch, until
	return true, false
}

// own changes the owner; false when it is not known here. e.mu is held.
func (e *environment) own(id lambda.ManagerID) bool {
	owner := e.w.cfg.Owners(id)
	if owner == nil {
		return false
	}
	e.owner, e.ownerID = owner, id
	return true
}

// compare gives a reservation back if the holding says so, as a frontend may too, and reports whether e is idle and the
// holding's reservation is over.
func (e *environment) compare(h lambda.Holding) (idle bool) {
	if h.GiveBack {
		e.release(h.Reservation)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state == Idle && !e.mustEnd && e.reservation >= h.Reservation
}

// endLapsed ends e if its owner has been silent for a lease: at once, or after the invocation that it runs. Nobody could
// reserve it any more, and no successor has adopted it.
func (e *environment) endLapsed(now time.Time) {
	e.mu.Lock()
	lapsed := !e.mustEnd && now.After(e.leaseEnd)
	e.mu.Unlock()
	if lapsed {
		e.log.Warn("environment ends: its manager has not renewed its lease")
		e.w.live.Go(e.end)
	}
}

// endedKept is for how long, and at most how many, ids of environments that have ended are remembered. A request to start
// one that comes twice, once very late, must not make it again.
const (
	endedKept = lambda.OwnerLease
	endedMost = 10_000
)

// ended remembers environments.
type ended struct {
	mu    sync.Mutex
	ids   map[lambda.EnvironmentID]struct{}
	queue []endedOne // oldest first
}

type endedOne struct {
	id lambda.EnvironmentID
	at time.Time
}

func (g *ended) add(id lambda.EnvironmentID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ids == nil {
		g.ids = map[lambda.EnvironmentID]struct{}{}
	}
	now, old := time.Now(), 0
	for old < len(g.queue) && (now.Sub(g.queue[old].at) > endedKept || len(g.queue)-old >= endedMost) {
		delete(g.ids, g.queue[old].id)
		old++
	}
	g.queue = append(g.queue[old:], endedOne{id, now})
	g.ids[id] = struct{}{}
}

func (g *ended) has(id lambda.EnvironmentID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.ids[id]
	return ok
}
