package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/client"
	"berth/internal/serverproc"
)

// recoverWithin is how long after a kill calls may still be slow or fail.
const recoverWithin = 5 * time.Second

// slowCall is what a call takes that had to wait for more than a start.
const slowCall = time.Second

// kill is one SIGKILL.
type kill struct {
	role, id string
	at       time.Time
}

// chaos kills processes of a server, and starts others in their place.
type chaos struct {
	*processes
	t       *testing.T
	to      *balancer
	random  *rand.Rand
	live    map[string]map[string]*serverproc.Server // by role and id
	clients map[string]*client.Client
	next    int
	kills   []kill
}

// strike kills one process with SIGKILL, waits a little, and starts another.
func (c *chaos) strike(role string) {
	c.t.Helper()
	ids := slices.Sorted(maps.Keys(c.live[role]))
	id := ids[c.random.IntN(len(ids))]
	at := time.Now()
	c.live[role][id].Kill()
	delete(c.live[role], id)
	c.kills = append(c.kills, kill{role, id, at})
	if role == "frontend" {
		c.to.remove(c.clients[id])
	}
	time.Sleep(time.Duration(500+c.random.IntN(2500)) * time.Millisecond)
	fresh := id // an engine keeps its name and its directory
	if role != "engine" {
		c.next++
		fresh = fmt.Sprint("x", c.next)
	}
	s := c.start(role, fresh)
	if s == nil {
		c.t.FailNow()
	}
	c.live[role][fresh] = s
	if role == "frontend" {
		c.clients[fresh] = client.New(s.Client)
		c.t.Cleanup(c.clients[fresh].Close)
		c.to.add(c.clients[fresh])
	}
	c.t.Logf("killed %s %s, %s took its place", role, id, fresh)
}

func (b *balancer) remove(c *client.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frontends = slices.DeleteFunc(slices.Clone(b.frontends), func(other *client.Client) bool { return other == c })
}

// TestRandomKills: any process may be killed at any moment. The callers are as SDKs are: what loses its connection is sent again to
// another frontend. Every call gets one answer; errors are only for those that ran on a killed worker, and throttles for those that came
// while as many as allowed were open. The limit is exceeded by no more than the quotas of lost managers, and only while they are being
// replaced. The long version takes five minutes, and kills engines too.
func TestRandomKills(t *testing.T) {
	const limit, managers, quota, capped, calm = 6, 3, 2, "capped", "calm"
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	args := []string{"--memory", plenty, "--pool-quota", fmt.Sprint(quota)}
	var p *processes
	engines := map[string]*serverproc.Server{}
	roles, rounds, pause := []string{"manager", "frontend", "worker"}, 3, time.Second
	if long() {
		p, engines = startCluster(t, managers, 2, args...)
		roles, rounds, pause = []string{"manager", "manager", "frontend", "worker", "engine"}, 1000, 6*time.Second
	} else {
		p = startProcesses(t, managers, 2, args...)
	}
	if p.start("worker", "w2") == nil {
		t.FailNow()
	}
	c := &chaos{
		processes: p, t: t, to: &balancer{frontends: p.frontends, tries: sdkTries}, random: rand.New(rand.NewPCG(seed, 0)),
		live: map[string]map[string]*serverproc.Server{
			"manager": maps.Clone(p.managers), "engine": engines, "worker": {"w1": p.servers["w1"], "w2": p.servers["w2"]},
			"frontend": {"f1": p.servers["f1"], "f2": p.servers["f2"]},
		},
		clients: map[string]*client.Client{"f1": p.frontends[0], "f2": p.frontends[1]},
	}
	names := []string{"chaos-0", "chaos-1", "chaos-2", "chaos-3"}
	deployMarked(t, p.frontends[0], append(names, capped, calm)...)
	for _, name := range []string{capped, calm} {
		reserve(t, p.frontends[0], name, limit)
		knows(t, p.frontends[1], append(names, capped, calm)...)
		waitSame(t, p.frontends[0], p.frontends[1], name)
	}
	idleSet(t, c.to, map[string]int{names[0]: 2, capped: 2, calm: 2})
	every := 40 * time.Millisecond
	if long() {
		every = 10 * time.Millisecond
	}
	all := []*traffic{
		startTraffic(t, c.to, every, 0, names...),
		startTraffic(t, c.to, 30*time.Millisecond, 200*time.Millisecond, capped), // more than may run
		startTraffic(t, c.to, 100*time.Millisecond, 200*time.Millisecond, calm),  // two at once
	}
	for began, i := time.Now(), 0; i < rounds && time.Since(began) < 5*time.Minute; i++ {
		time.Sleep(pause)
		role := roles[i%len(roles)]
		if long() {
			role = roles[c.random.IntN(len(roles))]
		}
		c.strike(role)
	}
	time.Sleep(2 * time.Second)
	var stopping sync.WaitGroup
	for _, f := range all {
		stopping.Go(func() { f.stop() })
	}
	stopping.Wait()
	var answers []answer
	for _, f := range all {
		answers = append(answers, f.seen()...)
	}
	c.report(answers, map[string]int{capped: limit, calm: limit}, quota)
}

// report prints what was seen, and fails the test for what must not be.
func (c *chaos) report(answers []answer, limits map[string]int, quota int) {
	t := c.t
	t.Helper()
	count := map[string]map[verdict]int{}
	judge := newCourt(c.kills, limits, answers)
	var bad []answer
	for _, a := range answers {
		kind := a.function
		if _, limited := limits[kind]; !limited {
			kind = "the others"
		}
		if count[kind] == nil {
			count[kind] = map[verdict]int{}
		}
		v := judge.judge(&a)
		if count[kind][v]++; v == wrong {
			bad = append(bad, a)
		}
	}
	t.Logf("%d kills; %s", len(c.kills), summary(answers))
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		t.Logf("calls of %s: %v", kind, count[kind])
	}
	t.Logf("%d connections were lost with a frontend and the call sent again to another; %d were refused", c.to.lost.Load(), c.to.refused.Load())
	for function, limit := range limits {
		beyond, within := judge.excesses(answers, function, quota)
		t.Logf("%s: at most %d at once of %d allowed; %d times more than that while a lost manager was being replaced",
			function, most(intervals(answers, function)), limit, within)
		if len(beyond) > 0 {
			t.Errorf("more calls of %s ran at once than its limit and the quotas of managers lost in the %v before (I3): %v", function, recoverWithin, beyond)
		}
	}
	reportFailures(t, bad)
	checkAlone(t, answers)
	c.reportTroubles(judge.troubles(answers))
}

// reportTroubles prints for each role what its kills did to calls, and fails the test if that took too long.
func (c *chaos) reportTroubles(list []trouble) {
	t := c.t
	t.Helper()
	for _, role := range []string{"manager", "frontend", "worker", "engine"} {
		n, kills, longest, last := 0, 0, time.Duration(0), time.Duration(0)
		for _, k := range c.kills {
			if k.role == role {
				kills++
			}
		}
		for _, one := range list {
			if one.kill.role == role {
				n, longest, last = n+1, max(longest, one.took()), max(last, one.after)
			}
		}
		t.Logf("%d kills of a %s: %d calls were slow (%v) or failed, the longest took %v, the last ended %v after the kill",
			kills, role, n, slowCall, longest.Round(time.Millisecond), last.Round(time.Millisecond))
	}
	for i, one := range list {
		if one.after <= recoverWithin || i == 10 {
			break
		}
		t.Logf("%v after %s %s was killed at %v: call %d of %s, begun %v, took %v, %s: %v", one.after.Round(time.Millisecond), one.kill.role, one.kill.id,
			one.kill.at.Format("15:04:05.000"), one.number, one.function, one.began.Format("15:04:05.000"), one.took().Round(time.Millisecond), one.verdict, one.err)
	}
	if long() && len(list) > 0 && list[0].after > recoverWithin {
		t.Errorf("%v after a kill calls were still slow or failed, want at most %v", list[0].after, recoverWithin)
	}
}
