package manager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/lambda"
)

// Bounds of what is made ahead of calls, and of what is remembered.
const (
	// maxWarming is how many environments of one manager are being made ahead of calls at the same time: calls, and what
	// is provisioned, need the processors too.
	maxWarming = 50
	// warmPause is for how long none is made ahead of a function's calls after one that could not be made.
	warmPause = 10 * time.Second
	// maxRecords bounds the functions that a manager remembers; beyond it those go that were not called for longest.
	maxRecords = 20_000
	// recordAge is how long a function is remembered that is not called: longer than any gap that policies tell apart.
	recordAge = 24 * time.Hour
	// tenantAge is that for one tenant of a function: callers can name as many as they like.
	tenantAge = time.Hour
)

// record is what a manager remembers of one function version and tenant, over changes of its configuration.
type record struct {
	habit   Habit
	warming *atomic.Int64 // Manager.warming
	known   atomic.Bool   // last is set: what was handed over comes without
	calls   atomic.Uint64 // since the record began

	counted uint64    // calls, at the sweep that saw them change last; the sweep's own, as is active
	active  time.Time // when that was

	mu     sync.Mutex
	last   lambda.AcquireRequest // for a new environment; its key is the current one
	called time.Time
	paused time.Time // none is made ahead until then
}

// record finds what is remembered of the function of a request, which wants a new environment.
func (m *Manager) record(req lambda.AcquireRequest, now time.Time) *record {
	r := m.recordOf(req.Key, req.Version.MemoryMB, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.called = req, now
	r.last.Unreachable, r.last.Predecessors, r.last.Avoid = nil, nil, nil
	r.known.Store(true)
	return r
}

// recordOf finds what is remembered of a key's function; a new record is of a function called now.
func (m *Manager) recordOf(key lambda.EnvironmentKey, memoryMB int, now time.Time) *record {
	key.ConfigID, key.Runtime = "", ""
	v, ok := m.records.Load(key)
	if !ok {
		v, _ = m.records.LoadOrStore(key, &record{habit: m.cfg.KeepAlive.Function(memoryMB), warming: &m.warming, called: now})
	}
	return v.(*record)
}

// began notes a call.
func (r *record) began(now time.Time) {
	r.calls.Add(1)
	r.habit.Began(now)
}

// silent reports whether the record's function had no call for so long. Only the sweep asks.
func (r *record) silent(now time.Time, called time.Time, age time.Duration) bool {
	if calls := r.calls.Load(); calls != r.counted || r.active.IsZero() {
		r.counted, r.active = calls, now
	}
	return now.Sub(called) > age && now.Sub(r.active) > age
}

func (r *record) look() (lambda.AcquireRequest, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.called
}

// pause makes none ahead for a while.
func (r *record) pause(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = now.Add(warmPause)
}

func (r *record) isPaused(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.paused)
}

// adjust brings each function's idle environments to the number that is wanted.
func (m *Manager) adjust(ctx context.Context, now time.Time, idle map[*record][]*environment) {
	var off []imbalance
	var spare []spareRecord
	known, crowded := 0, m.crowded
	m.records.Range(func(key, v any) bool {
		r := v.(*record)
		known++
		keep, ahead := r.habit.Wanted(now)
		list := idle[r]
		delete(idle, r)
		req, called := r.look()
		if len(list) > keep || ahead > len(list) && !r.isPaused(now) {
			off = append(off, imbalance{r, req, list, keep, ahead})
		}
		age := recordAge
		if tenant := key.(lambda.EnvironmentKey).Tenant; tenant != "" && tenant != lambda.Unbound {
			age = tenantAge
		}
		switch {
		case len(list) > 0:
		case r.silent(now, called, age):
			m.records.Delete(key)
		case crowded:
			spare = append(spare, spareRecord{key, called})
		}
		return ctx.Err() == nil
	})
	m.crowded = known > maxRecords
	m.forgetRecords(spare, known-maxRecords)
	for _, list := range idle { // their function's record was dropped while they ran
		m.endLongest(ctx, list, len(list))
	}
	m.balance(ctx, off)
}

// spareRecord is a record without idle environments.
type spareRecord struct {
	key    any
	called time.Time
}

// forgetRecords drops so many of those that were not called for longest.
func (m *Manager) forgetRecords(list []spareRecord, over int) {
	if over <= 0 {
		return
	}
	slices.SortFunc(list, func(a, b spareRecord) int { return a.called.Compare(b.called) })
	for _, r := range list[:min(over, len(list))] {
		m.records.Delete(r.key)
	}
}

// imbalance is a function that has more or fewer environments waiting than are wanted.
type imbalance struct {
	record      *record
	req         lambda.AcquireRequest
	list        []*environment
	keep, ahead int
}

// balance ends what is too many and makes what is missing. Calls began and ended between the count and the question how many are
// wanted: so it is counted again, and what only one of the counts says is left for the next time.
func (m *Manager) balance(ctx context.Context, off []imbalance) {
	if len(off) == 0 {
		return
	}
	again := map[*record]int{}
	m.environments.Range(func(_, v any) bool {
		e := v.(*environment)
		if _, counts := e.set.waits(e); counts {
			again[e.record]++
		}
		return true
	})
	// In a fixed order, for the random draws.
	slices.SortFunc(off, func(a, b imbalance) int {
		return cmp.Or(cmp.Compare(a.req.Key.Function, b.req.Key.Function), strings.Compare(fmt.Sprint(a.req.Key), fmt.Sprint(b.req.Key)))
	})
	for _, o := range off {
		n, second := len(o.list), again[o.record]
		if surplus := min(n, second) - o.keep; surplus > 0 {
			m.endLongest(ctx, o.list, surplus)
		}
	}
	var made []aheadStart
	for _, o := range off {
		if lack := min(o.ahead-max(len(o.list), again[o.record]), maxWarming); lack > 0 {
			made = append(made, m.makeAhead(ctx, o.record, o.req, lack)...)
		}
	}
	// Only now, that a start which fails at once makes no room for the next one's draw: that would depend on who is quicker.
	for _, a := range made {
		m.spawn(func(ctx context.Context) { m.warm(ctx, a.environment, a.req, a.worker) })
	}
}

// aheadStart is an environment that is registered, and that its worker is to be told of.
type aheadStart struct {
	environment *environment
	req         lambda.AcquireRequest
	worker      Worker
}

// endLongest ends the longest idle ones.
func (m *Manager) endLongest(ctx context.Context, list []*environment, n int) {
	slices.SortFunc(list, func(a, b *environment) int {
		return cmp.Or(a.seen.Compare(b.seen), cmp.Compare(a.id, b.id))
	})
	for _, e := range list[:n] {
		m.endIdle(ctx, e)
	}
}

// makeAhead registers environments that are made before they are asked for. They take no room from anybody: where memory is short none is
// made, nor while what is provisioned is being made or lacks room, and calls of the pool that already fill its quota could
// not use one.
func (m *Manager) makeAhead(ctx context.Context, r *record, req lambda.AcquireRequest, lack int) (made []aheadStart) {
	if req.Version == nil || !m.cfg.Current(req.Key) || m.provisions.busy() { // nil: it was handed over, and not called since
		return nil
	}
	p := m.pool(req.Pool)
	t := p.tenure.Load()
	if t == nil || !t.settled.Load() {
		return nil
	}
	quota := m.quota(ctx, p, t, nil)
	n := min(lack, quota-int(p.admitted.Load())-int(p.warming.Load()), maxWarming-int(m.warming.Load()))
	for range n {
		if !p.mayGain(req.Key.Function, quota, m.cfg.Limit(p.id)) {
			return made
		}
		id, w, ok := m.drawWorker(req.Version, nil)
		if !ok {
			return made
		}
		e := m.addWarming(p, t, req, id, r)
		if e.set.isolated.fullFor(0, quota) {
			m.drop(e)
			return made
		}
		made = append(made, aheadStart{e, req, w})
	}
	return made
}

// addWarming registers an environment that is to be made ahead of calls.
func (m *Manager) addWarming(p *pool, t *tenure, req lambda.AcquireRequest, id lambda.WorkerID, r *record) *environment {
	e := m.newEnvironment(p, t.version, req, id, r)
	e.state = warming
	p.warming.Add(1)
	m.warming.Add(1)
	m.register(req.Key, e)
	return e
}

// warm has a worker make e and give its reservation back at once, so that e is idle when it is ready. A word that is lost
// is said again with the next renewal.
func (m *Manager) warm(ctx context.Context, e *environment, req lambda.AcquireRequest, w Worker) {
	now := time.Now()
	if err := w.Start(ctx, lambda.StartRequest{Environment: e.id, Owner: m.cfg.ID, Epoch: e.epoch, Pool: req.Pool, Key: req.Key, Version: req.Version}); err != nil {
		m.drop(e)
		return
	}
	e.set.confirm(e, now)
	list := &holdings{environments: []*environment{e}, request: lambda.RenewRequest{Owner: m.cfg.ID, Holdings: []lambda.Holding{
		{Environment: e.id, Reservation: firstReservation, GiveBack: true, Epoch: e.epoch},
	}}}
	m.renewOn(ctx, now, e.worker, list)
}
