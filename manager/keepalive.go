package manager

import (
	"slices"
	"sync"
	"time"
)

// KeepAlive decides how many environments stay that nobody uses, and how many are made ahead of calls. It is not on the
// path of a call but for two counters.
type KeepAlive interface {
	// Function begins a record of one function with so much memory.
	Function(memoryMB int) Habit
}

// Habit is what a policy knows of one function: how many calls run at once, and when. The level of an environment is how
// many ran at once when it was taken, itself included. Methods may be called by many goroutines, Began and Ended on every
// call.
type Habit interface {
	Began(now time.Time)
	Ended(now time.Time)
	// Wanted returns how many environments, beside those that run, are worth their memory now: more end. So many of them are
	// worth being made if they are not there.
	Wanted(now time.Time) (keep, ahead int)
	// Came and Left are told of environments that other managers hand over, or that are handed over to them: in use, or
	// idle since the given time.
	Came(inUse bool, since time.Time)
	Left(inUse bool)
}

// maxLevels bounds what is remembered of one function, in calls at once: 8 bytes each, as many as were ever needed.
const maxLevels = 10_000

// habit counts a function's calls, and remembers of each level when it fell idle.
type habit struct {
	policy policy

	mu      sync.Mutex
	running int
	ahead   bool // make environments before their calls come
	growth  growth
	left    []int64 // left[k-1]: when level k last fell idle, in Unix nanoseconds; never is 0
}

// policy judges levels. It is called with habit.mu held.
type policy interface {
	// returned: a call came so long after its level had fallen idle.
	returned(level int, gap time.Duration)
	// wanted: is an environment worth its memory whose level has been idle for so long?
	wanted(level int, idle time.Duration) bool
}

// Began implements Habit.
func (h *habit) Began(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running++
	if h.running > maxLevels {
		return
	}
	if h.running > len(h.left) {
		h.left = append(h.left, 0)
	}
	if left := h.left[h.running-1]; left != 0 {
		h.policy.returned(h.running, time.Duration(now.UnixNano()-left))
	}
}

// Ended implements Habit.
func (h *habit) Ended(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running <= len(h.left) && h.running > 0 {
		h.left[h.running-1] = now.UnixNano()
	}
	h.running--
}

// Came implements Habit.
func (h *habit) Came(inUse bool, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.running >= maxLevels || len(h.left) >= maxLevels:
		if inUse {
			h.running++
		}
	case inUse:
		h.left = slices.Insert(h.left, min(max(h.running, 0), len(h.left)), 0)
		h.running++
	default:
		for i := max(h.running, 0); i < len(h.left); i++ {
			if h.left[i] == 0 {
				h.left[i] = since.UnixNano()
				return
			}
		}
		h.left = append(h.left, since.UnixNano())
	}
}

// Left implements Habit.
func (h *habit) Left(inUse bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if inUse {
		h.running--
	}
	if at := max(h.running, 0); at < len(h.left) { // the level above those that run now is one that fell idle, or ran
		h.left = slices.Delete(h.left, at, at+1)
	}
}

// Wanted implements Habit.
func (h *habit) Wanted(now time.Time) (keep, ahead int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := now.UnixNano()
	for i := h.running; i < len(h.left); i++ {
		if h.left[i] != 0 && h.policy.wanted(i+1, time.Duration(at-h.left[i])) {
			keep++
		}
	}
	if !h.ahead {
		return keep, 0
	}
	keep = max(keep, h.growth.expected(now, h.running))
	return keep, keep
}

// growth watches how many calls run at once, to see bursts come.
type growth struct {
	past [growthTicks]int // running at the last ticks, the latest first
	at   time.Time        // of the latest
}

// A burst is a growth by at least growthLeast calls within growthTicks.
const (
	growthTick  = 5 * time.Second
	growthTicks = 3
	growthLeast = 4
)

// expected is by how much more the function is taken to grow: half as much in the time to come as in the same time before.
func (g *growth) expected(now time.Time, running int) int {
	n := running - g.past[growthTicks-1]
	if now.Sub(g.at) >= growthTick {
		copy(g.past[1:], g.past[:])
		g.past[0], g.at = running, now
	}
	if n < growthLeast {
		return 0
	}
	return n / 2
}

// Fixed is the policy that keeps every environment for the same time.
type Fixed time.Duration

// Function implements KeepAlive.
func (f Fixed) Function(int) Habit { return &habit{policy: f} }

func (Fixed) returned(int, time.Duration) {}

func (f Fixed) wanted(_ int, idle time.Duration) bool { return idle < time.Duration(f) }
