package manager

import (
	"time"

	"berth/lambda"
)

func (s *set) epochOf(e *environment) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.epoch
}

// fate says of whose pool e is and who gets it; stays when it is here to stay under a ring version, or to end.
func (s *set) fate(e *environment, version uint64) (p *pool, heir lambda.ManagerID, stays bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	decided := e.heir == "" && (e.epoch >= version || e.willed >= version)
	return e.pool, e.heir, decided || e.pool == nil || e.state == ending || e.state == retired || e.state == given
}

// reservedSince reports whether e has been given to a call after the reservation of the given number.
func (s *set) reservedSince(e *environment, number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.state == reserved && e.number != number
}

// older reports whether what is known of e, which is used here, is older than the reservation of the given number.
func (s *set) older(e *environment, number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.started && e.number < number && (e.state == idle || e.state == reserved || e.state == silent)
}

// legacy describes e for a split; false when it is decided already who has it under this will, or when it stays to its end.
func (s *set) legacy(e *environment, p *pool, version uint64) (legacy, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.pool != p || e.epoch >= version || e.willed >= version || e.state == ending || e.state == retired || e.state == given {
		return legacy{}, false
	}
	return legacy{e, s.key, e.inUse(), e.provision != nil}, true
}

// leave notes who gets e, "" for nobody else. From then on it is not handed out here.
func (s *set) leave(e *environment, heir lambda.ManagerID, version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := e.heir
	e.heir, e.willed = heir, version
	if e.state != idle {
		return
	}
	switch {
	case heir != "" && before == "":
		s.unlist(e)
	case heir == "" && before != "":
		s.list(e)
	}
}

// gift is what became of an attempt to give an environment away.
type gift uint8

const (
	notTheirs gift = iota
	notYet         // it is being started for a call: the worker may not know it yet
	handed
)

// give takes e out of this manager's hands if it is the heir's.
func (s *set) give(e *environment, p *pool, to lambda.ManagerID) (h lambda.Handed, outcome gift) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.heir != to || e.pool != p || e.state == ending || e.state == retired || e.state == given {
		return h, notTheirs
	}
	if !e.started {
		if e.inUse() {
			return h, notYet
		}
		return h, notTheirs // nobody waits for it: it is offered when it is there
	}
	h = lambda.Handed{Environment: e.id, Worker: e.worker, Reservation: e.number, Since: e.since}
	before := e.state
	switch before {
	case idle:
		h.State = lambda.HandedIdle
	case silent:
		h.State = lambda.HandedSilent
	case warming, starting:
		h.State, h.Since = lambda.HandedMaking, e.began
	default:
		h.State, h.Since, h.Expires = lambda.HandedInUse, e.began, e.expires
	}
	s.unlist(e)
	e.gave()
	s.released(e, before)
	s.total--
	return h, handed
}

// released gives back what e was admitted for: its call is somebody else's to count.
func (s *set) released(e *environment, before state) {
	if before == warming {
		e.warmed()
	}
	if e.provision != nil {
		return
	}
	e.record.habit.Left(before == reserved)
	e.gainOver(time.Now())
	if before == reserved {
		e.pool.release()
	}
}

// leaveEmpty reports whether the set has died with what was given away.
func (s *set) leaveEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = s.dead || s.total == 0
	return s.dead
}

// come puts an environment that another manager handed over where it belongs. s.add has counted it.
func (s *set) come(e *environment, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.coming = false
	if e.state == idle {
		s.listByAge(e)
	}
	if e.record != nil && e.state != warming {
		e.record.habit.Came(e.state == reserved, since)
	}
}
