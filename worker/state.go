package worker

import (
	"fmt"
	"slices"
	"time"

	"berth/lambda"
)

// State is where an environment is in its life.
type State string

// The states. In Starting, Running and Ending one goroutine has the turn; in Idle and Reserved nobody has.
const (
	Starting State = "starting" // sandbox, code and init phase under way
	Reserved State = "reserved" // ready, and waits for the invocation that it was started for
	Idle     State = "idle"     // ready, and its owner may reserve it
	Running  State = "running"  // an invocation has it
	Ending   State = "ending"   // being taken apart
	Gone     State = "gone"     // nothing is left
)

// transitions is every legal change of state. Anything else is a bug; the environment is ended then.
var transitions = map[State][]State{
	Starting: {Reserved, Running, Idle, Ending}, // nobody called yet; the call is waiting; given back meanwhile; failed or ended
	Reserved: {Running, Idle, Ending},           // called; given back; ended
	Idle:     {Running, Ending},                 // called (the reservation is known to its owner only); ended
	Running:  {Idle, Ending},
	Ending:   {Gone},
	Gone:     {},
}

// to changes the state; e.mu is held. After an illegal change the environment is broken and the state stays.
func (e *environment) to(next State) bool {
	if !slices.Contains(transitions[e.state], next) {
		e.log.Error("bug: an environment's state was to change illegally; it will be ended", "from", e.state, "to", next)
		e.mustEnd = true
		return false
	}
	e.state = next
	return true
}

// claim takes the turn for one invocation. While the environment is starting, the turn follows when e.started is closed:
// waiting is true then.
//
// An environment that has had no invocation yet is bound to the call's tenant here, and is never another's (invariant I2):
// whatever owners believe, this is the last line.
func (e *environment) claim(res *lambda.Reservation, tenant string, now time.Time) (waiting bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	bound, its := lambda.Bind(e.key.Tenant, tenant)
	switch {
	case e.mustEnd || e.state == Ending || e.state == Gone:
		return false, fmt.Errorf("%w: %s is ending", lambda.ErrUnknownEnvironment, e.id)
	case !res.Expires.IsZero() && now.After(res.Expires):
		return false, fmt.Errorf("%w: the reservation of %s has expired", ErrNotReserved, e.id)
	case res.Number != 0 && res.Number != e.reservation+1: // owners give the next away when the last is known to be over
		return false, fmt.Errorf("%w: reservation %d of %s came after %d", ErrNotReserved, res.Number, e.id, e.reservation)
	case now.After(e.leaseEnd):
		return false, fmt.Errorf("%w: the lease of %s is over", lambda.ErrUnknownEnvironment, e.id) // tend ends it
	case e.state == Running || e.state == Starting && (e.claimed || e.released):
		return false, fmt.Errorf("%w: %s is %s for another one", ErrNotReserved, e.id, e.state)
	case !its:
		return false, fmt.Errorf("%w: %s is another tenant's", ErrNotReserved, e.id)
	}
	e.key.Tenant = bound
	e.reservation = max(e.reservation, res.Number)
	if e.state == Starting {
		e.claimed = true
		return true, nil
	}
	e.to(Running)
	return false, nil
}

// ready ends the start phase. It reports whether the starter must take the environment apart.
func (e *environment) ready() (end bool) {
	e.mu.Lock()
	idle := false
	switch {
	case e.mustEnd && !e.claimed:
		e.to(Ending)
		end = true
	case e.claimed:
		e.to(Running)
	case e.released:
		idle = e.to(Idle)
		e.idleSince = time.Now()
	default:
		e.to(Reserved)
		e.idleSince = time.Now()
	}
	reservation, owner := e.reservation, e.owner
	e.mu.Unlock()
	close(e.started)
	if idle {
		owner.EnvironmentIdle(e.id, reservation)
	}
	return end
}

// failed ends the start phase without an environment; the starter takes apart what there is.
func (e *environment) failed(err error) {
	e.mu.Lock()
	e.startErr = err
	e.to(Ending)
	e.mu.Unlock()
}

// settle gives the turn back after an invocation.
func (e *environment) settle(now time.Time) {
	e.mu.Lock()
	end := e.mustEnd || e.w.cutting.Load()
	if end {
		e.to(Ending)
	} else {
		e.to(Idle)
		e.idleSince = now
	}
	reservation, owner := e.reservation, e.owner
	e.mu.Unlock()
	if end {
		e.takeApart()
		return
	}
	owner.EnvironmentIdle(e.id, reservation)
}

// release gives a reservation back that was not used: the environment becomes idle, and its owner is told so (when it is
// ready, if it is still starting). An environment that runs an invocation, ends, or is gone is left alone; so is one
// whose reservation was used or given back already.
func (e *environment) release(reservation uint64) {
	e.mu.Lock()
	idle := false
	switch {
	case e.mustEnd || e.state == Running || e.claimed && e.state == Starting:
	case reservation != 0 && reservation <= e.reservation:
	case e.state == Starting:
		e.released = true // ready tells the owner
	case e.state == Reserved:
		idle = e.to(Idle)
	case e.state == Idle:
		idle = true // reserved as its owner sees it
	}
	if idle || e.state == Starting && e.released {
		e.reservation = max(e.reservation, reservation)
	}
	owner := e.owner
	e.mu.Unlock()
	if idle {
		owner.EnvironmentIdle(e.id, reservation)
	}
}

// end ends the environment now if nobody has the turn or wants it; else whoever has the turn will.
func (e *environment) end() {
	e.mu.Lock()
	e.mustEnd = true
	mine := (e.state == Idle || e.state == Reserved) && e.to(Ending)
	if e.state == Starting && !e.claimed {
		e.stop()
	}
	wait := mine || e.state == Ending || e.state == Starting && !e.claimed
	e.mu.Unlock()
	if mine {
		e.takeApart()
	}
	if wait {
		<-e.gone
	}
}

// broken makes the environment end when its turn is over, because its sandbox can no longer be trusted to work.
func (e *environment) broken(why string, err error) {
	e.log.Error("environment will be ended: "+why, "error", err)
	e.mu.Lock()
	e.mustEnd = true
	e.mu.Unlock()
}

// look reads the state from outside.
func (e *environment) look() (s State, frozen bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state, e.frozen
}
