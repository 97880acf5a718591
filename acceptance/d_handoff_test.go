package acceptance_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/lambda"
	"berth/manager"
	"berth/ring"
)

// Design D: safe deployment by versioned rings. D9 is with the catalog's records.

// load calls function steadily, some calls at once, until stopped; it counts the calls that failed.
type load struct {
	calls, failed atomic.Int64
	stop          func()

	mu   sync.Mutex
	errs map[string]int
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs[fmt.Sprint(err)]++
}

func (c *cluster) load(callers int, function string, hold time.Duration) *load {
	l := &load{errs: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				k := c.begin(i%len(c.frontends), function)
				l.calls.Add(1)
				if k.environment.Load() == nil {
					l.failed.Add(1)
					l.note(k.err)
					time.Sleep(time.Millisecond)
					continue
				}
				time.Sleep(hold)
				c.worker.endCall(k)
				time.Sleep(time.Millisecond)
			}
		})
	}
	l.stop = func() { cancel(); wg.Wait() }
	return l
}

// replaceEach replaces the managers one by one, then all at once, then goes back, under load.
func replaceEach(t *testing.T, w wiring, c *cluster) {
	ids := c.current().Members()
	for i := range ids {
		ids[i] = lambda.ManagerID(fmt.Sprintf("second-%d", i))
		c.deploy(10, ids...)
		time.Sleep(30 * time.Millisecond)
	}
	first := ids
	c.deploy(10, named("third", len(ids))...)
	time.Sleep(30 * time.Millisecond)
	c.deploy(10, first...) // D7: a rollback is a new version with the old members
	time.Sleep(30 * time.Millisecond)
}

func TestD1_ReplacingAllManagersFailsNoCall(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 3, frontends: 2, quota: 10, limit: 30, manager: patient})
		stop := c.start()
		l := c.load(8, "f", 2*time.Millisecond)
		replaceEach(t, w, c)
		l.stop()
		c.settled()
		stop()
		if l.failed.Load() != 0 || l.calls.Load() < 20 {
			t.Errorf("%d of %d calls failed: %v", l.failed.Load(), l.calls.Load(), l.errs)
		}
	})
}

func TestD2_NoIdleEnvironmentIsLost(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 3, frontends: 2, quota: 10, limit: 30, manager: patient})
		defer c.start()()
		c.warm(30, "f")
		replaceEach(t, w, c)
		for range 4 { // the new managers' policies know as much as the old ones'
			w.sleep(3 * time.Second)
			if cold := c.again(30, "f"); cold != 0 {
				t.Errorf("%d of 30 idle environments were lost", cold)
			}
		}
		replaceEach(t, w, c)
		w.sleep(3 * time.Second)
		if cold := c.again(30, "f"); cold != 0 {
			t.Errorf("%d of 30 idle environments were lost", cold)
		}
	})
}

func TestD3_APredecessorIsAskedOnce(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 3, quota: 10, limit: 30, manager: patient}) // no offers: nothing runs in the background
		c.warm(30, "f")
		c.deploy(10, named("new", 3)...)
		for range 5 {
			c.again(30, "f")
		}
		asked := map[string]int{}
		for _, h := range c.handed.take() {
			for _, p := range h.req.Pools {
				asked[fmt.Sprint(h.from, h.req.Successor, h.req.Ring, p.Pool)]++
			}
		}
		for what, n := range asked {
			if n > 1 {
				t.Errorf("%s was asked %d times", what, n)
			}
		}
		if len(asked) != 3 {
			t.Errorf("%d predecessors were asked, want 3: %v", len(asked), asked)
		}
	})
}

func TestD4_AManagerWithEnoughDoesNotAsk(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 2, quota: 10, limit: 20, manager: patient})
		c.warm(20, "f")
		first := c.order()[0]
		// The first manager gets more slots, the second's: what it needs now it has.
		c.deploy(20, c.current().Members()...)
		if c.order()[0] != first {
			t.Fatal("the order has changed")
		}
		if cold := c.again(5, "f"); cold != 0 {
			t.Errorf("%d started cold", cold)
		}
		if asked := c.handed.take(); len(asked) != 0 {
			t.Errorf("it asked %+v", asked)
		}
		if cold := c.again(20, "f"); cold != 0 {
			t.Errorf("%d started cold", cold)
		}
		if asked := c.handed.take(); len(asked) != 1 {
			t.Errorf("it asked %d times, want once: now it needs more", len(asked))
		}
	})
}

func TestD5_AnOldManagerGivesNothingAway(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 1, quota: 10, limit: 10, manager: patient})
		c.warm(3, "f")
		old, _ := c.manager("manager-0")
		c.deploy(10, "new-0")
		k := c.mustBegin(0, "f")
		if answer, err := old.m.Acquire(t.Context(), request("f")); err != nil || answer.Verdict != lambda.Moved || answer.Ring != 2 {
			t.Errorf("the old manager answered %+v, %v; want Moved to 2", answer, err)
		}
		if n := old.m.Status().Environments; n != 0 {
			t.Errorf("the old manager still has %d environments", n)
		}
		c.worker.endCall(k)
		c.again(3, "f") // the worker's double sees to it that no reservation is used twice
	})
}

func TestD6_WithoutItsPredecessorACallIsServedInTime(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		for name, fail := range map[string]func(*tapped){
			"killed": (*tapped).kill,
			"silent": func(m *tapped) { m.silent.Store(true) },
		} {
			c := newCluster(t, w, options{managers: 1, quota: 10, limit: 10})
			stop := c.start()
			c.warm(1, "f")
			m, _ := c.manager("manager-0")
			fail(m)
			c.worker.mu.Lock()
			clear(c.worker.live) // and nothing to adopt
			c.worker.mu.Unlock()
			c.deploy(10, "new-0")
			began := time.Now()
			k := c.mustBegin(0, "f")
			if took := time.Since(began); took > manager.DefaultHandOffLimit+10*w.noise() {
				t.Errorf("%s: the call began after %v", name, took)
			}
			c.worker.endCall(k)
			stop()
		}
	})
}

func TestD6_ALostManagersEnvironmentsAreAdopted(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 3, quota: 10, limit: 30, manager: patient})
		defer c.start()()
		c.warm(30, "f")
		m, _ := c.manager(c.order()[0])
		m.kill()
		var rest []lambda.ManagerID
		for _, id := range c.current().Members() {
			if id != m.id {
				rest = append(rest, id)
			}
		}
		c.deploy(10, rest...)
		// By their ids they are shared out evenly in the long run only, and 30 calls leave no manager a choice.
		if cold := c.again(30, "f"); cold > 10 {
			t.Errorf("%d started cold; the lost manager had 10", cold)
		}
		if n := c.worker.owners()[m.id]; n != 0 {
			t.Errorf("%d environments still belong to the lost manager", n)
		}
	})
}

func TestD8_AllComputeTheSame(t *testing.T) {
	h := &ring.History{}
	for v := range 3 {
		r, err := ring.New(ring.Version(v+1), 10, named(fmt.Sprint("v", v), 5))
		if err != nil {
			t.Fatal(err)
		}
		if h.Current != nil {
			h.Earlier = append([]*ring.Ring{h.Current}, h.Earlier...)
		}
		h.Current = r
	}
	predecessors := 0
	for n := range 100 {
		pool := lambda.PoolID{Account: account, Function: fmt.Sprint("f", n)}
		for _, id := range h.Current.Members() {
			for _, p := range h.Predecessors(pool, id, 50, nil) {
				predecessors++
				mine := 0
				for _, part := range h.Parts(pool, p.Manager, 50, nil) {
					if part.Manager == id && part.Ring == p.Ring && part.From == p.From && part.To == p.To {
						mine++
					}
				}
				if mine != 1 {
					t.Fatalf("%s has the predecessor %+v, whose parts are %+v", id, p, h.Parts(pool, p.Manager, 50, nil))
				}
			}
		}
	}
	if predecessors < 2*100*5 { // all managers are new, twice
		t.Errorf("%d predecessors in all", predecessors)
	}
}

func TestD10_ReplacingOneMovesItsShareOnly(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		const pools = 100
		c := newCluster(t, w, options{managers: 5, quota: 10, limit: 10, manager: patient})
		defer c.start()()
		for n := range pools {
			name := fmt.Sprintf("own-%d", n)
			c.setLimit(lambda.PoolID{Account: account, Function: name}, 10)
			c.worker.endCall(c.mustBegin(0, name))
		}
		before := c.worker.owners()
		ids := c.current().Members()
		gone := ids[2]
		ids[2] = "fresh"
		c.deploy(10, ids...)
		c.eventually("everything has moved", func() bool {
			m, _ := c.manager(gone)
			return m.m.Status().Environments == 0 && c.worker.owners()[gone] == 0
		})
		for n := range pools {
			c.worker.endCall(c.mustBegin(0, fmt.Sprintf("own-%d", n)))
		}
		if c.worker.made != pools {
			t.Errorf("%d environments were made, want %d", c.worker.made, pools)
		}
		moved := len(handedTo(c.handed.take()))
		if fresh := c.worker.owners()["fresh"]; moved > before[gone]+fresh || moved < fresh {
			t.Errorf("%d environments were handed over; the replaced manager had %d, and the fresh one has %d", moved, before[gone], fresh)
		}
	})
}

func TestD11_ASuccessorKilledInAHandOffLeaksNothing(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 1, quota: 10, limit: 10, manager: patient})
		defer c.start()()
		c.warm(10, "f")
		c.next(10, "new-0")
		successor, _ := c.manager("new-0")
		old, _ := c.manager("manager-0")
		// It dies when it has been given everything, before it has told the worker.
		parts := c.history.Parts(unreserved, "manager-0", 10, nil)
		if _, err := old.m.HandOver(t.Context(), lambda.HandOverRequest{
			Ring: 2, Successor: "new-0", Pools: []lambda.PoolHandOver{{Pool: unreserved, Parts: parts}},
		}); err != nil {
			t.Fatal(err)
		}
		successor.kill()
		if n := old.m.Status().Environments; n != 0 {
			t.Errorf("the old manager has %d environments", n)
		}
		c.deploy(10, "third-0")
		// Nobody renews them, and they end with their lease; or the next manager finds them with the first, by the worker.
		if cold := c.again(10, "f"); cold > 10 {
			t.Errorf("%d started cold", cold)
		}
		m, _ := c.manager("third-0")
		if load := m.m.Load(t.Context(), unreserved); load.Running != 0 || load.Quota != 10 {
			t.Errorf("the load is %+v", load)
		}
	})
}

// TestD12_FrontendsOnDifferentRings: the limit is exact whoever goes by which ring, and every call is answered.
func TestD12_FrontendsOnDifferentRings(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		const limit = 12
		c := newCluster(t, w, options{managers: 3, frontends: 3, quota: 4, limit: limit, manager: patient})
		defer c.start()()
		l := c.load(3*limit, "f", 20*time.Millisecond)
		for round := range 6 {
			h := c.next(2+round, named(fmt.Sprint("m", round%2), 2+round%3)...)
			for i := range c.feeds {
				if round%2 == 0 { // one by one, in another order each time
					i = len(c.feeds) - 1 - i
				}
				c.feeds[(i+round)%len(c.feeds)].Set(h)
				time.Sleep(2 * time.Millisecond)
			}
			time.Sleep(10 * time.Millisecond)
		}
		c.eventually("as many run as may", func() bool { return c.worker.count() == limit })
		l.stop()
		c.settled()
		if c.worker.most > limit {
			t.Errorf("%d ran at once, the limit is %d", c.worker.most, limit)
		}
	})
}

// TestD2_ProvisionedEnvironmentsMoveToo: the first manager of the pool's order has them, and makes none anew.
func TestD2_ProvisionedEnvironmentsMoveToo(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		req := request("f")
		want := manager.Provision{
			ID: manager.ProvisionID{Account: account, Function: "f", Qualifier: "live"}, Pool: unreserved, Changed: time.Unix(1, 0),
			Targets: []manager.ProvisionTarget{{Key: req.Key, Version: req.Version, Count: 5}},
		}
		c := newCluster(t, w, options{managers: 3, quota: 10, limit: 30, manager: func(cfg *manager.Config) {
			patient(cfg)
			cfg.Provisions = func() []manager.Provision { return []manager.Provision{want} }
		}})
		c.provisioned = true
		defer c.start()()
		ready := func() bool {
			m, _ := c.manager(c.order()[0])
			return m.m.ProvisionStatus(want).Current == 5
		}
		c.eventually("they are made", ready)
		for _, members := range [][]lambda.ManagerID{named("second", 3), named("third", 2), named("second", 3)} {
			k := c.mustBegin(0, "f")
			c.deploy(10, members...)
			c.eventually("the new first manager has them", ready)
			w.sleep(3 * time.Second)
			c.worker.endCall(k)
		}
		if c.worker.made != 5 {
			t.Errorf("%d environments were made, want 5", c.worker.made)
		}
	})
}
