package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/admin"
	"berth/client"
)

// The points of designs C and D that hold for processes too, some of which are killed with SIGKILL.

// ringed is a server of some managers of which the ring has only those named, and functions whose idle environments are known.
type ringed struct {
	*processes
	t      *testing.T
	to     *balancer
	before map[string]map[string]bool
}

// startRinged starts managers m1…, of which the ring has the first few, with a quota.
func startRinged(t *testing.T, managers, first, quota int) *ringed {
	t.Helper()
	p := startProcesses(t, managers, 1, "--memory", plenty, "--pool-quota", fmt.Sprint(quota))
	r := &ringed{processes: p, t: t, to: &balancer{frontends: p.frontends}}
	waitRing(t, p.frontends[0], named("m", 1, managers)...)
	r.deploy(quota, named("m", 1, first)...)
	return r
}

func named(prefix string, from, to int) (ids []string) {
	for i := from; i <= to; i++ {
		ids = append(ids, fmt.Sprint(prefix, i))
	}
	return ids
}

func (r *ringed) deploy(quota int, managers ...string) admin.Ring {
	r.t.Helper()
	made, err := r.frontends[0].DeployRing(r.t.Context(), admin.Deploy{Managers: managers, Quota: quota})
	if err != nil {
		r.t.Fatalf("deploying a ring of %v: %v", managers, err)
	}
	return made
}

// idle makes a marked function with a limit, and so many idle environments of it. The keep-alive policy may take the burst for the
// begin of a larger one, make some more ahead, and end the oldest of what is too many then. That is not what is tested: it waits until
// a second burst has found the same environments, and a sweep and more has left them as they are.
func (r *ringed) idle(name string, n int) {
	r.t.Helper()
	deployMarked(r.t, r.frontends[0], name)
	reserve(r.t, r.frontends[0], name, int32(n))
	each := map[string]int{name: n}
	r.before, _ = idleSet(r.t, r.to, each)
	for deadline := time.Now().Add(clusterWithin); ; {
		waitIdle(r.t, r.to)
		time.Sleep(1500 * time.Millisecond)
		again, started := idleSet(r.t, r.to, each)
		waitIdle(r.t, r.to)
		survived, _ := kept(r.before, again)
		if r.before = again; survived == n && started == 0 && r.environments() == n {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d idle environments do not stay as they are", n)
		}
	}
}

// environments is how many the managers have.
func (r *ringed) environments() (n int) {
	r.t.Helper()
	s, err := r.frontends[0].Cluster(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range s.Processes {
		if p.Manager != nil {
			n += p.Manager.Environments
		}
	}
	return n
}

// again makes as many calls at once as there are idle environments, and returns how many of those are still there and how many
// calls started cold.
func (r *ringed) again() (survived, started int) {
	r.t.Helper()
	waitIdle(r.t, r.to)
	each := map[string]int{}
	for name, set := range r.before {
		each[name] = len(set)
	}
	after, started := idleSet(r.t, r.to, each)
	if survived, _ = kept(r.before, after); started > 0 {
		logStatus(r.t, r.to)
	}
	return survived, started
}

func TestC5_UnchangedTrafficStartsNothingColdProcesses(t *testing.T) {
	r := startRinged(t, 6, 4, 2)
	r.idle("c5", 8)
	r.deploy(4, "m5", "m6") // four managers of 2 become two of 4
	for range 2 {
		if survived, started := r.again(); survived != 8 || started != 0 {
			t.Errorf("%d of 8 environments were found, %d calls started cold", survived, started)
		}
	}
}

func TestC7_OnlyADeadPredecessorsShareGoesColdProcesses(t *testing.T) {
	r := startRinged(t, 6, 4, 2)
	r.idle("c7", 8)
	r.managers["m3"].Kill()
	r.deploy(4, "m5", "m6")
	survived, started := r.again()
	t.Logf("%d of 8 environments were found after one of four predecessors was killed, %d calls started cold", survived, started)
	if started > 2 {
		t.Errorf("%d calls started cold; the killed manager had 2 environments", started)
	}
}

// replaceUnderLoad calls a function steadily while change is at work, and returns what became of the calls.
func (r *ringed) replaceUnderLoad(name string, change func()) []answer {
	r.t.Helper()
	deployMarked(r.t, r.frontends[0], name)
	idleSet(r.t, r.to, map[string]int{name: 4}) // so that a busy machine's pauses do not end in a heap of cold starts
	waitIdle(r.t, r.to)
	f := startTraffic(r.t, r.to, 25*time.Millisecond, 5*time.Millisecond, name)
	time.Sleep(300 * time.Millisecond)
	change()
	time.Sleep(300 * time.Millisecond)
	answers := f.stop().seen()
	r.t.Log(summary(answers))
	checkAlone(r.t, answers)
	return answers
}

func TestD1_ReplacingAllManagersFailsNoCallProcesses(t *testing.T) {
	r := startRinged(t, 4, 4, 10)
	answers := r.replaceUnderLoad("d1", func() {
		for _, next := range [][2]string{{"m1", "m5"}, {"m2", "m6"}, {"m3", "m7"}, {"m4", "m8"}} {
			r.start("manager", next[1])
			r.deploy(10, slices.Concat(r.ring(), []string{next[1]})...)
			r.stop(next[0])
		}
	})
	reportFailures(t, answers)
}

// ring returns the ring's managers now.
func (r *ringed) ring() []string {
	r.t.Helper()
	s, err := r.frontends[0].Cluster(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return s.Ring.Members
}

func TestD2_NoIdleEnvironmentIsLostProcesses(t *testing.T) {
	r := startRinged(t, 4, 2, 5)
	r.idle("d2", 10)
	r.deploy(5, "m3", "m4")
	r.stop("m1")
	r.stop("m2")
	if survived, started := r.again(); survived != 10 || started != 0 {
		t.Errorf("%d of 10 idle environments survived, %d calls started cold", survived, started)
	}
}

func TestD6_WithoutItsPredecessorACallIsServedProcesses(t *testing.T) {
	r := startRinged(t, 2, 1, 10)
	deployMarked(t, r.frontends[0], "d6", "d6-never")
	call(t, r.frontends[0], "d6", "", `{}`)
	began := time.Now()
	if a := r.to.callMarked(1, "d6-never", 0); a.err != nil || a.mark.Calls != 1 {
		t.Fatalf("a cold call: %+v", a)
	}
	usual := time.Since(began)
	deployMarked(t, r.frontends[0], "d6-cold")
	waitIdle(t, r.to)
	r.managers["m1"].Kill()
	r.deploy(10, "m2")
	a := r.to.callMarked(1, "d6-cold", 0)
	if a.err != nil || a.mark.Calls != 1 {
		t.Errorf("the call after its manager was killed: %+v", a)
	}
	t.Logf("a cold call took %v, after the kill %v", usual, a.took())
	if a.took() > usual+5*time.Second { // it waited for a limit of another kind
		t.Errorf("the call after the kill took %v", a.took())
	}
	if a := r.to.callMarked(2, "d6", 0); a.err != nil || a.mark.Calls != 2 {
		t.Errorf("the killed manager's environment was not adopted: %+v", a)
	}
}

func TestD7_ARollbackLosesNothingProcesses(t *testing.T) {
	r := startRinged(t, 4, 2, 5)
	r.idle("d7-idle", 10)
	answers := r.replaceUnderLoad("d7", func() {
		deployed := r.deploy(5, "m3", "m4")
		time.Sleep(300 * time.Millisecond)
		back, err := r.frontends[0].RollBackRing(t.Context(), admin.Rollback{})
		if err != nil || back.Version != deployed.Version+1 || !slices.Equal(back.Members, named("m", 1, 2)) {
			t.Errorf("rolled back to %+v, %v", back, err)
		}
	})
	reportFailures(t, answers)
	if survived, started := r.again(); survived != 10 || started != 0 {
		t.Errorf("%d of 10 idle environments survived, %d calls started cold", survived, started)
	}
}

// TestD9_OldVersionsAreRemovedProcesses when their managers are empty; in the long version, after the lease of a killed one's
// environments too.
func TestD9_OldVersionsAreRemovedProcesses(t *testing.T) {
	r := startRinged(t, 3, 1, 10)
	r.idle("d9", 3)
	r.deploy(10, "m2")
	t.Logf("all old versions were removed after %v", waitRemoved(t, r.frontends[0]))
	if survived, _ := r.again(); survived != 3 {
		t.Errorf("%d of 3 idle environments survived", survived)
	}
	if long() {
		r.managers["m2"].Kill()
		r.deploy(10, "m3")
		t.Logf("with a killed manager after %v", waitRemoved(t, r.frontends[0]))
	}
}

// waitRemoved waits until the current ring version is the only one that is needed.
func waitRemoved(t *testing.T, c *client.Client) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		rings, err := c.Rings(t.Context())
		needed := slices.DeleteFunc(rings, func(r admin.Ring) bool { return r.State == "removed" })
		if err == nil && len(needed) == 1 && needed[0].State == "current" {
			return time.Since(began).Round(time.Millisecond)
		}
		if time.Since(began) > clusterWithin {
			t.Fatalf("old versions are still needed: %+v, %v", needed, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestD11_ASuccessorKilledInAHandOffLeaksNothingProcesses: at the latest one lease later every environment of the worker is some
// living manager's.
func TestD11_ASuccessorKilledInAHandOffLeaksNothingProcesses(t *testing.T) {
	rounds := 1
	if long() {
		rounds = 5
	}
	r := startRinged(t, 3, 1, 20)
	r.idle("d11", 20)
	for round := range rounds {
		killed := make(chan struct{})
		go func() { // at another moment of the hand-off each time
			defer close(killed)
			time.Sleep(time.Duration(5+10*round) * time.Millisecond)
			r.managers["m2"].Kill()
		}()
		r.deploy(20, "m2")
		<-killed
		r.deploy(20, "m3")
		t.Logf("every environment had a living manager %v after the kill", waitOwned(t, r.frontends[0]))
		answers, _ := r.again()
		t.Logf("%d of 20 idle environments are left", answers)
		r.managers["m2"] = r.start("manager", "m2")
		r.deploy(20, "m1")
		r.before, _ = idleSet(t, r.to, map[string]int{"d11": 20})
	}
}

// waitOwned waits until the managers know as many environments as the workers have.
func waitOwned(t *testing.T, c *client.Client) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		s, err := c.Cluster(t.Context())
		live, known := 0, 0
		for _, p := range s.Processes {
			if p.Worker != nil {
				for _, n := range p.Worker.Environments {
					live += n
				}
			}
			if p.Manager != nil {
				known += p.Manager.Environments
			}
		}
		if err == nil && s.Silent == 0 && live == known {
			return time.Since(began).Round(time.Millisecond)
		}
		if time.Since(began) > clusterWithin {
			t.Fatalf("%d environments live, and the managers know of %d: %+v, %v", live, known, s, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// valve is a way to the engine that can be closed: what is sent meanwhile arrives when it is open again.
type valve struct {
	net.Listener
	gate sync.RWMutex
}

func newValve(t *testing.T, to string) *valve {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{Listener: l}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			t.Cleanup(func() { in.Close(); out.Close() })
			running.Go(func() { v.pass(out, in) })
			running.Go(func() { v.pass(in, out) })
		}
	})
	t.Cleanup(func() { l.Close() })
	return v
}

func (v *valve) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		v.gate.RLock()
		_, failed := to.Write(buffer[:n])
		v.gate.RUnlock()
		if err != nil || failed != nil {
			return
		}
	}
}

// TestD12_FrontendsOnDifferentRingsProcesses: one of two frontends hears of each new ring later. The limit is exact, no environment
// runs two calls, and nothing fails.
func TestD12_FrontendsOnDifferentRingsProcesses(t *testing.T) {
	const limit = 6
	r := startRinged(t, 4, 2, 3)
	engine := r.engineURL
	v := newValve(t, strings.TrimPrefix(engine, "nats://"))
	r.engineURL = "nats://" + v.Addr().String()
	late := r.newFrontend("f2")
	r.engineURL = engine
	deployMarked(t, r.frontends[0], "d12")
	reserve(t, r.frontends[0], "d12", limit)
	knows(t, late, "d12")
	waitSame(t, r.frontends[0], late, "d12")
	r.to.add(late)
	waitIdle(t, r.to)
	f := startTraffic(t, r.to, 15*time.Millisecond, 100*time.Millisecond, "d12")
	for round := range 3 {
		v.gate.Lock()
		r.deploy(3, named("m", 1+2*((round+1)%2), 2+2*((round+1)%2))...)
		time.Sleep(300 * time.Millisecond)
		v.gate.Unlock()
		time.Sleep(300 * time.Millisecond)
	}
	answers := f.stop().seen()
	good := slices.DeleteFunc(slices.Clone(answers), func(a answer) bool { return throttledCall(a.err) })
	top := most(intervals(answers, "d12"))
	t.Logf("%s; %d throttled, at most %d at once", summary(good), len(answers)-len(good), top)
	reportFailures(t, good)
	checkAlone(t, answers)
	if top > limit {
		t.Errorf("%d calls ran at once, the limit is %d", top, limit)
	}
}
