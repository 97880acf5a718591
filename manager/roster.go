package manager

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// roster lists a pool's environments, so that a hand-over of one pool costs nothing for the others. It may list, for a moment, one that
// has just become another pool's. Its lock is taken last.
type roster struct {
	mu   sync.Mutex
	list map[*environment]struct{}
}

func (r *roster) add(e *environment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil {
		r.list = map[*environment]struct{}{}
	}
	r.list[e] = struct{}{}
}

func (r *roster) remove(e *environment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.list, e)
}

// all returns the environments in the order of their ids.
func (r *roster) all() []*environment {
	r.mu.Lock()
	list := slices.Collect(maps.Keys(r.list))
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b *environment) int { return cmp.Compare(a.id, b.id) })
	return list
}

// enlist puts an environment that is on the manager's books on its pool's roster, unless it has gone already.
func (s *set) enlist(e *environment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state != given && e.pool != nil {
		e.pool.roster.add(e)
	}
}

// gave marks e as not here any more. s.mu is held.
func (e *environment) gave() {
	e.state = given
	if e.pool != nil {
		e.pool.roster.remove(e)
	}
}

// callOf makes e, which is being reserved, the pool's whose call it gets: a function's pool may have changed since the last one. False
// when the tenure has ended, and nothing is done: whoever ended it reads the roster afterwards, so e is listed before the second look
// at the tenure. s.mu is held.
func (e *environment) callOf(p *pool, t *tenure) bool {
	if e.pool == p {
		return true
	}
	p.roster.add(e)
	if p.tenure.Load() != t {
		p.roster.remove(e)
		return false
	}
	if e.pool != nil {
		e.pool.roster.remove(e)
	}
	e.pool = p
	return true
}
