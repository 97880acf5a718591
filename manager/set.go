package manager

import (
	"slices"
	"sort"
	"sync"
	"time"

	"berth/lambda"
)

// state is where an environment stands for its manager. Whether a reserved one already runs is the worker's to know.
type state uint8

const (
	idle state = iota
	reserved
	warming  // made ahead of calls by the policy, not ready yet
	silent   // idle when its worker was last heard of, which does not answer now
	ending   // the manager told the worker to end it
	starting // made ahead (provisioned), not initialised yet
	retired  // made ahead, no longer wanted, and running a call: ends after it
	given    // not here any more: gone, or handed over to another manager
)

// firstReservation is the number of the reservation that a new environment is born with.
const firstReservation = 1

// environment is the manager's record of one environment. id and worker never change; the rest is guarded by set.mu.
type environment struct {
	id      lambda.EnvironmentID
	worker  lambda.WorkerID
	set     *set
	state   state
	pool    *pool     // whose call it has, while reserved; a function's pool may change between two calls
	since   time.Time // idle since
	record  *record   // of its function; nil for those that were made ahead (provisioned). Never changes
	gained  *record   // of its function's unbound ones, during its first call of a tenant
	seen    time.Time // since, as the sweep saw it; the sweep's own
	number  uint64    // of the last reservation; 0 while one that was made ahead has had none
	expires time.Time // of that reservation
	asked   bool      // the worker has been asked to give it back

	started   bool          // the worker has said that it knows the environment
	confirmed time.Time     // when the worker, as it has acknowledged, was last told that the environment is wanted
	timeout   time.Duration // the function's time limit

	epoch  uint64           // the ring version under which it came to be this manager's
	heir   lambda.ManagerID // whose it will be when that asks: it is not handed out here any more; "" for none
	willed uint64           // the ring version under which that was decided
	coming bool             // it is being handed over: its function's habit does not know it yet

	provision *provision // that it was made ahead for; nil for others. Never changes
	bytes     int64      // of memory. Never changes
	began     time.Time  // when it was reserved last, or started
	warm      bool       // it has been idle before
}

// set holds the environments of one key. idle is a stack: the most recently used is on top.
type set struct {
	key      lambda.EnvironmentKey
	isolated *isolated // of its function; nil without tenant isolation

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
	if e.state == given {
		return false
	}
	switch {
	case e.inUse():
		e.free(time.Now())
	case e.state == warming:
		e.warmed()
		e.record.pause(time.Now())
	}
	s.unlist(e)
	e.gave()
	s.total--
	s.dead = s.total == 0
	return s.dead
}

// inUse reports whether a call has e, or may have it soon.
func (e *environment) inUse() bool { return e.state == reserved || e.state == retired }

// free gives back what e was admitted for. A call in an environment made ahead has not been admitted: its end is told only.
func (e *environment) free(now time.Time) {
	if e.provision != nil {
		e.pool.released.Add(1)
		return
	}
	e.record.habit.Ended(now)
	e.gainOver(now)
	e.pool.release()
}

// warmed is told that e is no longer being made ahead of calls.
func (e *environment) warmed() {
	e.pool.warming.Add(-1)
	e.record.warming.Add(-1)
}

// take reserves the most recently used idle environment if there is one (else the verdict is 0), the pool admits it (else
// Throttled), and the tenure has not ended (else Moved). One that was made ahead comes first, and needs no admission. None is on a
// worker to avoid.
func (s *set) take(p *pool, t *tenure, quota int, now, expires time.Time, avoid []lambda.WorkerID) (e *environment, number uint64, verdict lambda.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Under the lock: whoever ends a tenure looks at the set afterwards, and finds what was reserved under it.
	if p.tenure.Load() != t {
		return nil, 0, lambda.Moved
	}
	list := &s.ahead
	at := last(*list, avoid)
	if at < 0 {
		list = &s.idle
		if at = last(*list, avoid); at < 0 {
			return nil, 0, 0
		}
		if !p.admit(quota) {
			return nil, 0, lambda.Throttled
		}
	}
	e = (*list)[at]
	if !e.callOf(p, t) {
		if list == &s.idle {
			p.release()
		}
		return nil, 0, lambda.Moved
	}
	*list = slices.Delete(*list, at, at+1)
	e.state, e.expires, e.asked, e.began = reserved, expires, false, now
	e.number++
	s.worth.used(now)
	if e.record != nil {
		e.record.began(now)
	}
	return e, e.number, lambda.Granted
}

// last is the index of the last environment that is on no worker to avoid; -1 for none.
func last(list []*environment, avoid []lambda.WorkerID) int {
	at := len(list) - 1
	for at >= 0 && slices.Contains(avoid, list[at].worker) {
		at--
	}
	return at
}

// put makes an environment idle whose last reservation has the given number, and is over, or one that was made ahead and is
// initialised now. Nothing else is: the word may be an old one. over tells that it is not wanted any more: the caller ends it.
func (s *set) put(e *environment, number uint64, now time.Time) (over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.number != number {
		return false
	}
	before := e.state
	switch before {
	case reserved, starting, warming:
		s.worth.held(now.Sub(e.began), e.warm)
		e.since, e.warm = now, true
	case silent: // it has been idle for longer
	case retired:
		e.state = ending
		e.free(now)
		return true
	default:
		return false
	}
	// Idle first, room after: whoever finds the room finds the environment too.
	e.state = idle
	s.list(e)
	switch before {
	case reserved:
		e.free(now)
	case warming:
		e.warmed()
	}
	return false
}

// list puts an idle environment on the stack, unless it waits for its heir.
func (s *set) list(e *environment) {
	switch {
	case e.heir != "":
	case e.provision != nil:
		s.ahead = append(s.ahead, e)
	default:
		s.idle = append(s.idle, e)
	}
}

// listByAge is list for an environment that was idle before it came here: the most recently used stay on top.
func (s *set) listByAge(e *environment) {
	if e.heir != "" || e.provision != nil {
		s.list(e)
		return
	}
	at := sort.Search(len(s.idle), func(i int) bool { return s.idle[i].since.After(e.since) })
	s.idle = slices.Insert(s.idle, at, e)
}

// retire marks an environment that was made ahead and is no longer wanted. True when nothing runs in it: the caller ends
// it now.
func (s *set) retire(e *environment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.state {
	case idle, starting, silent:
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

// silence takes an idle environment out of the stack while its worker does not answer: a call that was sent there would fail.
func (s *set) silence(e *environment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state == idle {
		e.state = silent
		s.unlist(e)
	}
}

// holding is what the worker is told of e; ok is false when there is nothing to tell: e is not known there yet or is
// ending or, unless all are asked for, its reservation has not just expired.
func (s *set) holding(e *environment, now time.Time, all bool) (h lambda.Holding, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	expired := e.inUse() && !now.Before(e.expires)
	if !e.started || e.state == ending || e.state == given || !all && (!expired || e.asked) {
		return h, false
	}
	e.asked = e.asked || expired
	return lambda.Holding{Environment: e.id, Reservation: e.number, GiveBack: expired || e.state == warming, Epoch: e.epoch}, true
}

// expire ends the time of a reservation if it is e's last.
func (s *set) expire(e *environment, number uint64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.inUse() && e.number == number {
		e.expires = now
	}
}

// confirm notes that the worker knew of e, and that it is wanted, at some time after the given one.
func (s *set) confirm(e *environment, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.started, e.confirmed = true, at
}

// lost reports whether e has certainly ended or become idle although its worker does not say so: its lease is over, and so
// is every invocation that began before.
func (s *set) lost(e *environment, now time.Time, lease time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.inUse() {
		lease += longestStart + e.timeout
	}
	return now.Sub(e.confirmed) > lease
}

// waits reports whether e counts among the environments that wait for a call, or will in a moment, and since when. Those that
// are provisioned are not the policy's.
func (s *set) waits(e *environment) (since time.Time, counts bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.since, e.provision == nil && e.heir == "" && !e.coming && (e.state == idle || e.state == warming || e.state == silent)
}

// idleSince reports whether e is idle, and since when.
func (s *set) idleSince(e *environment) (since time.Time, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.since, e.state == idle
}

func (s *set) isWarming(e *environment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.state == warming
}

// appraise returns where e stands, and as what it would be ended if it is idle.
func (s *set) appraise(e *environment, now time.Time) (candidate, state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return appraise(&s.worth, s.total, e, now), e.state
}
