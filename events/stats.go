package events

import (
	"sync"
	"sync/atomic"

	"berth/store"
)

// Reasons for which an event is dropped: nobody hears of it any more.
const (
	dropUnreadable = "unreadable"         // the message in the queue is no event
	dropNoFunction = "function-gone"      // the function, version or alias was deleted
	dropNobody     = "failed-untold"      // it failed for good, and no destination is configured
	dropTarget     = "target-unreachable" // a target could not be told until the event's age ended
)

// maxCounted bounds of how many functions drops are counted; the others are counted together under "".
const maxCounted = 10_000

// stats counts what this process has done since it started.
type stats struct {
	succeeded, failed, backedOff, retried, redelivered, told atomic.Uint64

	mu      sync.Mutex
	running map[store.Lane]int
	dropped map[store.Lane]map[string]int
}

func newStats() *stats {
	return &stats{running: map[store.Lane]int{}, dropped: map[store.Lane]map[string]int{}}
}

func (s *stats) begin(l store.Lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[l]++
}

func (s *stats) end(l store.Lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[l]--; s.running[l] == 0 {
		delete(s.running, l)
	}
}

func (s *stats) drop(l store.Lane, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped[l] == nil {
		if len(s.dropped) >= maxCounted {
			l = ""
		}
		if s.dropped[l] == nil {
			s.dropped[l] = map[string]int{}
		}
	}
	s.dropped[l][reason]++
}

// Totals is what one process has done with the events of all functions since it started.
type Totals struct {
	Running     int               // now
	Succeeded   uint64            // attempts
	Failed      uint64            // attempts at which the function failed
	BackedOff   uint64            // attempts that were throttled or met an error of the server's own
	Retried     uint64            // events that were stored again after a failure
	Redelivered uint64            // deliveries that were not the first
	Told        uint64            // records and dead letters
	Dropped     map[string]uint64 // by reason
}

// Totals returns this process's counts; every reason for a drop is among them.
func (p *Poller) Totals() Totals {
	s := p.stats
	t := Totals{
		Succeeded: s.succeeded.Load(), Failed: s.failed.Load(), BackedOff: s.backedOff.Load(), Retried: s.retried.Load(),
		Redelivered: s.redelivered.Load(), Told: s.told.Load(),
		Dropped: map[string]uint64{dropUnreadable: 0, dropNoFunction: 0, dropNobody: 0, dropTarget: 0},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.running {
		t.Running += n
	}
	for _, reasons := range s.dropped {
		for reason, n := range reasons {
			t.Dropped[reason] += uint64(n)
		}
	}
	return t
}

// Counts is what one process has to say of one function's events.
type Counts struct {
	Running int            `json:"running"`
	Dropped map[string]int `json:"dropped,omitempty"` // by reason, since the process started
}

// Counts returns this process's counts of a function.
func (p *Poller) Counts(l store.Lane) Counts {
	p.stats.mu.Lock()
	defer p.stats.mu.Unlock()
	c := Counts{Running: p.stats.running[l], Dropped: map[string]int{}}
	for reason, n := range p.stats.dropped[l] {
		c.Dropped[reason] = n
	}
	return c
}
