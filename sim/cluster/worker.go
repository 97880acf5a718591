package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/lambda"
)

// state is an environment's, as in package worker.
type state uint8

const (
	starting state = iota
	reserved
	idle
	running
	ending
)

// worker is a model of worker.Worker: the same states, reservations' numbers and leases, without sandboxes (whose pipes have
// no place in virtual time). It tells the history what it does.
type worker struct {
	c        *Cluster
	process  *process
	id       lambda.WorkerID
	capacity int64

	mu           sync.Mutex
	used         int64
	environments map[lambda.EnvironmentID]*environment
	ended        map[lambda.EnvironmentID]bool
	failed       map[lambda.EnvironmentID]bool // of these, those that could not be started
}

type environment struct {
	id       lambda.EnvironmentID
	key      lambda.EnvironmentKey
	pool     lambda.PoolID
	owner    lambda.ManagerID
	epoch    uint64
	maker    *process // the owner's life that asked for it, adopted it, or renewed it last
	bytes    int64
	started  chan struct{}
	startErr error

	state       state
	claimed     bool
	released    bool
	ahead       bool
	mustEnd     bool
	reservation uint64 // last used or given back
	leaseEnd    time.Time
}

var errStart = lambda.Errorf(lambda.ServiceFailure, "the function's environment could not be started")

func newWorker(c *Cluster, p *process, capacity int64) *worker {
	return &worker{
		c: c, process: p, id: lambda.WorkerID(p.name), capacity: capacity, environments: map[lambda.EnvironmentID]*environment{},
		ended: map[lambda.EnvironmentID]bool{}, failed: map[lambda.EnvironmentID]bool{},
	}
}

// start is worker.Start.
func (w *worker) start(req lambda.StartRequest, maker *process) error {
	bytes := int64(req.Version.MemoryMB) << 20
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used+bytes > w.capacity {
		return lambda.ErrNoCapacity
	}
	if w.environments[req.Environment] != nil || w.ended[req.Environment] {
		return fmt.Errorf("environment %s is there already", req.Environment)
	}
	w.used += bytes
	e := &environment{
		id: req.Environment, key: req.Key, pool: req.Pool, owner: req.Owner, epoch: req.Epoch, maker: maker, bytes: bytes,
		started: make(chan struct{}), leaseEnd: time.Now().Add(lambda.OwnerLease),
		ahead: req.Ahead, released: req.Ahead,
	}
	w.environments[e.id] = e
	w.note("start", string(e.id), 0)
	w.c.net.busy.Go(func() { w.run(e) })
	return nil
}

// run is the start phase.
func (w *worker) run(e *environment) {
	rng := rand.New(rand.NewPCG(w.c.o.Seed, hash(0, string(e.id))))
	w.c.net.sleep(w.c.startTime(rng) + w.c.slowness(w.process.name))
	failed := rng.Float64() < w.c.startFailure()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.process.dead():
		e.startErr = lambda.ErrUnreachable
		close(e.started)
		return
	case e.state == ending: // it was ended meanwhile
		return
	}
	switch {
	case failed:
		e.startErr = errStart
		w.failed[e.id] = true
		w.gone(e)
	case e.claimed:
		e.state = running
	case e.released:
		w.idle(e)
	default:
		e.state = reserved
	}
	close(e.started)
}

// idle makes e idle and tells its owner. w.mu is held here and below.
func (w *worker) idle(e *environment) {
	e.state = idle
	number := e.reservation
	w.note("idle", string(e.id), number)
	if to := w.c.managers[e.owner]; to != nil {
		tell(w.c.net, w.process, to, message{"idle", fmt.Sprint(e.id, number)}, func(m Manager) { m.EnvironmentIdle(e.id, number) })
	}
}

func (w *worker) gone(e *environment) {
	e.state = ending
	delete(w.environments, e.id)
	w.ended[e.id] = true
	w.used -= e.bytes
	w.note("gone", string(e.id), 0)
	if to := w.c.managers[e.owner]; to != nil {
		tell(w.c.net, w.process, to, message{"gone", string(e.id)}, func(m Manager) { m.EnvironmentGone(e.id) })
	}
}

func (w *worker) release(e *environment, number uint64) {
	if e.mustEnd || e.state == running || e.claimed && e.state == starting || number != 0 && number <= e.reservation {
		return
	}
	e.reservation = max(e.reservation, number)
	if e.state == starting {
		e.released = true
		return
	}
	w.idle(e)
}

// End is worker.End.
func (w *worker) End(_ context.Context, id lambda.EnvironmentID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.environments[id]
	if e == nil {
		return lambda.ErrUnknownEnvironment
	}
	w.c.check.endAsked(e)
	w.end(e)
	return nil
}

func (w *worker) end(e *environment) {
	e.mustEnd = true
	if e.state == idle || e.state == reserved || e.state == starting && !e.claimed {
		w.gone(e)
	}
}

// Invoke is worker.Invoke.
func (w *worker) Invoke(_ context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	e, err := w.claim(r, inv)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.started:
	case <-w.process.ctx.Done():
		w.c.check.ended(e, inv, false)
		return nil, lambda.ErrUnreachable
	}
	if e.startErr != nil {
		w.c.check.ended(e, inv, false)
		return nil, e.startErr
	}
	w.note("run", inv.RequestID+" in "+string(e.id), r.Number)
	if !w.sleep(w.c.durationOf(inv) + w.c.slowness(w.process.name)) {
		w.c.check.ended(e, inv, true)
		return nil, lambda.ErrUnreachable // the worker crashed
	}
	w.c.check.ended(e, inv, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.mustEnd {
		w.gone(e)
	} else {
		w.idle(e)
	}
	return &lambda.Outcome{Payload: []byte(e.id), Class: lambda.OK, Cold: r.Cold}, nil
}

func (w *worker) claim(r lambda.Reservation, inv *lambda.Invocation) (*environment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.environments[r.Environment]
	now := time.Now()
	switch {
	case e == nil && w.failed[r.Environment]:
		return nil, errStart
	case e == nil || e.mustEnd || w.process.dead():
		return nil, lambda.ErrUnknownEnvironment
	case now.After(r.Expires), r.Number != 0 && r.Number != e.reservation+1, now.After(e.leaseEnd):
		return nil, lambda.ErrUnknownEnvironment
	case e.state == running || e.state == starting && (e.claimed || e.released):
		w.c.check.double(e, r, inv)
		return nil, lambda.ErrUnknownEnvironment
	}
	bound, its := lambda.Bind(e.key.Tenant, inv.Tenant)
	if !its {
		w.c.check.mixed(e, inv)
		return nil, lambda.ErrUnknownEnvironment
	}
	if e.key.Tenant != bound {
		w.note("bind", string(e.id)+" to "+bound, r.Number)
	}
	e.key.Tenant = bound
	e.reservation = max(e.reservation, r.Number)
	w.c.check.began(e, r, inv)
	if e.state == starting {
		e.claimed = true
	} else {
		e.state = running
	}
	return e, nil
}

// sleep reports false when the worker crashed meanwhile.
func (w *worker) sleep(d time.Duration) bool {
	done := make(chan struct{})
	w.c.net.busy.Go(func() { w.c.net.sleep(d); close(done) })
	select {
	case <-done:
		return !w.process.dead()
	case <-w.process.ctx.Done():
		return false
	}
}

// tend ends environments whose owner is silent.
func (w *worker) tend(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			w.mu.Lock()
			for _, e := range w.sorted() {
				if !e.mustEnd && now.After(e.leaseEnd) {
					w.end(e)
				}
			}
			w.mu.Unlock()
		}
	}
}

func (w *worker) sorted() []*environment {
	list := make([]*environment, 0, len(w.environments))
	for _, e := range w.environments {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *environment) int { return strings.Compare(string(a.id), string(b.id)) })
	return list
}

func (w *worker) note(kind, what string, n uint64) { w.c.history.note(kind, w.process.name, what, n) }

// asWorker is a worker's error as a frontend sees it over the wire.
func asWorker(err error) error {
	switch {
	case errors.Is(err, errUnsent):
		return lambda.ErrUnknownEnvironment
	case errors.Is(err, lambda.ErrUnreachable):
		return lambda.Errorf(lambda.ServiceFailure, "the worker that ran the call was lost")
	}
	return err
}
