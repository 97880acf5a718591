package lambda

import (
	"errors"
	"time"
)

// StartRequest asks a worker for a new environment, reserved for one invocation that follows at once, or made ahead.
type StartRequest struct {
	Environment EnvironmentID
	Owner       ManagerID // who is told when the environment becomes idle or ends
	Epoch       uint64    // the ring version under which the owner has it
	Pool        PoolID    // a label: what an adopter asks for when the owner is lost
	Key         EnvironmentKey
	Version     *Version
	// Ahead makes the environment before there is a call for it (provisioned concurrency): no reservation goes with it, the
	// owner hears that it is idle once it is initialised. If its initialisation fails it ends, so that what the owner hears
	// first is that it is gone.
	Ahead bool
}

// OwnerLease is how long an environment outlives the last word of its owner. Longer than the engine needs to elect a new
// leader after all its servers restarted (12 s), so that no election ends environments.
const OwnerLease = 20 * time.Second

// RenewRequest renews an owner's lease on its environments of one worker, and says what it knows of them. A new owner, with
// an epoch above the last one's, adopts environments by it.
type RenewRequest struct {
	Owner    ManagerID // "" for a frontend, which may give reservations back only
	Holdings []Holding
}

// Holding is one environment as its owner knows it.
type Holding struct {
	Environment EnvironmentID
	Reservation uint64 // Reservation.Number of its last reservation
	GiveBack    bool   // that reservation has expired: if it was not used until now, it never may be
	Epoch       uint64 // the ring version under which the owner got it; the words of a stale owner mean nothing
}

// RenewAnswer says which holdings are not what a busy environment's owner believes them to be. It makes up for words of the
// worker that were lost.
type RenewAnswer struct {
	Idle []EnvironmentID // the holding's reservation is over, and the environment can take the next
	Gone []EnvironmentID // not on this worker (any more), and never again; or another manager owns it
}

// Predecessor is a manager that held some slots of a pool's limit in an earlier ring version: [From, To). See ring.History.
type Predecessor struct {
	Manager  ManagerID
	Ring     uint64 // the earlier version
	From, To int
}

// AcquireRequest asks a manager for an environment.
type AcquireRequest struct {
	Pool    PoolID
	Key     EnvironmentKey
	Version *Version
	// ReuseOnly asks for an existing environment: the answer is Miss where there is none (design E).
	ReuseOnly bool
	// Ring is the version by which the frontend chose the manager.
	Ring uint64
	// Predecessors held the manager's slots of the pool under earlier rings (design C); nil when there are none.
	Predecessors []Predecessor
	// Unreachable are managers before the asked one in the pool's order that the frontend could not reach. The asked one
	// takes over their quota when it finds them unreachable too.
	Unreachable []ManagerID
	// Avoid are workers to which this call was sent in vain: they did not answer, or did not know the environment. The call is
	// given none there, and the manager asks them whether they are there.
	Avoid []WorkerID
}

// Verdict is a manager's decision on an AcquireRequest.
type Verdict uint8

// The verdicts. The zero value is none of them.
const (
	Granted     Verdict = iota + 1
	Miss                // ReuseOnly, and nothing idle fits; the quota has room
	Throttled           // the manager's quota of the pool is used up
	RateLimited         // the function gains environments too fast; nothing idle fits
	Full                // no worker has room
	Moved               // the manager goes by another ring version than the request: see Answer.Ring
)

// Answer is what a manager says to an AcquireRequest. It always carries the manager's load of the pool.
type Answer struct {
	Verdict     Verdict
	Reservation Reservation // with Granted
	Ring        uint64      // with Moved: the manager's version
	Load        Load
}

// Load is one manager's share of a pool.
type Load struct {
	Running  int    // reserved or running now
	Quota    int    // how many it may run at once
	Released uint64 // how often it gave room back since it started: equal numbers mean that nothing was freed in between
}

// Errors between roles. They never reach a caller as they are.
var (
	// ErrNoCapacity: the worker has no room for the environment; the manager ends idle ones or tries another worker.
	ErrNoCapacity = errors.New("the worker has no memory left for another environment")
	// ErrUnknownEnvironment: the reservation's environment is not there (any more). Nothing has run: it is safe to try again.
	ErrUnknownEnvironment = errors.New("no such environment on this worker")
	// ErrUnreachable: the role did not answer. Whether it did something is unknown.
	ErrUnreachable = errors.New("the role does not answer")
)
