// Package frontend carries one invocation from a Ref to its Outcome: resolve, reserve, run. It keeps no environment state;
// what it believes of a pool's load is a hint that may be wrong without harm.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/ring"
)

// Catalog resolves what a caller wrote, without I/O. Errors: ResourceNotFound, ResourceConflict for a version that is not
// active.
type Catalog interface {
	Resolve(ref lambda.Ref) (catalog.Target, error)
}

// Manager hands out environments.
type Manager interface {
	// Acquire decides on a request. Error: lambda.ErrUnreachable when the manager does not answer.
	Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error)
}

// Worker runs invocations in environments.
type Worker interface {
	Invoke(ctx context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error)
}

// PeerLoad is what the other frontends together say of a pool.
type PeerLoad struct {
	InFlight int  // the sum
	MaxSize  int  // the largest |S| among them
	Complete bool // every other frontend answered in time; also when there is none
}

// Peers reaches the other frontends. Calls return when ctx ends at the latest, with what came until then.
type Peers interface {
	PoolLoad(ctx context.Context, id lambda.PoolID) PeerLoad
}

// Alone is the Peers of a frontend that has none.
type Alone struct{}

// PoolLoad reports that nobody else has calls in flight.
func (Alone) PoolLoad(context.Context, lambda.PoolID) PeerLoad { return PeerLoad{Complete: true} }

// Defaults of Config.
const (
	DefaultPollLimit    = 5 * time.Millisecond
	DefaultCoolDown     = time.Second
	DefaultShrinkWindow = 10 * time.Second
	DefaultReuseTries   = 2
	DefaultReuseBudget  = 2 * time.Millisecond

	shrinkInterval = time.Second
	// tries bounds how often one invocation asks for an environment, when the one it got had ended before the call reached it.
	tries = 3
)

// Config of a Frontend. Zero durations and ReuseTries take the defaults.
type Config struct {
	Catalog Catalog
	Manager func(lambda.ManagerID) (Manager, bool)
	Worker  func(lambda.WorkerID) (Worker, bool)
	Peers   Peers
	Rings   ring.Source // the newest ring, and the earlier ones that are kept
	Limit   func(lambda.PoolID) int
	// RuntimeVersion says in which version of its runtime a function version runs now. It is not asked where Trials is set.
	RuntimeVersion func(*lambda.Version) (lambda.RuntimeVersionID, error)
	Trials         Trials // nil: no function is on trial

	PollLimit    time.Duration // how long a load query waits for the other frontends
	CoolDown     time.Duration // at most one change of a pool's S in this time
	ShrinkWindow time.Duration // how old a manager's report may be
	ReuseTries   int           // draws for an existing environment before one is made; negative for none
	ReuseBudget  time.Duration // time for these draws
	// Token signs tenant tokens, for functions that ask for them. nil: their calls fail.
	Token func(context.Context, lambda.TokenClaims) (string, error)
	// Weight of a manager in the draws of a pool; nil draws evenly.
	Weight func(lambda.PoolID, lambda.ManagerID) float64
	// Idle is the share of processor time that was idle of late, from 0 to 1, where all functions run on this machine: their short calls
	// wait for one another while it is low. nil: they never do.
	Idle func() float64
	// Rand makes the draws. It must be safe for concurrent use; nil is the runtime's own source.
	Rand rand.Source
}

// Frontend routes invocations.
type Frontend struct {
	cfg   Config
	rng   *rand.Rand
	pools sync.Map // lambda.PoolID → *poolView
	gates sync.Map // *lambda.Version → *gate

	throttles throttles
}

// New makes a frontend.
func New(cfg Config) *Frontend {
	setDefault(&cfg.PollLimit, DefaultPollLimit)
	setDefault(&cfg.CoolDown, DefaultCoolDown)
	setDefault(&cfg.ShrinkWindow, DefaultShrinkWindow)
	setDefault(&cfg.ReuseBudget, DefaultReuseBudget)
	if cfg.ReuseTries == 0 {
		cfg.ReuseTries = DefaultReuseTries
	}
	if cfg.Peers == nil {
		cfg.Peers = Alone{}
	}
	if cfg.Rand == nil {
		cfg.Rand = runtimeSource{}
	}
	return &Frontend{cfg: cfg, rng: rand.New(cfg.Rand)}
}

// runtimeSource is the runtime's random generator, which is safe for concurrent use.
type runtimeSource struct{}

func (runtimeSource) Uint64() uint64 { return rand.Uint64() }

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// Run shrinks the S of pools whose load has fallen, until ctx ends.
func (f *Frontend) Run(ctx context.Context) error {
	tick := time.NewTicker(min(shrinkInterval, f.cfg.ShrinkWindow/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C: // maybe late
			f.pools.Range(func(_, v any) bool {
				f.shrink(v.(*poolView))
				return true
			})
			f.gates.Range(func(version, g any) bool {
				if g.(*gate).tick() {
					f.gates.Delete(version)
				}
				return true
			})
		}
	}
}

// Invoke runs one invocation. A function's own failure is an Outcome; an error means that no outcome exists:
// ResourceNotFound, ResourceConflict (not active), TooManyRequests, ServiceFailure.
func (f *Frontend) Invoke(ctx context.Context, ref lambda.Ref, inv *lambda.Invocation) (*lambda.Outcome, error) {
	target, err := f.cfg.Catalog.Resolve(ref)
	if err != nil {
		return nil, err
	}
	if err := target.Version.CheckTenant(inv.Tenant); err != nil {
		return nil, err
	}
	draw, err := f.drawRuntime(target.Version, inv.RequestID)
	if err != nil {
		return nil, err
	}
	inv.InvokedARN, inv.Version = target.InvokedARN, target.Version.Number
	req := lambda.AcquireRequest{Pool: target.Pool, Key: keyOf(target.Version, draw.Version, inv.Tenant), Version: target.Version}
	p := f.poolOf(target.Pool)
	p.inFlight.Add(1)
	defer p.inFlight.Add(-1)
	g := f.gateOf(target.Version, inv)
	if err := g.enter(ctx); err != nil {
		return nil, err
	}
	var outcome *lambda.Outcome
	defer func() { g.leave(outcome) }()
	if draw.Trial != nil {
		outcome, err = f.runTrial(ctx, p, &draw, req, inv, &target)
	} else {
		outcome, err = f.run(ctx, p, req, inv, &target)
	}
	if unreserved, ok := err.(*unreservedError); ok {
		err = unreserved.error // the mark is for runTrial
	}
	return outcome, err
}

// run is runOnce, and once more when the environment could not be started through no fault of the function: nothing has run.
func (f *Frontend) run(ctx context.Context, p *poolView, req lambda.AcquireRequest, inv *lambda.Invocation, target *catalog.Target) (*lambda.Outcome, error) {
	outcome, err := f.runOnce(ctx, p, req, inv, target)
	if err != nil && notStarted(err) && lambda.CodeOf(err) == lambda.ServiceFailure && ctx.Err() == nil {
		return f.runOnce(ctx, p, req, inv, target)
	}
	return outcome, err
}

// runOnce finds an environment and runs the invocation in it, in another one if that has ended meanwhile.
func (f *Frontend) runOnce(ctx context.Context, p *poolView, req lambda.AcquireRequest, inv *lambda.Invocation, target *catalog.Target) (*lambda.Outcome, error) {
	for range tries {
		outcome, worker, err := f.try(ctx, p, req, inv, target)
		if err == nil || !errors.Is(err, lambda.ErrUnknownEnvironment) {
			if err != nil && inv.Tenant != "" && lambda.CodeOf(err) == lambda.TooManyRequests {
				f.throttles.add(req.Key)
			}
			return outcome, err
		}
		req.Avoid = append(req.Avoid, worker)
	}
	return nil, throttled(p.id)
}

func (f *Frontend) try(ctx context.Context, p *poolView, req lambda.AcquireRequest, inv *lambda.Invocation, target *catalog.Target) (*lambda.Outcome, lambda.WorkerID, error) {
	reservation, err := f.acquire(ctx, p, req, target.Provisioned)
	if err != nil {
		return nil, "", &unreservedError{err}
	}
	worker, ok := f.cfg.Worker(reservation.Worker)
	if !ok { // it has been lost, and the manager has not noticed yet
		return nil, reservation.Worker, fmt.Errorf("%w: worker %s is not known here", lambda.ErrUnknownEnvironment, reservation.Worker)
	}
	if target.TokenAudience != "" {
		if err := f.addToken(ctx, target, reservation.Environment, inv); err != nil {
			return nil, reservation.Worker, err // the reservation ends by itself
		}
	}
	outcome, err := worker.Invoke(ctx, reservation, inv)
	return outcome, reservation.Worker, err
}

func keyOf(v *lambda.Version, runtime lambda.RuntimeVersionID, tenant string) lambda.EnvironmentKey {
	return lambda.EnvironmentKey{
		Account:  v.Account,
		Function: v.Function,
		Version:  v.Number,
		ConfigID: v.ConfigID,
		Runtime:  runtime,
		Tenant:   tenant,
	}
}
