package acceptance_test

import (
	"fmt"
	"testing"
	"time"

	"berth/lambda"
	"berth/manager"
)

// Design F: tenants of one function. F1, F9 and F12 need real sandboxes and are in e2e; F6 is with the verifiers in
// examples/tenant-verifier; F7 and F8 are with the API; F10 is with the events.

// callAs runs one call of a tenant to its end and returns its environment.
func (c *cluster) callAs(i int, function, tenant string) lambda.EnvironmentID {
	c.t.Helper()
	k := c.mustBeginAs(i, function, tenant)
	c.worker.endCall(k)
	return k.environment.Load().(lambda.EnvironmentID)
}

// mustBeginAs is beginAs for calls that must be admitted.
func (c *cluster) mustBeginAs(i int, function, tenant string) *call {
	c.t.Helper()
	k := c.beginAs(i, function, tenant)
	select {
	case <-k.done:
		c.t.Fatalf("a call of tenant %s was refused: %v", tenant, k.err)
	default:
	}
	return k
}

// wantRefusedAs begins a call of a tenant that must get 429.
func (c *cluster) wantRefusedAs(i int, function, tenant string) {
	c.t.Helper()
	k := c.beginAs(i, function, tenant)
	select {
	case <-k.done:
	default:
		c.t.Fatalf("a call of tenant %s was admitted", tenant)
	}
	if lambda.CodeOf(k.err) != lambda.TooManyRequests {
		c.t.Fatalf("error = %v, want TooManyRequests", k.err)
	}
}

// tenantOf is whose an environment is; false when it is not there any more.
func (w *worker) tenantOf(id lambda.EnvironmentID) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.live[id]
	if e == nil {
		return "", false
	}
	return e.key.Tenant, true
}

func (w *worker) madeSoFar() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.made
}

// tenant is what a manager says of a tenant.
func (c *cluster) tenant(id lambda.ManagerID, function, tenant string) manager.TenantStatus {
	for _, s := range c.managers[id].m.Tenants(account, function, 1000) {
		if s.Tenant == tenant {
			return s
		}
	}
	return manager.TenantStatus{}
}

func TestF2_TheSameTenantReusesItsEnvironment(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 5, frontends: 3, quota: 10, limit: 50})
		for range 50 { // one frontend believes that all managers are in S, the others do not
			c.mustBegin(0, "f")
		}
		c.worker.endAll()
		first := map[string]lambda.EnvironmentID{}
		before := c.worker.madeSoFar()
		for round := range 3 {
			for n := range 20 {
				tenant := fmt.Sprint("t", n)
				id := c.callAs((round+n)%3, "isolated", tenant)
				if round > 0 && id != first[tenant] {
					t.Errorf("round %d: tenant %s ran in %s, its environment is %s", round, tenant, id, first[tenant])
				}
				first[tenant] = id
			}
		}
		if made := c.worker.madeSoFar() - before; made != 20 {
			t.Errorf("%d environments were made for 20 tenants", made)
		}
	})
}

func TestF3_AnUnboundEnvironmentIsBound(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{quota: 10, limit: 10})
		blue := c.callAs(0, "isolated", "blue")
		if made := c.worker.madeSoFar(); made != 1 {
			t.Fatalf("without an unbound environment %d were made for the first call", made)
		}
		defer c.start()()
		c.eventually("an unbound environment is made ahead, and waits", func() bool {
			s := c.tenant("manager-0", "isolated", lambda.Unbound)
			return s.Environments == 1 && s.Busy == 0
		})
		made := c.worker.madeSoFar()
		green := c.mustBeginAs(0, "isolated", "green")
		id := green.environment.Load().(lambda.EnvironmentID)
		if n := c.worker.madeSoFar(); n != made || id == blue {
			t.Errorf("green ran in %s (blue's is %s), and %d environments were made for it", id, blue, n-made)
		}
		c.worker.endCall(green)
		if again := c.callAs(0, "isolated", "green"); again != id {
			t.Errorf("green's second call ran in %s, not in its own %s", again, id)
		}
		if s := c.tenant("manager-0", "isolated", "green"); s.Environments != 1 || s.Calls != 2 {
			t.Errorf("the manager knows %+v of green", s)
		}
	})
}

func TestF4_UnderPressureABoundEnvironmentEnds(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{quota: 10, limit: 10})
		c.worker.room = 2
		for range 3 {
			c.callAs(0, "isolated", "busy")
		}
		idle := c.callAs(0, "isolated", "idle")
		made := c.worker.madeSoFar()
		id := c.callAs(0, "isolated", "new") // the scripted worker finds out when an environment is given to another tenant
		if n := c.worker.madeSoFar(); n != made+1 || id == idle {
			t.Errorf("the new tenant ran in %s, %d environments were made for it", id, n-made)
		}
		if _, there := c.worker.tenantOf(idle); there {
			t.Error("there was no room, and the environment of least value did not end")
		}
	})
}

func TestF5_ABusyTenantGetsASecondEnvironment(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 3, frontends: 2, quota: 10, limit: 30})
		one := c.mustBeginAs(0, "isolated", "blue")
		two := c.mustBeginAs(1, "isolated", "blue")
		if one.environment.Load() == two.environment.Load() {
			t.Error("two calls at once ran in one environment")
		}
		if made := c.worker.madeSoFar(); made != 2 {
			t.Errorf("%d environments were made", made)
		}
	})
}

func TestF11_AThousandOfConcurrencyHave2500Environments(t *testing.T) {
	for _, limit := range []int{4, 40} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			wired(t, func(t *testing.T, w wiring) {
				c := newCluster(t, w, options{managers: 2, quota: limit / 2, limit: limit})
				most := limit * 2500 / 1000
				ids := map[lambda.EnvironmentID]bool{}
				for n := range most {
					ids[c.callAs(0, "isolated", fmt.Sprint("t", n))] = true
				}
				if len(ids) != most || c.worker.madeSoFar() != most {
					t.Errorf("%d environments, %d made; want %d", len(ids), c.worker.madeSoFar(), most)
				}
				c.wantRefusedAs(0, "isolated", "one-more") // nothing runs: idle ones count
				c.callAs(0, "isolated", "t0")              // who has one may call
				c.mustBegin(0, "f")                        // functions without tenants have no such bound
			})
		})
	}
}

func TestF11_AtTheCapATenantWithMoreThanItsShareMakesPlace(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{quota: 4, limit: 4})
		for range 4 {
			c.mustBeginAs(0, "isolated", "noisy")
		}
		c.worker.endAll()
		for n := range 6 {
			c.callAs(0, "isolated", fmt.Sprint("t", n))
		}
		if made := c.worker.madeSoFar(); made != 10 {
			t.Fatalf("%d environments, want the cap of 10", made)
		}
		if !w.http {
			time.Sleep(time.Second) // what is counted may be a tenth of a second old
		}
		c.eventually("a tenant without an environment gets one of noisy's places", func() bool {
			k := c.beginAs(0, "isolated", "quiet")
			if k.environment.Load() == nil {
				time.Sleep(20 * time.Millisecond)
				return false
			}
			c.worker.endCall(k)
			return true
		})
		if s := c.tenant("manager-0", "isolated", "noisy"); s.Environments != 3 {
			t.Errorf("noisy has %d environments, want 3 of 4", s.Environments)
		}
		for n := range 6 {
			if s := c.tenant("manager-0", "isolated", fmt.Sprint("t", n)); s.Environments != 1 {
				t.Errorf("t%d has %d environments: each had no more than its share", n, s.Environments)
			}
		}
	})
}

// TestF11_ANoisyTenantStarvesNobody: the pool is at its limit with calls of one tenant, which asks again and again.
func TestF11_ANoisyTenantStarvesNobody(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{quota: 4, limit: 4, manager: func(cfg *manager.Config) { cfg.RoomLimit = -1 }})
		var noisy []*call
		for range 4 {
			noisy = append(noisy, c.mustBeginAs(0, "isolated", "noisy"))
		}
		c.wantRefusedAs(0, "isolated", "quiet")
		c.worker.endCall(noisy[0])
		if !w.http { // over sockets the time that room is kept for may be over by now
			for range 5 {
				c.wantRefusedAs(0, "isolated", "noisy") // the place is kept
			}
		}
		c.mustBeginAs(0, "isolated", "quiet")
		// Everybody has its share (two of four each) and a place is free: nobody waits, so anybody may have it.
		c.worker.endCall(noisy[1])
		c.mustBeginAs(0, "isolated", "noisy")
		// A tenant that waited and did not come again keeps the place for a second only.
		c.wantRefusedAs(0, "isolated", "third")
		c.worker.endCall(noisy[2])
		if w.http {
			return
		}
		c.wantRefusedAs(0, "isolated", "noisy")
		time.Sleep(1100 * time.Millisecond)
		c.mustBeginAs(0, "isolated", "noisy")
	})
}

func TestF2_ATenantFindsItsEnvironmentUnderANewRing(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		c := newCluster(t, w, options{managers: 3, frontends: 2, quota: 10, limit: 30, manager: patient})
		defer c.start()()
		first := map[string]lambda.EnvironmentID{}
		for n := range 12 {
			tenant := fmt.Sprint("t", n)
			first[tenant] = c.callAs(n%2, "isolated", tenant)
		}
		c.deploy(10, named("next", 3)...)
		c.settled()
		for tenant, id := range first {
			if got := c.callAs(0, "isolated", tenant); got != id {
				t.Errorf("under the new ring tenant %s ran in %s, its environment is %s", tenant, got, id)
			}
		}
	})
}
