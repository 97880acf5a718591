package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go"
)

// verdict is what became of a call, and why it may have.
type verdict string

const (
	fine      verdict = "answered"
	atCap     verdict = "throttled while as many calls as allowed were open"
	recovered verdict = "throttled in the seconds after a kill"
	onWorker  verdict = "ran on a killed worker"
	wrong     verdict = "failed"
)

// court judges calls by the kills that were made and by the other calls.
type court struct {
	kills  []kill
	limits map[string]int  // of the functions with a limit of their own
	open   map[string]load // of these functions, as the callers saw it
}

func newCourt(kills []kill, limits map[string]int, answers []answer) *court {
	c := &court{kills, limits, map[string]load{}}
	for function := range limits {
		var spans []interval
		for _, a := range answers {
			if a.function == function {
				spans = append(spans, interval{unix(a.began), unix(a.ended)})
			}
		}
		c.open[function] = loadOf(spans)
	}
	return c
}

func unix(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// near reports whether a process of a role ("" is any) was killed during the call, or so shortly before that it may have felt it.
func (c *court) near(a *answer, role string) bool {
	return slices.ContainsFunc(c.kills, func(k kill) bool {
		return (role == "" || k.role == role) && a.began.Before(k.at.Add(recoverWithin)) && a.ended.After(k.at)
	})
}

func (c *court) judge(a *answer) verdict {
	var api smithy.APIError
	isAPI := errors.As(a.err, &api)
	limit, limited := c.limits[a.function]
	switch {
	case a.err == nil:
		return fine
	case limited && throttledCall(a.err) && c.open[a.function].most(unix(a.began), unix(a.ended)) > limit: // this one and as many others
		return atCap
	case limited && throttledCall(a.err) && c.near(a, ""):
		return recovered
	case isAPI && strings.Contains(api.ErrorMessage(), "worker that ran the call was lost") && c.near(a, "worker"):
		return onWorker
	}
	return wrong
}

// trouble is a call that was slow or failed, and how long after the last kill before its end that was.
type trouble struct {
	answer
	verdict verdict
	kill    kill
	after   time.Duration
}

// troubles lists the slow and the failed calls, the ones that ended latest after a kill first. Those that were over the limit are neither.
func (c *court) troubles(answers []answer) (list []trouble) {
	for _, a := range answers {
		v := c.judge(&a)
		if v == atCap || v == fine && a.took() < slowCall {
			continue
		}
		one := trouble{answer: a, verdict: v}
		for _, k := range c.kills {
			if k.at.Before(a.ended) {
				one.kill, one.after = k, a.ended.Sub(k.at)
			}
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b trouble) int { return cmp.Compare(b.after, a.after) })
	return list
}

// excesses says when more calls of a function ran than its limit and the quotas of the managers lost in the seconds before (I3). within
// says how often there were more than the limit, but no more than that.
func (c *court) excesses(answers []answer, function string, quota int) (beyond []string, within int) {
	for _, s := range loadOf(intervals(answers, function)) {
		if s.running <= c.limits[function] {
			continue
		}
		allowed := c.limits[function]
		for _, k := range c.kills {
			if at := unix(k.at); k.role == "manager" && at <= s.to && s.from <= at+recoverWithin.Seconds() {
				allowed += quota
			}
		}
		if s.running <= allowed {
			within++
			continue
		}
		beyond = append(beyond, fmt.Sprintf("%d of %d for %.0f ms at %s", s.running, allowed, 1000*(s.to-s.from),
			time.Unix(0, int64(s.from*1e9)).Format("15:04:05.000")))
	}
	return beyond, within
}

// step is how many ran from one moment to another, in seconds.
type step struct {
	from, to float64
	running  int
}

// load is how many ran at each time, in order.
type load []step

func loadOf(spans []interval) load {
	type edge struct {
		at    float64
		delta int
	}
	var edges []edge
	for _, s := range spans {
		edges = append(edges, edge{s.Begin, 1}, edge{s.End, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), a.delta-b.delta) })
	var steps load
	now := 0
	for i, e := range edges {
		now += e.delta
		if i+1 < len(edges) && edges[i+1].at > e.at {
			steps = append(steps, step{e.at, edges[i+1].at, now})
		}
	}
	return steps
}

// most is how many ran at once at most between two moments.
func (l load) most(from, to float64) (top int) {
	first, _ := slices.BinarySearchFunc(l, from, func(s step, at float64) int { return cmp.Compare(s.to, at) })
	for _, s := range l[first:] {
		if s.from > to {
			break
		}
		top = max(top, s.running)
	}
	return top
}
