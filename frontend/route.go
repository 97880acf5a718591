package frontend

import (
	"context"
	"errors"
	"slices"
	"time"

	"berth/lambda"
	"berth/ring"
)

// sweeps bounds how often a call asks all useful managers before it is throttled although room kept moving between them.
const sweeps = 16

// tenantTries bounds how many managers a call of a tenant asks for an environment of its own before one is made. After a change
// of the ring it may be anywhere.
const tenantTries = 16

// route is one call's search for an environment among the managers of its pool.
type route struct {
	f     *Frontend
	p     *poolView
	req   lambda.AcquireRequest
	at    *place
	order []lambda.ManagerID // the useful managers, in the pool's order
	dead  []lambda.ManagerID
	last  map[lambda.ManagerID]lambda.Answer // last refusal of each manager asked for more than reuse
	asked []lambda.ManagerID                 // the keys of last, in the order of the first refusals
}

// search finds an environment under one ring. Designs in play: draws in S for an idle one (E), then one made by a manager of S, then a
// larger S (A, B), then the managers beyond it. A call is throttled only when all managers were seen at their quota at one
// moment. The error is TooManyRequests then, or a movedError or silentError.
func (f *Frontend) search(ctx context.Context, p *poolView, at *place, req lambda.AcquireRequest, provisioned bool) (lambda.Reservation, error) {
	r, limit, useful := at.history.Current, at.limit, at.useful
	req.Ring = uint64(r.Version())
	if r.Len() == 0 {
		return lambda.Reservation{}, lambda.Errorf(lambda.ServiceFailure, "No manager is alive.")
	}
	if provisioned && useful != 1 { // with one useful manager the search below asks nobody else
		if answer, err := (&route{f: f, p: p, req: req, at: at}).askAhead(ctx, r); err != nil || answer.Verdict == lambda.Granted {
			return answer.Reservation, err
		}
	}
	if useful == 0 {
		return lambda.Reservation{}, throttled(p.id)
	}
	c := &route{f: f, p: p, req: req, at: at, order: at.order[:useful]}
	size := min(p.currentSize(), useful)
	answer, err := c.drawIn(ctx, c.order[:size])
	if err != nil || answer.Verdict == lambda.Granted {
		return answer.Reservation, err
	}
	if useful > size || len(c.dead) > 0 {
		answer, err = c.beyond(ctx, r, limit, size)
		if err != nil || answer.Verdict == lambda.Granted {
			return answer.Reservation, err
		}
	}
	if len(c.last) == 0 && len(c.dead) > 0 { // nobody has said that the limit is reached: a ring without the dead ones comes
		return lambda.Reservation{}, &silentError{c.dead}
	}
	return c.confirm(ctx)
}

// askAhead asks for an environment made ahead of calls. The pool's first manager has them, whatever is left of the limit. The
// ring is not empty.
func (c *route) askAhead(ctx context.Context, r *ring.Ring) (lambda.Answer, error) {
	return c.askFor(ctx, r.Manager(c.p.id), true)
}

// drawIn looks for an environment among the managers of S: by random draws for an existing one, within the budget of tries
// and time, then at the next one drawn for an existing or a new one, then at the others.
func (c *route) drawIn(ctx context.Context, s []lambda.ManagerID) (lambda.Answer, error) {
	if c.req.Key.Tenant != "" {
		return c.drawTenant(ctx)
	}
	drawn := c.draw(s)
	reuse := min(c.f.cfg.ReuseTries, len(drawn)-1)
	var began time.Time
	if reuse > 0 {
		began = time.Now()
	}
	for i, id := range drawn {
		reuseOnly := i < reuse && time.Since(began) < c.f.cfg.ReuseBudget
		answer, err := c.askFor(ctx, id, reuseOnly)
		if err != nil || answer.Verdict == lambda.Granted {
			return answer, err
		}
		if !reuseOnly {
			reuse = 0
		}
	}
	// Those that had nothing idle have not been asked for a new one yet.
	return c.each(ctx, drawn)
}

// drawTenant looks for a tenant's environment among all useful managers, whatever S is: what a tenant has is little, and frontends
// differ in what they believe of S. By the tenant's hash all of them begin at the same, so nearly every call finds what
// there is at once. What there is not is made there too.
func (c *route) drawTenant(ctx context.Context) (lambda.Answer, error) {
	began := time.Now()
	ranked := c.draw(c.order)
	if len(ranked) > 1 && c.f.cfg.ReuseTries > 0 {
		for _, id := range ranked[:min(len(ranked), tenantTries)] {
			answer, err := c.askFor(ctx, id, true)
			if err != nil || answer.Verdict == lambda.Granted {
				return answer, err
			}
			if time.Since(began) >= c.f.cfg.ReuseBudget {
				break
			}
		}
		clear(c.last) // those at their quota are asked once more
		c.asked = c.asked[:0]
	}
	return c.each(ctx, ranked)
}

// draw returns managers in random order, by the configured weights; for a call of a tenant in the tenant's own order.
func (c *route) draw(s []lambda.ManagerID) []lambda.ManagerID {
	if len(s) == 1 && c.f.cfg.Weight == nil {
		return s
	}
	drawn := slices.Clone(s)
	if c.f.cfg.Weight == nil {
		if c.req.Key.Tenant != "" {
			ring.RankTenant(c.req.Key, drawn, nil)
			return drawn
		}
		c.f.rng.Shuffle(len(drawn), func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
		return drawn
	}
	weights := make([]float64, len(drawn))
	for i, id := range drawn {
		weights[i] = max(0, c.f.cfg.Weight(c.p.id, id))
	}
	if c.req.Key.Tenant != "" {
		ring.RankTenant(c.req.Key, drawn, weights)
		return drawn
	}
	for i := range drawn {
		j := i + c.f.weightedIndex(weights[i:])
		drawn[i], drawn[j] = drawn[j], drawn[i]
		weights[i], weights[j] = weights[j], weights[i]
	}
	return drawn
}

func (f *Frontend) weightedIndex(weights []float64) int {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	if sum == 0 {
		return f.rng.IntN(len(weights))
	}
	x := f.rng.Float64() * sum
	for i, w := range weights {
		if x -= w; x < 0 {
			return i
		}
	}
	return len(weights) - 1
}

// each asks the managers that have not refused a new environment yet, one after the other.
func (c *route) each(ctx context.Context, managers []lambda.ManagerID) (lambda.Answer, error) {
	for _, id := range managers {
		if _, asked := c.last[id]; asked || slices.Contains(c.dead, id) {
			continue
		}
		answer, err := c.askFor(ctx, id, false)
		if err != nil || answer.Verdict == lambda.Granted {
			return answer, err
		}
	}
	return lambda.Answer{}, nil
}

// beyond grows S to what the load needs and asks the added managers, then the rest of the useful ones: while fewer than the
// limit run, a call is not throttled because of what S is believed to be (A11).
func (c *route) beyond(ctx context.Context, r *ring.Ring, limit, size int) (lambda.Answer, error) {
	deadInS := 0
	for _, id := range c.order[:size] {
		if slices.Contains(c.dead, id) {
			deadInS++
		}
	}
	c.f.grow(ctx, c.p, r, limit, deadInS)
	answer, err := c.each(ctx, c.order[size:])
	if err != nil || answer.Verdict == lambda.Granted || len(c.dead) == 0 {
		return answer, err
	}
	// With every useful manager tried and some dead: the next one in the order stands in for them.
	for _, id := range c.standIns(r) {
		answer, err := c.askFor(ctx, id, false)
		if err != nil || answer.Verdict == lambda.Granted {
			return answer, err
		}
	}
	return lambda.Answer{}, nil
}

// standIns are the managers that take over a dead one's quota: for each run of dead ones, the next living in the order.
func (c *route) standIns(r *ring.Ring) []lambda.ManagerID {
	all := r.Managers(c.p.id, r.Len(), nil)
	var out []lambda.ManagerID
	for i, id := range all {
		previous := all[(i+len(all)-1)%len(all)]
		if slices.Contains(c.dead, previous) && !slices.Contains(c.dead, id) {
			out = append(out, id)
		}
	}
	return out
}

// askFor sends one request and keeps what the manager reported. A manager that cannot be reached is dead for this call.
func (c *route) askFor(ctx context.Context, id lambda.ManagerID, reuseOnly bool) (lambda.Answer, error) {
	req := c.req
	req.ReuseOnly = reuseOnly
	req.Unreachable = c.dead
	req.Predecessors = c.at.predecessors(id)
	m, ok := c.f.cfg.Manager(id)
	if !ok {
		c.dead = append(c.dead, id)
		return lambda.Answer{}, nil
	}
	answer, err := m.Acquire(ctx, req)
	if errors.Is(err, lambda.ErrUnreachable) && ctx.Err() == nil {
		c.dead = append(c.dead, id)
		return lambda.Answer{}, nil
	}
	if err != nil {
		return lambda.Answer{}, err
	}
	if answer.Verdict == lambda.Moved {
		return lambda.Answer{}, &movedError{answer.Ring}
	}
	c.p.report(id, answer, time.Now())
	if answer.Verdict != lambda.Granted && answer.Verdict != lambda.Miss {
		if c.last == nil {
			c.last = make(map[lambda.ManagerID]lambda.Answer, len(c.order))
		}
		if _, again := c.last[id]; !again {
			c.asked = append(c.asked, id)
		}
		c.last[id] = answer
	}
	return answer, nil
}

// confirm decides whether the call is throttled. Managers were asked one after the other, so all of them may have refused
// although there was room somewhere all the time. When a second look finds each still refusing and none to have given
// anything back in between, all were full at one moment: a double collect (Afek et al., "Atomic snapshots", 1993).
func (c *route) confirm(ctx context.Context) (lambda.Reservation, error) {
	if len(c.last) == 1 && len(c.dead) == 0 {
		return lambda.Reservation{}, throttled(c.p.id) // one register is its own snapshot
	}
	for range sweeps {
		moved := false
		for _, id := range c.asked {
			before := c.last[id]
			answer, err := c.askFor(ctx, id, false)
			if err != nil || answer.Verdict == lambda.Granted {
				return answer.Reservation, err
			}
			moved = moved || answer.Load.Released != before.Load.Released
		}
		if !moved {
			break
		}
	}
	return lambda.Reservation{}, throttled(c.p.id)
}

func throttled(id lambda.PoolID) error {
	reason := lambda.ReasonConcurrency
	if id.Function != "" {
		reason = lambda.ReasonReservedConcurrency
	}
	return &lambda.Error{Code: lambda.TooManyRequests, Message: "Rate Exceeded.", Reason: reason, RetryAfter: time.Second}
}
