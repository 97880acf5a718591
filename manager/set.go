package manager

import (
	"slices"
	"sync"
	"time"

	"berth/lambda"
)

// state is where an environment stands for its manager. Whether a reserved one already runs is the worker's to know.
type state uint8

const (
	idle state = iota
	reserved
	ending   // the manager told the worker to end it
	starting // made ahead (provisioned), not initialised yet
	retired  // made ahead, no longer wanted, and running a call: ends after it
)

// environment is the manager's record of one environment. id and worker never change; the rest is guarded by set.mu.
type environment struct {
	id      lambda.EnvironmentID
	worker  lambda.WorkerID
	set     *set
	state   state
	pool    *pool     // whose call it has, while reserved; a function's pool may change between two calls
	since   time.Time // idle since
	expires time.Time // reserved until; zero once the worker has been asked to give it back

	provision *provision // that it was made ahead for; nil for others. Never changes
	bytes     int64      // of memory. Never changes
	began     time.Time  // when it was reserved last, or started
	warm      bool       // it has been idle before
}

// set holds the environments of one key. idle is a stack: the most recently used is on top.
type set struct {
	key   lambda.EnvironmentKey
	mu    sync.Mutex
	idle  []*environment
	ahead []*environment // idle ones that were made ahead: taken first, and not counted by the pool
	worth worth
	total int  // environments of this key in any state
	dead  bool // dropped from Manager.sets; never used again
}

// add counts a new environment; false when the set is dead.
func (s *set) add(e *environment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return false
	}
	s.total++
	if e.state == reserved {
		s.worth.used(e.began)
	}
	return true
}

// remove drops an environment, gives back what it was admitted for, and reports whether the set died with it.
func (s *set) remove(e *environment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state == reserved || e.state == retired {
		e.free()
	}
	s.unlist(e)
	s.total--
	s.dead = s.total == 0
	return s.dead
}

// free gives back what e was admitted for. A call in an environment made ahead has not been admitted: its end is told only.
func (e *environment) free() {
	if e.provision != nil {
		e.pool.released.Add(1)
		return
	}
	e.pool.release()
}

// take reserves the most recently used idle environment if there is one and the pool admits it; full tells the latter apart.
// One that was made ahead comes first, and needs no admission.
func (s *set) take(p *pool, quota int, now, expires time.Time) (e *environment, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.ahead); n > 0 {
		e = s.ahead[n-1]
		s.ahead[n-1] = nil
		s.ahead = s.ahead[:n-1]
		s.reserve(e, p, now, expires)
		return e, false
	}
	n := len(s.idle)
	if n == 0 {
		return nil, false
	}
	if !p.admit(quota) {
		return nil, true
	}
	e = s.idle[n-1]
	s.idle[n-1] = nil
	s.idle = s.idle[:n-1]
	s.reserve(e, p, now, expires)
	return e, false
}

func (s *set) reserve(e *environment, p *pool, now, expires time.Time) {
	e.state, e.pool, e.expires, e.began = reserved, p, expires, now
	s.worth.used(now)
}

// put makes a reserved environment idle, or one that was made ahead and is initialised now. over tells that it is not
// wanted any more: the caller ends it.
func (s *set) put(e *environment, now time.Time) (over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := e.state
	switch before {
	case reserved, starting:
	case retired:
		e.state = ending
		e.free()
		return true
	default:
		return false
	}
	s.worth.held(now.Sub(e.began), e.warm)
	// Idle first, room after: whoever finds the room finds the environment too.
	e.state, e.since, e.warm = idle, now, true
	if e.provision != nil {
		s.ahead = append(s.ahead, e)
	} else {
		s.idle = append(s.idle, e)
	}
	if before == reserved {
		e.free()
	}
	return false
}

// retire marks an environment that was made ahead and is no longer wanted. True when nothing runs in it: the caller ends
// it now.
func (s *set) retire(e *environment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.state {
	case idle, starting:
		e.state = ending
		s.unlist(e)
		return true
	case reserved:
		e.state = retired
	}
	return false
}

// claim marks an idle environment as ending, so that nobody reserves it; false when it was not idle any more.
func (s *set) claim(e *environment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state != idle {
		return false
	}
	e.state = ending
	s.unlist(e)
	return true
}

// unlist takes e out of the idle stack. The oldest are at the bottom, and those are the ones that end.
func (s *set) unlist(e *environment) {
	list := &s.idle
	if e.provision != nil {
		list = &s.ahead
	}
	if i := slices.Index(*list, e); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
}

// overdue reports, once per reservation, that it was not used in time.
func (s *set) overdue(e *environment, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state != reserved && e.state != retired || e.expires.IsZero() || now.Before(e.expires) {
		return false
	}
	e.expires = time.Time{}
	return true
}

// stateOf returns where e stands, and since when it has been idle if it is.
func (s *set) stateOf(e *environment) (since time.Time, now state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.since, e.state
}

// appraise returns where e stands, and as what it would be ended if it is idle.
func (s *set) appraise(e *environment, now time.Time) (candidate, state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return appraise(&s.worth, s.total, e.bytes, e.since, now), e.state
}
