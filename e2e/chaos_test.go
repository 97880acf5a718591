package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/smithy-go"

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

// verdict is why a call may have failed.
type verdict string

const (
	fine      verdict = "answered"
	throttled verdict = "throttled"
	onWorker  verdict = "ran on a killed worker"
	atFront   verdict = "was at a killed frontend"
	wrong     verdict = "failed"
)

// judge says which kill explains what became of a call. A call that was at a killed frontend has lost its connection.
func (c *chaos) judge(a *answer, capped string) verdict {
	var api smithy.APIError
	isAPI := errors.As(a.err, &api)
	during := func(role string) bool {
		return slices.ContainsFunc(c.kills, func(k kill) bool {
			return k.role == role && a.began.Before(k.at.Add(recoverWithin)) && a.ended.After(k.at)
		})
	}
	switch {
	case a.err == nil:
		return fine
	case a.function == capped && throttledCall(a.err):
		return throttled
	case isAPI && strings.Contains(api.ErrorMessage(), "worker that ran the call was lost") && during("worker"):
		return onWorker
	case !isAPI && during("frontend") && !strings.Contains(a.err.Error(), "the function failed"):
		return atFront
	}
	return wrong
}

// recovery is how long after the kill before it the last slow or failed call ended, and after which kill.
func (c *chaos) recovery(answers []answer, capped string) (longest time.Duration, after kill) {
	for _, a := range answers {
		if v := c.judge(&a, capped); v == throttled || v == fine && a.took() < slowCall {
			continue
		}
		var last kill
		for _, k := range c.kills {
			if k.at.Before(a.ended) {
				last = k
			}
		}
		if d := a.ended.Sub(last.at); !last.at.IsZero() && d > longest {
			longest, after = d, last
		}
	}
	return longest, after
}

// TestRandomKills: any process may be killed at any moment. Every call gets one answer; errors are only for those that ran on a killed
// worker or whose connection was to a killed frontend. The limit is exceeded by no more than the quotas of lost managers. The long
// version takes five minutes, and kills engines too.
func TestRandomKills(t *testing.T) {
	const limit, managers, quota, capped = 6, 3, 2, "capped"
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
		processes: p, t: t, to: &balancer{frontends: p.frontends}, random: rand.New(rand.NewPCG(seed, 0)),
		live: map[string]map[string]*serverproc.Server{
			"manager": maps.Clone(p.managers), "engine": engines, "worker": {"w1": p.servers["w1"], "w2": p.servers["w2"]},
			"frontend": {"f1": p.servers["f1"], "f2": p.servers["f2"]},
		},
		clients: map[string]*client.Client{"f1": p.frontends[0], "f2": p.frontends[1]},
	}
	names := []string{"chaos-0", "chaos-1", "chaos-2", "chaos-3"}
	deployMarked(t, p.frontends[0], append(names, capped)...)
	reserve(t, p.frontends[0], capped, limit)
	knows(t, p.frontends[1], append(names, capped)...)
	waitSame(t, p.frontends[0], p.frontends[1], capped)
	idleSet(t, c.to, map[string]int{names[0]: 2, capped: 2})
	every := 40 * time.Millisecond
	if long() {
		every = 10 * time.Millisecond
	}
	many := startTraffic(t, c.to, every, 0, names...)
	under := startTraffic(t, c.to, 30*time.Millisecond, 200*time.Millisecond, capped)
	for began, i := time.Now(), 0; i < rounds && time.Since(began) < 5*time.Minute; i++ {
		time.Sleep(pause)
		role := roles[i%len(roles)]
		if long() {
			role = roles[c.random.IntN(len(roles))]
		}
		c.strike(role)
	}
	time.Sleep(2 * time.Second)
	var both sync.WaitGroup
	both.Go(func() { many.stop() })
	both.Go(func() { under.stop() })
	both.Wait()
	c.report(slices.Concat(many.seen(), under.seen()), capped, limit, quota)
}

// report prints what was seen, and fails the test for what must not be.
func (c *chaos) report(answers []answer, capped string, limit, quota int) {
	t := c.t
	t.Helper()
	count := map[verdict]int{}
	var bad []answer
	for _, a := range answers {
		v := c.judge(&a, capped)
		if count[v]++; v == wrong {
			bad = append(bad, a)
		}
	}
	top := most(intervals(answers, capped))
	recovered, after := c.recovery(answers, capped)
	t.Logf("%d kills; %s", len(c.kills), summary(answers))
	t.Logf("calls: %v; at most %d at once of %d allowed; the last slow or failed call ended %v after a kill (%s %s)",
		count, top, limit, recovered.Round(time.Millisecond), after.role, after.id)
	reportFailures(t, bad)
	checkAlone(t, answers)
	if top > limit+quota {
		t.Errorf("%d calls ran at once, the limit is %d, and a lost manager's quota %d", top, limit, quota)
	}
	if long() && recovered > recoverWithin {
		t.Errorf("%v after a kill calls were still slow or failed, want at most %v", recovered, recoverWithin)
	}
}
