package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"berth/frontend"
	"berth/lambda"
)

// The phases of a run.
const (
	loadTime  = 40 * time.Second
	quietTime = 2*lambda.OwnerLease + 10*time.Second // reservations and leases run out, lost words come through
)

// Run simulates one seed. It must be called in a testing/synctest bubble, and leaves no goroutine behind.
func Run(o Options) *History {
	c := newCluster(o)
	c.wg.Go(func() { c.check.watch(c.ctx) })
	c.net.sleep(1100 * time.Millisecond) // everyone has started, and heartbeats are there
	faults := c.newFaults()
	c.wg.Go(faults.run)
	c.wg.Go(c.ledger.load)
	c.wg.Go(c.changeWishes)
	for i := range c.shape.functions {
		c.wg.Go(func() { c.load(i) })
	}
	c.net.sleep(loadTime)
	faults.heal()
	c.net.sleep(invokeLimit + quietTime)
	c.check.end(c.ctx)
	c.check.endAhead()
	c.ledger.check()
	c.probe()
	c.stop()
	c.wg.Wait()
	c.net.busy.Wait()
	c.history.finish()
	return c.history
}

// load calls one function for the time of the load phase, at random instants, now and then in bursts.
func (c *Cluster) load(i int) {
	f := c.shape.functions[i]
	rng := rand.New(rand.NewPCG(c.o.Seed, 100+uint64(i)))
	end := time.Now().Add(loadTime)
	for n := 0; time.Now().Before(end); n++ {
		c.net.sleep(time.Duration(rng.ExpFloat64() / c.shape.rate * float64(time.Second)))
		burst := 1
		if rng.IntN(20) == 0 {
			burst += rng.IntN(2 * c.limit(f.pool))
		}
		for b := range burst {
			id := fmt.Sprintf("%s-%d-%d", f.name, n, b)
			d := min(time.Duration(rng.ExpFloat64()*float64(f.mean)), longestRun/2)
			at := rng.IntN(len(c.frontends))
			tenant := f.tenant(rng)
			c.wg.Go(func() { c.invoke(id, tenant, f, d, at) })
			c.net.sleep(time.Duration(1 + rng.Int64N(int64(time.Millisecond))))
		}
	}
}

// invoke is one client's call. It reports how it ended.
func (c *Cluster) invoke(id, tenant string, f function, d time.Duration, at int) string {
	f, _ = c.wishes.of(f) // a call is of the version that there is now
	c.durations.Store(id, d)
	c.check.asked(id, tenant, f)
	p, role := c.frontends[at].current()
	ending := "refused" // no frontend there
	if p != nil {
		ending = c.send(p, role, id, tenant, f)
	}
	c.check.answered(id)
	c.history.note("answer", c.frontends[at].name, id+" "+ending, 0)
	c.history.mu.Lock()
	c.history.Answers[ending]++
	c.history.mu.Unlock()
	return ending
}

func (c *Cluster) send(p *process, role *frontend.Frontend, id, tenant string, f function) string {
	ctx := context.WithValue(p.ctx, requestKey{}, id)
	done := make(chan error, 1)
	c.net.busy.Go(func() {
		ref := lambda.Ref{Account: account, Region: "us-east-1", Function: f.name}
		out, err := role.Invoke(ctx, ref, &lambda.Invocation{RequestID: id, Tenant: tenant})
		if (out == nil) == (err == nil) {
			c.history.violate("I6: invocation %s got outcome %v and error %v", id, out, err)
		}
		done <- err
	})
	select {
	case <-p.ctx.Done():
		return "reset" // the client sees its connection break
	case err := <-done:
		var e *lambda.Error
		switch {
		case err == nil:
			return "ok"
		case errors.As(err, &e):
			return string(e.Code)
		default:
			return "error"
		}
	}
}

// probe shows that the cluster works again after its faults: as many calls as the limits allow, one after the other on
// every frontend.
func (c *Cluster) probe() {
	for _, f := range c.shape.functions {
		for n := range c.frontends {
			c.net.sleep(latest / 100) // the word that the last one is over travels beside its answer
			id := fmt.Sprintf("probe-%s-%d", f.name, n)
			if ending := c.invoke(id, f.tenant(nil), f, time.Millisecond, n); ending != "ok" && c.roomLeft() && !f.crowded(ending) {
				c.history.violate("after the faults a call of %s ended with %s", f.name, ending)
			}
		}
	}
}

// roomLeft reports whether some worker has memory that no idle environment of another manager holds.
func (c *Cluster) roomLeft() bool {
	for _, id := range c.names.workers {
		_, w := c.workers[id].current()
		w.mu.Lock()
		free := w.capacity - w.used
		w.mu.Unlock()
		if free >= c.shape.functions[0].bytes() {
			return true
		}
	}
	return false
}

func (f function) bytes() int64 { return int64(f.version.MemoryMB) << 20 }

func (c *Cluster) durationOf(inv *lambda.Invocation) time.Duration {
	d, _ := c.durations.Load(inv.RequestID)
	return d.(time.Duration)
}

// tenant draws whose call it is: the first tenant's more often than the others'. Without a source it is the first's.
func (f function) tenant(rng *rand.Rand) string {
	switch {
	case len(f.tenants) == 0:
		return ""
	case rng == nil || rng.IntN(2) == 0:
		return f.tenants[0]
	}
	return f.tenants[rng.IntN(len(f.tenants))]
}

// crowded reports whether a call may end so because idle environments of other tenants are as many as the function may have.
// Those of two never are.
func (f function) crowded(ending string) bool {
	return len(f.tenants) > 2 && ending == string(lambda.TooManyRequests)
}

// startTime is how long one start takes.
func (c *Cluster) startTime(rng *rand.Rand) time.Duration {
	return min(time.Duration(rng.ExpFloat64()*float64(c.shape.startTime)), longestStart/5)
}
