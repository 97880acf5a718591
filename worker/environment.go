package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"berth/code"
	"berth/extensions"
	"berth/lambda"
	"berth/runtimeapi"
	"berth/runtimes"
	"berth/sandbox"
)

// environment is a sandbox with one version initialised.
type environment struct {
	w       *Worker
	id      lambda.EnvironmentID
	key     lambda.EnvironmentKey // Tenant is guarded by mu, and changes once at most: see lambda.Unbound
	version *lambda.Version
	pool    lambda.PoolID // for adopters to ask by; means nothing here
	bytes   int64         // admitted
	ahead   bool          // made before there is a call for it
	log     *slog.Logger

	ctx  context.Context // ends when the worker stops, or when a start nobody waits for is to be given up
	stop context.CancelFunc

	mu        sync.Mutex // the fields below; held for no longer than a freeze
	state     State
	mustEnd   bool      // ends as soon as the turn is free
	claimed   bool      // an Invoke waits for the start
	released  bool      // the reservation was given back during the start
	frozen    bool      // set only in Idle
	idleSince time.Time // of Idle and Reserved
	leaseEnd  time.Time // no invocation begins after it
	owner     Owner
	ownerID   lambda.ManagerID
	epoch     uint64 // the ring version under which the owner has it
	// reservation is the number of the last reservation that was used or given back: only the next one is taken.
	reservation uint64

	started  chan struct{} // closed when the start phase is over and Invoke has the turn, or when it failed
	startErr error         // why the environment could not be made; valid after started
	gone     chan struct{} // closed at the very end

	// What start made, for the holder of the turn only.
	turn      *turn // of the start
	runtime   *runtimes.Runtime
	installed *code.Tree // the runtime's, if it is an image
	workdir   string     // of a function that is an image
	program   string     // its entry point, found
	tree      *code.Tree
	layers    *code.Tree // shown at /opt; nil without layers
	sandbox   sandbox.Sandbox
	parked    *parkedSandbox // from which sandbox was taken; nil: it was made for this environment
	server    *runtimeapi.Server
	api       *runtimeapi.API
	lines     *logStream // what out turns into events
	out       *output
	ext       *extensions.Host
	external  []string          // files of /opt/extensions
	extOut    *output           // of external extensions; nil until there are any
	process   *process          // nil when there is none: never started, or ended and cleaned up
	limit     *limit            // the one time limit that is running
	initTime  time.Duration     // of a good init phase, else 0
	used      bool              // an invocation has been concluded
	helpers   []helper          // external extensions whose processes were started
	extended  bool              // extensions have registered, and take part in invocations
	winding   extensions.Reason // why windDown is due; "" if it is not
	ended     *extensions.Ended // what tellReport is to tell; nil: nothing
	invoked   time.Time         // when what it tells of began
	memory    memoryMeter
}

func newEnvironment(w *Worker, req lambda.StartRequest, owner Owner) *environment {
	v := req.Version
	e := &environment{
		w: w, id: req.Environment, key: req.Key, version: v, owner: owner, ownerID: req.Owner, epoch: req.Epoch, pool: req.Pool,
		bytes:    int64(v.MemoryMB)<<20 + EnvironmentOverhead,
		log:      w.log.With("environment", req.Environment, "account", v.Account, "function", v.Function),
		state:    Starting,
		ahead:    req.Ahead,
		released: req.Ahead, // nobody has reserved it: ready tells the owner that it is idle
		leaseEnd: time.Now().Add(w.cfg.Lease),
		started:  make(chan struct{}),
		gone:     make(chan struct{}),
	}
	e.ctx, e.stop = context.WithCancel(w.base)
	e.limit = newLimit(e.ctx)
	return e
}

// discard frees an environment that was not admitted.
func (e *environment) discard() { e.stop() }

// takeApart undoes what start did. The caller has moved the state to Ending.
func (e *environment) takeApart() {
	for i := len(startSteps) - 1; i >= 0; i-- {
		startSteps[i].undo(e)
	}
	e.stop()
	e.mu.Lock()
	e.to(Gone)
	e.mu.Unlock()
	e.w.forget(e)
	close(e.gone)
}

// sandboxContext bounds one operation on the sandbox that must not be cut short by the worker's end.
func sandboxContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), stopLimit)
}
