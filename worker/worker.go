// Package worker makes environments and runs invocations in them: sandbox, code, runtime process, Runtime API, time limits
// and logs. It knows nothing of pools; a manager owns each environment.
//
// One goroutine at a time has an environment's turn: the one that starts it, the caller of Invoke, or the one that ends it.
// Only the holder of the turn touches the sandbox's processes; everybody else asks the state machine (state.go) for the turn.
package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"berth/code"
	"berth/lambda"
	"berth/logs"
	"berth/parked"
	"berth/runtimes"
	"berth/sandbox"
)

// Errors that callers tell apart, beside lambda.ErrNoCapacity and lambda.ErrUnknownEnvironment.
var (
	// ErrNotReserved: the reservation is used, expired, or was given back. Nothing has run: reserve another environment.
	ErrNotReserved = fmt.Errorf("the environment is not reserved for this call: %w", lambda.ErrUnknownEnvironment)
	// ErrStopped: the worker takes no new environments because it is being stopped.
	ErrStopped = errors.New("the worker is stopping")
)

// Owner is told what becomes of the environments it owns. Calls are quick and never block on the worker.
type Owner interface {
	// EnvironmentIdle: the invocation is over, or the reservation was given back, and the environment can take another. If it
	// is ended at the same moment this may come after EnvironmentGone; then it means nothing.
	// The number is that of the reservation that is over by it: an owner that has given a newer one away ignores the word.
	EnvironmentIdle(id lambda.EnvironmentID, reservation uint64)
	// EnvironmentGone: it ended (crash, failed start, End) and its resources are free. Called exactly once per environment.
	EnvironmentGone(lambda.EnvironmentID)
}

// Runtimes finds what runs a function; *runtimes.Set is one. Its errors are fit for users.
type Runtimes interface {
	Find(name string) (*runtimes.Runtime, error)
}

// CodeCache gives unpacked code; *code.Cache is one.
type CodeCache interface {
	Tree(ctx context.Context, digest lambda.CodeDigest) (*code.Tree, error)
	// Merged gives the tree of several zips put over one another, the last on top.
	Merged(ctx context.Context, digests []lambda.CodeDigest) (*code.Tree, error)
	// Made gives what make makes under a name that stands for just that.
	Made(ctx context.Context, digest lambda.CodeDigest, make code.Maker) (*code.Tree, error)
}

// LogSink takes log lines without ever blocking; *logs.Store is one. It does not keep the slice.
type LogSink interface {
	Append(account lambda.AccountID, group string, events ...logs.Event)
}

// Credentials are what a function finds in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
type Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// Config says what a Worker works with. All of the first group must be given.
type Config struct {
	ID          lambda.WorkerID
	Driver      sandbox.Driver
	Runtimes    Runtimes
	Code        CodeCache
	Logs        LogSink
	Owners      func(lambda.ManagerID) Owner // called at Start, Renew and Adopt; nil for an unknown manager, which can own nothing
	MemoryBytes int64                        // sum of the memory of all environments, EnvironmentOverhead each included

	Credentials func(*lambda.Version) Credentials // asked at every start of a runtime process; nil: none
	Unpack      Unpack                            // container images, and runtimes that are such; nil: there are none
	Lease       time.Duration                     // an environment whose owner is silent for this long ends; 0 is lambda.OwnerLease
	ParkFor     []string                          // runtimes for which sandboxes wait from the start on; for others once they are used
	ParkedBytes int64                             // memory of all sandboxes that wait, beside MemoryBytes; 0 is a twentieth of that, negative: none wait
	ParkMakers  int                               // how many of them are made at the same time; 0 is 1
	IdleFreeze  time.Duration                     // an environment idle this long is frozen; 0 is DefaultIdleFreeze, negative never
	Idle        func() float64                    // share of processor time that was idle of late, 0 to 1; nil: all of it
	Log         *slog.Logger                      // nil discards
}

const (
	// EnvironmentOverhead is what an environment costs beside its function's memory: kernel objects of its namespaces,
	// this process's goroutines and buffers. An estimate, for admission only.
	EnvironmentOverhead = 2 << 20

	// DefaultIdleFreeze keeps a busy function's environments thawed: a freeze and a thaw cost as much as an invocation.
	DefaultIdleFreeze = 500 * time.Millisecond

	endAtOnce = 16               // environments taken apart at the same time when the worker stops
	stopLimit = 10 * time.Second // for killing or destroying one sandbox; a driver that takes longer is broken
)

// Worker holds the environments of one machine.
type Worker struct {
	cfg      Config
	log      *slog.Logger
	registry registry
	failures failures
	releases sync.Map // path of a tree → *runtimes.Runtime
	ended    ended

	parked *parked.Pool[parkedKind, *parkedSandbox] // nil: none
	turns  *turns                                   // of starts

	initLimit time.Duration // lambda.InitTimeout, but in tests
	grace     time.Duration // drainGrace, but in tests

	base     context.Context // ends when the worker stops: everything stops with it
	stopBase context.CancelFunc

	draining atomic.Bool // see Drain
	cutting  atomic.Bool // Drain has waited for the managers for long enough

	mu       sync.Mutex // start and stop only, never on the invoke path
	stopping bool
	used     int64 // bytes admitted

	live        sync.WaitGroup // environments that are not gone yet, and their goroutines
	invocations atomic.Uint64
	cold        atomic.Uint64
	attached    atomic.Uint64 // environments in sandboxes that were parked
}

// New makes a Worker. It starts nothing: environments can be started before Run, but nothing is frozen or ended without it.
func New(cfg Config) (*Worker, error) {
	switch {
	case cfg.Driver == nil, cfg.Runtimes == nil, cfg.Code == nil, cfg.Logs == nil, cfg.Owners == nil:
		return nil, errors.New("worker: Driver, Runtimes, Code, Logs and Owners must be given")
	case cfg.MemoryBytes <= 0:
		return nil, fmt.Errorf("worker: MemoryBytes must be positive, is %d", cfg.MemoryBytes)
	}
	if cfg.IdleFreeze == 0 {
		cfg.IdleFreeze = DefaultIdleFreeze
	}
	if cfg.Lease == 0 {
		cfg.Lease = lambda.OwnerLease
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Worker{cfg: cfg, initLimit: lambda.InitTimeout, grace: drainGrace, log: cfg.Log.With("worker", cfg.ID)}
	w.base, w.stopBase = context.WithCancel(context.Background())
	w.registry.init()
	w.turns = newTurns(turnsEach*runtime.GOMAXPROCS(0), cfg.Idle, w.live.Go)
	w.parked = newParked(w)
	return w, nil
}

// Run looks after the environments until ctx ends (tend). Then it ends every environment, running ones too, and returns when all are gone.
func (w *Worker) Run(ctx context.Context) error {
	var waiting sync.WaitGroup
	if w.parked != nil {
		w.keepParked()
		waiting.Go(func() { w.parked.Run(ctx) })
	}
	w.tend(ctx)

	w.mu.Lock()
	w.stopping = true
	w.mu.Unlock()
	w.stopBase() // whoever has an environment's turn lets go of it
	atOnce := make(chan struct{}, endAtOnce)
	for e := range w.registry.all() {
		atOnce <- struct{}{}
		w.live.Go(func() {
			defer func() { <-atOnce }()
			e.end()
		})
	}
	w.live.Wait()
	waiting.Wait()
	return nil
}

var environmentID = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// Start admits a new environment and returns at once: sandbox, code and init follow in the background, and the owner hears
// of the end. The environment is reserved, with number 1, until Invoke, Renew with GiveBack, End, or the end of its lease. Errors: lambda.ErrNoCapacity, ErrStopped.
func (w *Worker) Start(_ context.Context, req lambda.StartRequest) error {
	if req.Version == nil {
		return errors.New("worker: a lambda.StartRequest needs a Version")
	}
	if !environmentID.MatchString(string(req.Environment)) {
		return fmt.Errorf("worker: environment id %q: expected 1–64 of a–z, 0–9 and -", req.Environment)
	}
	owner := w.cfg.Owners(req.Owner)
	if owner == nil {
		return fmt.Errorf("worker: environment %s: its manager %q is not known here", req.Environment, req.Owner)
	}
	e := newEnvironment(w, req, owner)
	if err := w.admit(e); err != nil {
		e.discard()
		return err
	}
	w.live.Go(e.start)
	return nil
}

// admit takes e's memory from the capacity and registers it. The environment counts as live until forget.
func (w *Worker) admit(e *environment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopping:
		return ErrStopped
	case w.draining.Load():
		return fmt.Errorf("%w: it is to be stopped", lambda.ErrNoCapacity)
	case w.used+e.bytes > w.cfg.MemoryBytes:
		return fmt.Errorf("%w: %d MiB of %d MiB are taken, %d MiB more are needed",
			lambda.ErrNoCapacity, w.used>>20, w.cfg.MemoryBytes>>20, e.bytes>>20)
	case w.ended.has(e.id) || !w.registry.add(e):
		return fmt.Errorf("worker: environment %s is or was there already: ids must never be used twice", e.id)
	}
	w.used += e.bytes
	w.live.Add(1)
	return nil
}

// forget is the last step of an environment's life.
func (w *Worker) forget(e *environment) {
	w.ended.add(e.id)
	w.registry.remove(e.id)
	w.mu.Lock()
	w.used -= e.bytes
	w.mu.Unlock()
	e.mu.Lock()
	owner := e.owner
	e.mu.Unlock()
	owner.EnvironmentGone(e.id)
	w.live.Done()
}

// End ends an environment, at once if nothing runs in it, else after its invocation. It returns when the environment is
// gone, or at once in the second case. Error: lambda.ErrUnknownEnvironment.
func (w *Worker) End(_ context.Context, id lambda.EnvironmentID) error {
	e := w.registry.find(id)
	if e == nil {
		return fmt.Errorf("%w: %s", lambda.ErrUnknownEnvironment, id)
	}
	e.end()
	return nil
}

// Prepare makes sure that version v can start here: its runtime is installed and its code is fetched, verified and
// unpacked. v.Management.Version is the version of the runtime that it is to start in first; "" is the host's. Its errors explain
// State=Failed to the function's owner.
func (w *Worker) Prepare(ctx context.Context, v *lambda.Version) error {
	if v.Image != nil {
		return w.prepareImage(ctx, v)
	}
	rt, installed, err := w.openRuntime(ctx, v.Runtime, v.Management.Version)
	if err != nil {
		return err
	}
	if installed != nil {
		defer installed.Release()
	}
	if kind, can := kindOf(rt, v); can && w.parked != nil {
		w.parked.Expect(kind)
	}
	tree, err := w.cfg.Code.Tree(ctx, v.Code)
	if err != nil {
		return fmt.Errorf("the function's code could not be made ready: %w", err)
	}
	tree.Release()
	if len(v.Layers) == 0 {
		return nil
	}
	layers, err := w.cfg.Code.Merged(ctx, v.Layers)
	if err != nil {
		return fmt.Errorf("the function's layers could not be made ready: %w", err)
	}
	layers.Release()
	return nil
}

// Stats describes a worker at one moment.
type Stats struct {
	Environments map[State]int // those not gone
	Frozen       int           // of the idle ones
	MemoryUsed   int64         // bytes admitted, EnvironmentOverhead each included
	MemoryLimit  int64         // Config.MemoryBytes
	Invocations  uint64        // that reached a runtime, since New
	ColdStarts   uint64        // environments that became ready, since New
	Parked       int           // sandboxes that wait for a function
	ParkedStarts uint64        // environments that began in one of those, since New
}

// Stats counts. It visits every environment.
func (w *Worker) Stats() Stats {
	s := Stats{Environments: map[State]int{}, MemoryLimit: w.cfg.MemoryBytes}
	for e := range w.registry.all() {
		state, frozen := e.look()
		s.Environments[state]++
		if frozen {
			s.Frozen++
		}
	}
	w.mu.Lock()
	s.MemoryUsed = w.used
	w.mu.Unlock()
	s.Invocations, s.ColdStarts, s.ParkedStarts = w.invocations.Load(), w.cold.Load(), w.attached.Load()
	if w.parked != nil {
		s.Parked = w.parked.Total()
	}
	return s
}

// randomHex returns 2n random hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
