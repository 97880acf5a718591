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
	ending // the manager told the worker to end it
)

// environment is the manager's record of one environment. id and worker never change; the rest is guarded by set.mu.
type environment struct {
	id      lambda.EnvironmentID
	worker  lambda.WorkerID
	set     *set
	state   state
	pool    *pool     // which admitted it, while reserved; a function's pool may change between two calls
	since   time.Time // idle since
	expires time.Time // reserved until; zero once the worker has been asked to give it back
}

// set holds the environments of one key. idle is a stack: the most recently used is on top.
type set struct {
	key   lambda.EnvironmentKey
	mu    sync.Mutex
	idle  []*environment
	total int  // environments of this key in any state
	dead  bool // dropped from Manager.sets; never used again
}

// add counts a new environment; false when the set is dead.
func (s *set) add() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return false
	}
	s.total++
	return true
}

// remove drops an environment, gives back what it was admitted for, and reports whether the set died with it.
func (s *set) remove(e *environment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state == reserved {
		e.pool.release()
	}
	s.unlist(e)
	s.total--
	s.dead = s.total == 0
	return s.dead
}

// take reserves the most recently used idle environment if there is one and the pool admits it; full tells the latter apart.
func (s *set) take(p *pool, quota int, expires time.Time) (e *environment, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	e.state, e.pool, e.expires = reserved, p, expires
	return e, false
}

// put makes a reserved environment idle.
func (s *set) put(e *environment, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state != reserved {
		return
	}
	// Idle first, room after: whoever finds the room finds the environment too.
	e.state, e.since = idle, now
	s.idle = append(s.idle, e)
	e.pool.release()
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
	if i := slices.Index(s.idle, e); i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
	}
}

// overdue reports, once per reservation, that it was not used in time.
func (s *set) overdue(e *environment, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state != reserved || e.expires.IsZero() || now.Before(e.expires) {
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
