package worker

import (
	"context"
	"time"

	"berth/lambda"
)

// Renew extends an owner's lease on environments, and compares what both know of them: it is how words that got lost
// between them come through after all, and how a reservation that was never used is given back. It never waits.
func (w *Worker) Renew(_ context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error) {
	var answer lambda.RenewAnswer
	until := time.Now().Add(w.cfg.Lease)
	for _, h := range req.Holdings {
		e := w.registry.find(h.Environment)
		switch {
		case e == nil:
			answer.Gone = append(answer.Gone, h.Environment)
		case e.renew(h, req.Owner, until):
			answer.Idle = append(answer.Idle, h.Environment)
		}
	}
	return answer, nil
}

// renew reports whether e is idle and the holding's reservation is over. Only its owner's word extends the lease: a frontend
// may give a reservation back too.
func (e *environment) renew(h lambda.Holding, by lambda.ManagerID, until time.Time) (idle bool) {
	if h.GiveBack {
		e.release(h.Reservation)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if by == e.ownerID {
		e.leaseEnd = until
	}
	return e.state == Idle && !e.mustEnd && e.reservation >= h.Reservation
}

// endLapsed ends e if its owner has been silent for a lease: at once, or after the invocation that it runs. Nobody could
// reserve it any more, and its successor does not know it.
func (e *environment) endLapsed(now time.Time) {
	e.mu.Lock()
	lapsed := !e.mustEnd && now.After(e.leaseEnd)
	e.mu.Unlock()
	if lapsed {
		e.log.Warn("environment ends: its manager has not renewed its lease")
		e.w.live.Go(e.end)
	}
}
