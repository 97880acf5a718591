// Package rollout decides about functions whose next runtime version is on trial (design G): it counts the outcomes of calls in
// the old and the new version, compares the two by a sequential test with stated error rates, and says which stage comes next.
// It does no I/O and reads no clock.
//
// Glossary. A trial is one function version on its way from one version of its runtime to the next. A draw puts each call into
// the old or the new group, the new one with the stage's fraction, independently of everything about the call. Evidence is what
// both groups' calls came to, stage by stage. A source is one process's counting of one trial: its numbers only grow, so
// reports of it can be lost, doubled or late, and the larger number is the truth.
package rollout

import (
	"math/bits"
	"time"

	"berth/lambda"
)

// Stages of a trial, by the share of the function's calls that run in the new version.
const Stages = 4

// LastStage is the one in which every call runs in the new version.
const LastStage = Stages - 1

// Fractions are the shares of the stages.
var Fractions = [Stages]float64{0.01, 0.10, 0.50, 1}

// Groups of calls: indexes of Evidence.
const (
	Old = iota
	New
	Groups
)

// Kind is a way in which a call fails.
type Kind int

// The kinds. InitFailed calls never reached the function.
const (
	InitFailed Kind = iota
	HandlerError
	TimedOut
	Exited
	OutOfMemory
	TooLarge
	Kinds
)

var kindNames = [Kinds]string{"initialisation failed", "handler error", "timed out", "process exited", "out of memory", "response too large"}

// String names the kind for people.
func (k Kind) String() string { return kindNames[k] }

// KindOf sorts an outcome; false for a success.
func KindOf(o *lambda.Outcome) (Kind, bool) {
	if o.Unseen {
		return InitFailed, true
	}
	switch o.Class {
	case lambda.InitErr:
		return InitFailed, true
	case lambda.HandlerErr:
		return HandlerError, true
	case lambda.TimedOut:
		return TimedOut, true
	case lambda.Exited:
		return Exited, true
	case lambda.OutOfMemory:
		return OutOfMemory, true
	case lambda.TooLarge:
		return TooLarge, true
	}
	return 0, false
}

// Group is what the calls of one group came to in one stage. Its members only grow.
type Group struct {
	Calls      uint64        `json:"calls,omitempty"`
	Cold       uint64        `json:"cold,omitempty"` // of these the first ones of their environments
	Failed     [Kinds]uint64 `json:"failed,omitzero"`
	FailedCold [Kinds]uint64 `json:"failedCold,omitzero"` // of these the cold ones that reached the function
	Unstarted  uint64        `json:"unstarted,omitempty"` // calls, not in Calls, whose environment could not be started
	// Timed are the successful calls that were not cold, whose durations are compared; Slow of them took longer than the
	// trial's mark, since it has one. Micros is their sum in microseconds.
	Timed  uint64 `json:"timed,omitempty"`
	Marked uint64 `json:"marked,omitempty"` // of Timed those that were held against the mark
	Slow   uint64 `json:"slow,omitempty"`
	Micros uint64 `json:"micros,omitempty"`
}

// Failures are the failed calls of all kinds.
func (g *Group) Failures() (sum uint64) {
	for _, n := range g.Failed {
		sum += n
	}
	return sum
}

// Mean is the mean duration of the timed calls; 0 without any.
func (g *Group) Mean() time.Duration {
	if g.Timed == 0 {
		return 0
	}
	return time.Duration(g.Micros/g.Timed) * time.Microsecond
}

// merge combines each of two groups' numbers with the other's.
func (g *Group) merge(o *Group, combine func(a, b uint64) uint64) {
	into := [...]*uint64{&g.Calls, &g.Cold, &g.Unstarted, &g.Timed, &g.Marked, &g.Slow, &g.Micros}
	from := [...]uint64{o.Calls, o.Cold, o.Unstarted, o.Timed, o.Marked, o.Slow, o.Micros}
	for i, p := range into {
		*p = combine(*p, from[i])
	}
	for k := range Kinds {
		g.Failed[k] = combine(g.Failed[k], o.Failed[k])
		g.FailedCold[k] = combine(g.FailedCold[k], o.FailedCold[k])
	}
}

// Evidence is all that is known of a trial's calls.
type Evidence [Stages][Groups]Group

// Sum is one group over all stages.
func (e *Evidence) Sum(group int) Group {
	var sum Group
	for s := range e {
		sum.merge(&e[s][group], func(a, b uint64) uint64 { return a + b })
	}
	return sum
}

// bins of Times: four to each doubling, from a millisecond up to beyond the longest invocation (15 min).
const bins = 80

// Times are how many calls of the old version took how long: what the mark is taken from.
type Times [bins]uint64

// bin: the position of the highest bit, and the two bits after it.
func bin(d time.Duration) int {
	ms4 := uint64(max(d.Microseconds(), 0)) * 4 / 1000 // quarters of milliseconds
	if ms4 < 4 {
		return 0
	}
	top := bits.Len64(ms4) - 1 // ≥ 2
	return min((top-2)*4+int(ms4>>(top-2)&3), bins-1)
}

// upper is the end of a bin.
func upper(i int) time.Duration {
	base := time.Millisecond << (i / 4)
	return base + base/4*time.Duration(i%4+1)
}

// Tally is one source's counts.
type Tally struct {
	Stages Evidence `json:"stages,omitzero"`
	Times  Times    `json:"times,omitzero"`
}

// Merge takes what a later report of the same source has more. It is idempotent, and the order of reports does not matter.
// It reports whether anything is new.
func (t *Tally) Merge(later *Tally) bool {
	before := *t
	larger := func(a, b uint64) uint64 { return max(a, b) }
	for s := range t.Stages {
		for g := range t.Stages[s] {
			t.Stages[s][g].merge(&later.Stages[s][g], larger)
		}
	}
	for i, n := range later.Times {
		t.Times[i] = max(t.Times[i], n)
	}
	return *t != before
}

// Add adds another source's counts.
func (t *Tally) Add(o *Tally) {
	sum := func(a, b uint64) uint64 { return a + b }
	for s := range t.Stages {
		for g := range t.Stages[s] {
			t.Stages[s][g].merge(&o.Stages[s][g], sum)
		}
	}
	for i, n := range o.Times {
		t.Times[i] += n
	}
}
