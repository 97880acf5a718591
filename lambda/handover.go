package lambda

import "time"

// Part is a range of slots [From, To) of a pool's limit that a manager held under an earlier ring, and who holds it now.
type Part struct {
	Ring     uint64    // the earlier version
	Manager  ManagerID // the successor; it may be the earlier holder itself
	From, To int
}

// HandOverRequest asks an earlier holder of pools for what is the successor's under a ring version. From then on the asked one
// admits nothing under older versions. Asking again with the same numbers gives the same answer, for one OwnerLease.
type HandOverRequest struct {
	Ring      uint64 // the successor's version
	Successor ManagerID
	Pools     []PoolHandOver // at most MaxHandedPools
}

// PoolHandOver asks for one pool.
type PoolHandOver struct {
	Pool PoolID
	Have int // how many environments the successor has got in earlier answers
	// Parts say, for each earlier ring, who gets which of the asked manager's slots, so that it need not know the new ring.
	Parts []Part
}

// Bounds of one message between managers, or of a worker's answer to Adopt: an environment takes up to 1,100 bytes there, and
// a message at most 1 MiB.
const (
	MaxHandedPools        = 500
	MaxHandedEnvironments = 800
	MaxOwnedPools         = 4000
)

// HandOverAnswer has one entry for each pool that was asked for, in their order.
type HandOverAnswer struct {
	Pools []HandedPool
}

// HandedPool is what of a pool is the successor's from now on.
type HandedPool struct {
	Pool PoolID
	Keys []HandedKey
	// Busy is how many executions are still to come from there at most: their environments are being started, or are on the way
	// to the asked manager. They count as admitted until a later answer, to be asked for soon, says otherwise.
	Busy int
	// Moved, when not 0, is the newer ring that the asked one goes by: the successor has no rights by the one it asked under.
	Moved uint64
	More  bool // there are more environments than one answer holds: ask again at once
}

// HandedKey are environments of one key.
type HandedKey struct {
	Key          EnvironmentKey
	Timeout      time.Duration // of the version
	MemoryMB     int
	Environments []Handed
}

// HandedState is where an environment stood for its owner.
type HandedState uint8

// The states of handed environments.
const (
	HandedIdle   HandedState = iota + 1
	HandedInUse              // reserved or running
	HandedMaking             // initialising, with no call for it yet
	HandedSilent             // idle when its worker last answered
)

// Handed is one environment as its owner knew it.
type Handed struct {
	Environment EnvironmentID
	Worker      WorkerID
	State       HandedState
	Reservation uint64    // the number of the last one; the next is one more
	Expires     time.Time // of that reservation, when in use; zero when not known
	Since       time.Time // idle since, or in use since; zero when not known
	Epoch       uint64    // under which the owner has it, when that is not what was asked with
	// Provisioned environments go to the first manager of the pool's order.
	Provisioned bool
	Qualifier   string // of the provision, where it is known
}

// OfferRequest tells a manager that it has pools to ask for: Manager holds something of them that is its under the ring.
type OfferRequest struct {
	Ring    uint64
	Manager ManagerID
	Pools   []PoolID // at most MaxHandedPools
}

// AdoptRequest asks a worker for the environments of an owner that does not answer. They belong to the adopter from then on.
// Asking again gives those too that were adopted before.
type AdoptRequest struct {
	From     ManagerID // the lost owner; the adopter itself after it was restarted
	Owner    ManagerID // the adopter; "" only asks of which pools there are environments, without them
	Epoch    uint64    // its ring version: environments of an epoch that is higher stay where they are
	Pool     PoolID
	AllPools bool   // whatever pool; for an adopter that was restarted
	Parts    []Part // who adopts, in slot order: environments by their ids, provisioned ones the first. None: all are the adopter's
	After    EnvironmentID
}

// AdoptAnswer is what the worker had of the lost owner, in the order of the environments' ids.
type AdoptAnswer struct {
	Pools []HandedPool
	Next  EnvironmentID // when not "": ask again, After this one
	Left  int           // environments of the lost owner that stay behind for others
}
