package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Event is one line of a run's history.
type Event struct {
	At   time.Duration // since the begin of the run
	Kind string
	Who  string // the site
	What string // an environment, a request
	N    uint64
}

func (e Event) String() string {
	return fmt.Sprintf("%14.9f %-14s %-4s %s %d", e.At.Seconds(), e.Kind, e.Who, e.What, e.N)
}

// maxViolations is how many are kept of one run: the first ones tell the most.
const maxViolations = 10

// History is what happened in one run.
type History struct {
	mu         sync.Mutex
	begin      time.Time
	Events     []Event
	Hash       uint64 // equal for equal histories
	Violations []string
	Answers    map[string]int // how invocations ended
}

func newHistory() *History { return &History{begin: time.Now(), Answers: map[string]int{}} }

func (h *History) note(kind, who, what string, n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Events = append(h.Events, Event{time.Since(h.begin), kind, who, what, n})
}

// finish puts events of one instant, which no order connects, into one order, and sums the history up.
func (h *History) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortFunc(h.Events, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Who, b.Who), cmp.Compare(a.What, b.What), cmp.Compare(a.N, b.N))
	})
	for _, e := range h.Events {
		h.Hash = hash(hash(hash(h.Hash^uint64(e.At), e.Kind), e.Who), e.What) + e.N
	}
}

func (h *History) violate(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.Violations) < maxViolations {
		h.Violations = append(h.Violations, fmt.Sprintf("%12.6f ", time.Since(h.begin).Seconds())+fmt.Sprintf(format, args...))
	}
}

// Err returns nil for a run that kept the invariants.
func (h *History) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.Violations) == 0 {
		return nil
	}
	return fmt.Errorf("invariants were violated:\n%s", strings.Join(h.Violations, "\n"))
}
