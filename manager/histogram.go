package manager

import (
	"math/bits"
	"sync"
	"time"
)

// Histogram is the policy that learns each function's gaps between calls, as the hybrid histogram policy does (Shahrad et
// al., "Serverless in the Wild", USENIX ATC 2020), and weighs them against memory. For each minute of a gap it asks: is the
// chance that the call comes now worth the memory of waiting? That keeps a small or predictable function's environments for
// hours, ends a large or erratic one's soon, and makes those of a function that comes every hour anew just before its calls.
// Unlike that policy it looks at each level of concurrency by itself: a timer often starts many calls at once.
//
// It is ahead of growing bursts too. How much that saves depends on how calls spread within seconds, which traces of calls
// per minute do not tell: with every minute's calls spread evenly 3.9 times fewer cold starts than a fixed keep-alive of ten
// minutes with as much memory (1.7 without that rule), with all of a minute's calls within 2 s 1.5 times fewer.
//
// A function of which little is known is taken to behave as functions do in general.
type Histogram struct {
	price float64 // of one GB·minute, in cold starts

	mu      sync.Mutex
	general [levels]gaps // of all functions, a few gaps of each
}

// DefaultWorth is what avoiding one cold start is worth, in GB·minutes of idle memory. On a day of 1,250 functions (Azure
// 2019) it holds no more memory than a fixed keep-alive of ten minutes.
const DefaultWorth = 16.0

const (
	levels = 8 + 4*9 // groups of levels: 1 to 8 each by itself, then four to each doubling
	// generalWeight and neighbourWeight are the numbers of own gaps that count as much as all that is known of functions in
	// general, and of the group of levels below.
	generalWeight   = 2.0
	neighbourWeight = 4.0
	// generalShare is how many gaps of one group of one function are taken into the general picture.
	generalShare = 16
	// restart is what an environment made ahead of time costs, as a share of a cold start that somebody waits for.
	restart = 0.2
	// blur is the share of a gap that counts for the step before, and for the one after: a call every hour comes after 59
	// to 61 minutes.
	blur = 0.25
	// planShare: a plan is made anew when this share of the gaps known came after it.
	planShare = 8
)

// The lengths of gaps that are told apart: steps of 10 s up to a minute, of a minute up to four hours. Longer is never.
const (
	shortSteps = 6
	shortStep  = 10 * time.Second
	longStep   = time.Minute
	steps      = shortSteps + 239
)

func stepOf(gap time.Duration) int {
	if gap < longStep {
		return int(max(gap, 0) / shortStep)
	}
	return min(shortSteps-1+int(gap/longStep), steps)
}

// stepMinutes is how long a step takes, in minutes.
func stepMinutes(step int) float64 {
	if step < shortSteps {
		return shortStep.Minutes()
	}
	return longStep.Minutes()
}

// gaps counts gaps by their length. The last one counts all longer ones.
type gaps struct {
	count [steps + 1]uint16
	total uint32
}

func (g *gaps) add(step int) {
	if g.count[step] == 1<<16-1 { // forget the half of the past
		g.total = 0
		for i := range g.count {
			g.count[i] /= 2
			g.total += uint32(g.count[i])
		}
	}
	g.count[step]++
	g.total++
}

// plan says for each step of a gap whether an environment is wanted.
type plan [(steps + 63) / 64]uint64

func (p *plan) wanted(step int) bool { return step < steps && p[step/64]>>(step%64)&1 != 0 }

// NewHistogram makes the policy. worth is in GB·minutes of idle memory per cold start avoided: more keeps more.
func NewHistogram(worth float64) *Histogram {
	h := &Histogram{price: 1 / worth}
	for i := range h.general {
		h.general[i] = assumed
	}
	return h
}

// Function implements KeepAlive.
func (h *Histogram) Function(memoryMB int) Habit {
	return &habit{ahead: true, policy: &histogram{policy: h, price: h.price * float64(memoryMB) / 1024}}
}

// histogram is one function's. It holds 600 bytes for each group of levels that the function reaches.
type histogram struct {
	policy *Histogram
	price  float64 // of keeping one environment for a minute, in cold starts
	levels [levels]*level
}

type level struct {
	gaps    gaps
	plan    plan
	planned uint32 // gaps that the plan has seen
	made    bool
}

// group sorts levels: 1, 2, … 8, then 9–10, 11–12, 13–14, 15–16, 17–20, …
func group(level int) int {
	if level <= 8 {
		return max(level, 1) - 1
	}
	doubling := bits.Len(uint(level-1)) - 4
	quarter := (level - 1) >> (doubling + 1) & 3
	return min(8+4*doubling+quarter, levels-1)
}

func (h *histogram) returned(level int, gap time.Duration) {
	i, step := group(level), stepOf(gap)
	l := h.level(i)
	l.gaps.add(step)
	if l.gaps.total <= generalShare {
		h.policy.mu.Lock()
		h.policy.general[i].add(step)
		h.policy.mu.Unlock()
	}
}

// neighbour is the group of levels below: what is known of it says something of a level that is new.
func (h *histogram) neighbour(i int) *gaps {
	if i == 0 {
		return &gaps{}
	}
	return &h.level(i - 1).gaps
}

func (h *histogram) level(i int) *level {
	if h.levels[i] == nil {
		h.levels[i] = &level{}
	}
	return h.levels[i]
}

func (h *histogram) wanted(level int, idle time.Duration) bool {
	i := group(level)
	l := h.level(i)
	if !l.made || l.gaps.total < l.planned || (l.gaps.total-l.planned)*planShare > l.planned {
		h.policy.mu.Lock()
		l.plan = makePlan(&l.gaps, h.neighbour(i), &h.policy.general[i], h.price)
		h.policy.mu.Unlock()
		l.made, l.planned = true, l.gaps.total
	}
	return l.plan.wanted(stepOf(idle))
}

// makePlan chooses, for each step of a gap, between an environment there and none, so that the cold starts avoided less
// the memory held are worth most: backward induction over the steps, given that the call has not come before.
func makePlan(own, neighbour, general *gaps, price float64) (p plan) {
	chance := chances(own, neighbour, general)
	later := chance[steps] // that the call comes in a later step
	with, without := 0.0, 0.0
	for i := steps - 1; i >= 0; i-- {
		all := later + chance[i]
		now, rest := 0.0, 1.0
		if all > 0 {
			now, rest = chance[i]/all, later/all
		}
		with, without = now-price*stepMinutes(i)*(1-now/2)+rest*max(with, without), rest*max(without, with-restart)
		later = all
		if with >= without {
			p[i/64] |= 1 << (i % 64)
		}
	}
	return p
}

// chances estimates how likely each length of a gap is.
func chances(own, neighbour, general *gaps) (chance [steps + 1]float64) {
	fromNeighbour, fromGeneral := 0.0, generalWeight/float64(general.total)
	if neighbour.total > 0 {
		fromNeighbour = neighbourWeight / float64(neighbour.total)
	}
	for i := range own.count {
		n := float64(own.count[i]) + fromNeighbour*float64(neighbour.count[i])
		chance[i] += fromGeneral * float64(general.count[i])
		if i < shortSteps || i == steps {
			chance[i] += n
			continue
		}
		chance[i-1] += n * blur
		chance[i] += n * (1 - 2*blur)
		chance[min(i+1, steps-1)] += n * blur
	}
	return chance
}

// assumed is the general picture before anything is known: the chance that a gap is longer than t falls as 1/(1+t), t in
// minutes: most gaps are short, a few very long.
var assumed = func() (g gaps) {
	const weight = 2000 // gaps
	longer := func(minutes float64) float64 { return weight / (1 + minutes) }
	at := 0.0
	for i := range steps {
		next := at + stepMinutes(i)
		g.count[i] = uint16(longer(at) - longer(next) + 0.5)
		g.total += uint32(g.count[i])
		at = next
	}
	g.count[steps] = 1
	g.total++
	return g
}()
