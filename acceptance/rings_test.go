package acceptance_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/lambda"
	"berth/manager"
	"berth/ring"
)

// manager finds one of the cluster's.
func (c *cluster) manager(id lambda.ManagerID) (*tapped, bool) {
	c.managersMu.Lock()
	defer c.managersMu.Unlock()
	m, ok := c.managers[id]
	return m, ok
}

// peer is a manager as the others reach it. A dead one is known for a while yet.
func (c *cluster) peer(id lambda.ManagerID) (manager.Peer, bool) {
	m, ok := c.manager(id)
	if !ok {
		return nil, false
	}
	if m.edge != nil {
		return m.edge, true
	}
	return m, true
}

// handOver is one hand-over as a manager answered it.
type handOver struct {
	from   lambda.ManagerID
	req    lambda.HandOverRequest
	answer lambda.HandOverAnswer
}

// HandOver and Offer are the manager's.
func (m *tapped) HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error) {
	if m.dead.Load() {
		return lambda.HandOverAnswer{}, lambda.ErrUnreachable
	}
	if d := m.silent.Load(); d {
		<-ctx.Done()
		return lambda.HandOverAnswer{}, lambda.ErrUnreachable
	}
	answer, err := m.m.HandOver(ctx, req)
	m.c.handed.add(handOver{m.id, req, answer})
	return answer, err
}

func (m *tapped) Offer(ctx context.Context, req lambda.OfferRequest) error {
	if m.dead.Load() {
		return lambda.ErrUnreachable
	}
	return m.m.Offer(ctx, req)
}

// kill ends a manager as SIGKILL does.
func (m *tapped) kill() {
	m.die()
	m.stop()
}

// renew is the worker's rule: the owner's lease, and a newer owner's taking over. Frontends have no name.
func (e *running) renew(by lambda.ManagerID, epoch uint64) bool {
	switch {
	case by == "" || by == e.owner:
	case epoch > e.epoch:
		e.own(by)
	default:
		return false
	}
	e.epoch = max(e.epoch, epoch)
	return true
}

func (e *running) own(by lambda.ManagerID) {
	e.owner = by
	e.owners = append(e.owners, by)
}

// Adopt is as the worker's.
func (w *worker) Adopt(_ context.Context, req lambda.AdoptRequest) (answer lambda.AdoptAnswer, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(w.live)) {
		e := w.live[id]
		if e.owner != req.From && (e.owner != req.Owner || e.epoch != req.Epoch) {
			continue
		}
		pool := lambda.HandedPool{Pool: e.pool}
		if req.Owner != "" {
			if !req.AllPools && e.pool != req.Pool || e.owner != req.Owner && len(req.Parts) > 0 && ring.Heir(id, false, req.Parts) != req.Owner {
				answer.Left++
				continue
			}
			h := lambda.Handed{Environment: id, Worker: "w", State: lambda.HandedIdle, Reservation: e.number}
			if e.finish != nil {
				h.State = lambda.HandedInUse
			} else if e.owner != req.Owner {
				e.number++
				h.Reservation++
			}
			if e.owner != req.Owner {
				e.own(req.Owner)
				e.epoch = req.Epoch
			}
			h.Epoch = e.epoch
			pool.Keys = []lambda.HandedKey{{Key: e.key, MemoryMB: 128, Environments: []lambda.Handed{h}}}
		}
		answer.Pools = append(answer.Pools, pool)
	}
	return answer, nil
}

// next makes the next ring version, of the given managers, without telling anybody.
func (c *cluster) next(quota int, ids ...lambda.ManagerID) *ring.History {
	c.t.Helper()
	r, err := ring.New(c.history.Current.Version()+1, quota, ids)
	if err != nil {
		c.t.Fatal(err)
	}
	c.history = &ring.History{Current: r, Earlier: append([]*ring.Ring{c.history.Current}, c.history.Earlier...)}
	for _, id := range ids {
		if _, there := c.manager(id); !there {
			c.addManager(id, c.edit)
			if c.running != nil {
				m, _ := c.manager(id)
				c.run(m)
			}
		}
	}
	return c.history
}

// deploy makes the next ring version and tells everybody.
func (c *cluster) deploy(quota int, ids ...lambda.ManagerID) {
	c.t.Helper()
	h := c.next(quota, ids...)
	for _, f := range c.feeds {
		f.Set(h)
	}
}

func named(prefix string, n int) (out []lambda.ManagerID) {
	for i := range n {
		out = append(out, lambda.ManagerID(fmt.Sprintf("%s-%d", prefix, i)))
	}
	return out
}

// warm makes n idle environments of function by n calls at once, spread over the frontends.
func (c *cluster) warm(n int, function string) {
	c.t.Helper()
	var calls []*call
	for i := range n {
		calls = append(calls, c.mustBegin(i%len(c.frontends), function))
	}
	for _, k := range calls {
		c.worker.endCall(k)
	}
	c.settled()
}

// settled waits until the living managers count what runs: while environments change hands, a worker's word may go to the
// one that has just given them away, and is made up for a moment later.
func (c *cluster) settled() {
	c.t.Helper()
	c.eventually("the managers count what runs", func() bool {
		n := 0
		c.managersMu.Lock()
		defer c.managersMu.Unlock()
		for _, m := range c.managers {
			if m.alive() {
				n += m.m.Load(context.Background(), unreserved).Running
			}
		}
		return n == c.worker.count()
	})
}

// again runs n calls at once and reports how many started cold.
func (c *cluster) again(n int, function string) (cold int) {
	c.t.Helper()
	c.worker.mu.Lock()
	made := c.worker.made
	c.worker.mu.Unlock()
	c.warm(n, function)
	c.worker.mu.Lock()
	defer c.worker.mu.Unlock()
	return c.worker.made - made
}

// eventually waits for what other goroutines are about to do.
func (c *cluster) eventually(what string, ok func() bool) {
	c.t.Helper()
	for limit := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			c.t.Fatal("waited in vain until " + what)
		}
	}
}

// patient gives managers on a busy machine time to answer, and calls time to come.
func patient(cfg *manager.Config) {
	cfg.HandOffLimit, cfg.ReservationLimit = 10*time.Second, manager.DefaultReservationLimit
}

// owners counts the worker's environments by owner.
func (w *worker) owners() map[lambda.ManagerID]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := map[lambda.ManagerID]int{}
	for _, e := range w.live {
		n[e.owner]++
	}
	return n
}

// handedTo lists who was given each environment.
func handedTo(all []handOver) map[lambda.EnvironmentID][]lambda.ManagerID {
	out := map[lambda.EnvironmentID][]lambda.ManagerID{}
	for _, h := range all {
		for _, p := range h.answer.Pools {
			for _, k := range p.Keys {
				for _, e := range k.Environments {
					out[e.Environment] = append(out[e.Environment], h.req.Successor)
				}
			}
		}
	}
	return out
}

// predecessorsSeen watches which predecessors requests name.
type predecessorsSeen struct {
	mu   sync.Mutex
	sets map[lambda.ManagerID]map[lambda.ManagerID]bool
}

func (c *cluster) watchPredecessors() *predecessorsSeen {
	seen := &predecessorsSeen{sets: map[lambda.ManagerID]map[lambda.ManagerID]bool{}}
	for id, m := range c.managers {
		m.setTap(func(req lambda.AcquireRequest, a lambda.Answer) lambda.Answer {
			seen.mu.Lock()
			defer seen.mu.Unlock()
			for _, p := range req.Predecessors {
				if seen.sets[id] == nil {
					seen.sets[id] = map[lambda.ManagerID]bool{}
				}
				seen.sets[id][p.Manager] = true
			}
			return a
		})
	}
	return seen
}

func (s *predecessorsSeen) of(id lambda.ManagerID) []lambda.ManagerID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.sets[id]), cmp.Compare[lambda.ManagerID])
}

// TestAFeedOfRings keeps the double of the wire honest: a request of a ring that a manager has not heard of waits for it.
func TestAManagerWaitsForTheRingThatARequestGoesBy(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 2, quota: 10, limit: 20})
		defer c.start()()
		h := c.next(10, "manager-0", "manager-1")
		c.feeds[2].Set(h) // the frontend's
		done := make(chan *call, 1)
		go func() { done <- c.begin(0, "f") }()
		time.Sleep(20 * time.Millisecond)
		for _, f := range c.feeds {
			f.Set(h)
		}
		if k := <-done; k.environment.Load() == nil {
			t.Errorf("the call ended with %v", k.err)
		}
	})
}
