package rollout

import (
	"sync"
	"sync/atomic"
	"time"

	"berth/lambda"
)

// Trial names one trial, for those who count.
type Trial struct {
	ID       string           `json:"id"`
	Account  lambda.AccountID `json:"account"`
	Function string           `json:"function"`
	Number   string           `json:"number"` // lambda.Latest or a version number
}

// Draw reports whether a call is one of the new group. It follows from the trial and the request alone, so an event that is tried
// again stays in its group; and whoever is in the new group at one fraction is so at every larger one. FNV-1a (public domain,
// Fowler, Noll, Vo), finished as in splitmix64 (Vigna) because FNV's high bits hardly know of the last bytes.
func Draw(trial, request string, fraction float64) bool {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(trial) {
		h = (h ^ uint64(trial[i])) * prime
	}
	for i := range len(request) {
		h = (h ^ uint64(request[i])) * prime
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	return float64(h>>11)/(1<<53) < fraction || fraction >= 1
}

// Recorder counts outcomes in a process that invokes. Counting one costs a read lock and some atomic additions, and only calls of
// functions on trial are counted.
type Recorder struct {
	mu      sync.RWMutex
	entries map[string]*entry
}

// NewRecorder makes a Recorder.
func NewRecorder() *Recorder { return &Recorder{entries: map[string]*entry{}} }

type entry struct {
	trial Trial
	cells [Stages][Groups]cell
	times [bins]atomic.Uint64
	// sent is what the last full report had; of the goroutine that reports.
	sent Tally
}

// cell is Group, counted by many at once.
type cell struct {
	calls, cold, unstarted, timed, marked, slow, micros atomic.Uint64
	failed, failedCold                                  [Kinds]atomic.Uint64
}

func (r *Recorder) entry(t *Trial) *entry {
	r.mu.RLock()
	e := r.entries[t.ID]
	r.mu.RUnlock()
	if e != nil {
		return e
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e = r.entries[t.ID]; e == nil {
		e = &entry{trial: *t}
		r.entries[t.ID] = e
	}
	return e
}

// Count takes the outcome of one call that was drawn into a group at a stage. mark is the trial's then, 0 without one.
func (r *Recorder) Count(t *Trial, stage, group int, mark time.Duration, o *lambda.Outcome) {
	e := r.entry(t)
	c := &e.cells[stage][group]
	if o.Cold {
		c.cold.Add(1)
	}
	kind, failed := KindOf(o)
	switch {
	case failed:
		c.failed[kind].Add(1)
		if o.Cold && kind != InitFailed {
			c.failedCold[kind].Add(1)
		}
	case !o.Cold:
		c.timed.Add(1)
		c.micros.Add(uint64(max(o.Duration.Microseconds(), 0)))
		switch {
		case mark > 0:
			if o.Duration > mark {
				c.slow.Add(1)
			}
			c.marked.Add(1)
		case group == Old:
			e.times[bin(o.Duration)].Add(1)
		}
	}
	c.calls.Add(1) // last: who reads sees no more failures than calls
}

// Unstarted counts a call whose environment could not be started in its group's version.
func (r *Recorder) Unstarted(t *Trial, stage, group int) {
	r.entry(t).cells[stage][group].unstarted.Add(1)
}

// Counted is one trial's counts in a report.
type Counted struct {
	Trial Trial `json:"trial"`
	Tally Tally `json:"tally"`
}

// Report lists the trials that still go on, by what alive says, and forgets the others. With all it lists every one, else those
// that have something new since the last report. One goroutine reports.
func (r *Recorder) Report(all bool, alive func(*Trial) bool) []Counted {
	r.mu.RLock()
	known := make([]*entry, 0, len(r.entries))
	for _, e := range r.entries {
		known = append(known, e)
	}
	r.mu.RUnlock()
	var out []Counted
	for _, e := range known {
		if !alive(&e.trial) {
			r.mu.Lock()
			delete(r.entries, e.trial.ID)
			r.mu.Unlock()
			continue
		}
		now := e.tally()
		if all || now != e.sent {
			e.sent = now
			out = append(out, Counted{e.trial, now})
		}
	}
	return out
}

func (e *entry) tally() Tally {
	var t Tally
	for s := range e.cells {
		for g := range e.cells[s] {
			t.Stages[s][g] = e.cells[s][g].group()
		}
	}
	for i := range e.times {
		t.Times[i] = e.times[i].Load()
	}
	return t
}

// group reads calls first, so that no failure is without its call for longer than a moment.
func (c *cell) group() Group {
	g := Group{
		Calls: c.calls.Load(), Cold: c.cold.Load(), Unstarted: c.unstarted.Load(),
		Timed: c.timed.Load(), Slow: c.slow.Load(), Marked: c.marked.Load(), Micros: c.micros.Load(),
	}
	for k := range g.Failed {
		g.Failed[k], g.FailedCold[k] = c.failed[k].Load(), c.failedCold[k].Load()
	}
	return g
}
