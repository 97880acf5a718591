package events

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"berth/catalog"
	"berth/destinations"
	"berth/lambda"
	"berth/sleep"
	"berth/store"
)

// Invoker runs invocations to their end: the data path that synchronous calls take too.
type Invoker interface {
	Invoke(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error)
}

// Sender tells targets that are no functions, once.
type Sender interface {
	Send(ctx context.Context, t destinations.Target, m destinations.Message) error
}

// Config is what a Poller needs.
type Config struct {
	Queue   store.Queue
	Catalog *catalog.Catalog
	Invoker Invoker
	Targets Sender
	Log     *slog.Logger // nil is slog.Default
	// InFlight bounds how many events run at once in this process; 0 is DefaultInFlight.
	InFlight int
}

// Limits of a Poller.
const (
	DefaultInFlight = 1000
	idleWait        = 5 * time.Second // of a lane for its next event, before it is forgotten
	pullPause       = time.Second     // after a Pull that failed
	restWait        = 3 * time.Second // of events that came beyond what was asked for
	heartbeat       = store.PullLease / 3
	// drainLimit is how long invocations under way may go on when the process stops. Then they are broken off, and run again
	// elsewhere or later.
	drainLimit = 10 * time.Second
)

// Poller runs events.
type Poller struct {
	cfg   Config
	log   *slog.Logger
	inbox *Inbox
	slots *slots
	stats *stats

	mu      sync.Mutex
	lanes   map[store.Lane]*lane
	closed  bool
	running sync.WaitGroup // lanes and what they run

	held sync.Map // *store.Delivery → nothing: whose leases are renewed
}

// New makes a Poller. It starts nothing.
func New(cfg Config) *Poller {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = DefaultInFlight
	}
	return &Poller{cfg: cfg, log: cfg.Log, inbox: NewInbox(cfg.Queue), slots: newSlots(cfg.InFlight), stats: newStats(), lanes: map[store.Lane]*lane{}}
}

// Run runs events until ctx ends, and returns when none of its goroutines is left. What has been taken and not begun goes back
// to the queue.
func (p *Poller) Run(ctx context.Context) error {
	// Invocations outlive ctx by drainLimit.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	beats := p.goBeats(work)
	err := p.watch(ctx, work)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	timer := time.AfterFunc(drainLimit, cancel)
	defer timer.Stop()
	p.running.Wait()
	cancel()
	<-beats
	return err
}

// watch starts a lane for each function that has events.
func (p *Poller) watch(ctx, work context.Context) error {
	for {
		err := p.cfg.Queue.Watch(ctx, func(l store.Lane) { p.start(ctx, work, l) })
		if ctx.Err() != nil {
			return nil
		}
		p.log.Warn("the queue of events cannot be watched; trying again", "err", err)
		if !sleep.For(ctx, pullPause) {
			return nil
		}
	}
}

func (p *Poller) start(ctx, work context.Context, name store.Lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.lanes[name] != nil {
		return
	}
	l := &lane{p: p, name: name, window: newWindow(), log: p.log}
	p.lanes[name] = l
	p.running.Go(func() { l.run(ctx, work) })
}

// goBeats renews the leases of all that has been taken.
func (p *Poller) goBeats(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep.For(ctx, heartbeat) {
			p.held.Range(func(d, _ any) bool {
				_ = d.(*store.Delivery).Ticket.Working() // if it fails the event may run twice, as it may anyway
				return true
			})
		}
	}()
	return done
}

// lane takes one function's events, or those of some of its tenants.
type lane struct {
	p      *Poller
	name   store.Lane
	window *window
	log    *slog.Logger
	active sync.WaitGroup
}

// run takes events until there are none for a while. The poller hears of the lane again when it has some.
func (l *lane) run(ctx, work context.Context) {
	defer l.active.Wait()
	for ctx.Err() == nil {
		idle, err := l.round(ctx, work)
		if err != nil && ctx.Err() == nil {
			l.log.Warn("events cannot be taken from the queue; trying again", "lane", l.name, "err", err)
			sleep.For(ctx, pullPause)
		}
		if idle && l.forget() {
			return
		}
	}
}

// forget ends the lane, unless it still runs something: then its window is worth keeping.
func (l *lane) forget() bool {
	l.p.slots.mu.Lock()
	held := l.window.held
	l.p.slots.mu.Unlock()
	if held > 0 {
		return false
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	delete(l.p.lanes, l.name)
	return true
}

// round takes what waits now, as much as there is room for; with nothing there it waits for the next event, without a slot.
func (l *lane) round(ctx, work context.Context) (idle bool, err error) {
	n := l.p.slots.takeSome(ctx, l.window)
	got, err := l.p.cfg.Queue.Pull(ctx, l.name, max(n, 1), 0)
	if n == 0 { // ctx has ended meanwhile
		l.giveBack(got)
		return false, nil
	}
	l.p.slots.give(l.window, n-min(n, len(got)))
	for i := range got[:min(n, len(got))] {
		l.begin(work, &got[i])
	}
	l.beginRest(ctx, work, got[min(n, len(got)):])
	if err != nil || len(got) > 0 {
		return false, err
	}
	got, err = l.p.cfg.Queue.Pull(ctx, l.name, 1, idleWait)
	if len(got) == 0 {
		return err == nil, err
	}
	l.p.held.Store(&got[0], nil)
	if l.p.slots.take(ctx, l.window, 1) == 0 {
		l.p.held.Delete(&got[0])
		l.giveBack(got)
		return false, nil
	}
	l.begin(work, &got[0])
	l.beginRest(ctx, work, got[1:])
	return false, err
}

// beginRest begins what has come without a slot of its own, as slots become free. What would wait long goes back: others may have
// room for it, and what came together is forgotten together.
func (l *lane) beginRest(ctx, work context.Context, got []store.Delivery) {
	for i := range got {
		l.p.held.Store(&got[i], nil)
	}
	wait, cancel := context.WithTimeout(ctx, restWait)
	defer cancel()
	for i := range got {
		if l.p.slots.take(wait, l.window, 1) == 0 {
			for j := range got[i:] {
				l.p.held.Delete(&got[i+j])
			}
			l.giveBack(got[i:])
			return
		}
		l.begin(work, &got[i])
	}
}

// giveBack returns what will not be run here.
func (l *lane) giveBack(got []store.Delivery) {
	for _, d := range got {
		_ = d.Ticket.Later(0) // if it fails the event comes out again all the same
	}
}

// begin runs one event, in a slot that is taken already.
func (l *lane) begin(ctx context.Context, d *store.Delivery) {
	l.p.held.Store(d, nil)
	l.active.Go(func() {
		defer l.p.slots.give(l.window, 1)
		defer l.p.held.Delete(d)
		l.p.stats.begin(functionOf(l.name))
		defer l.p.stats.end(functionOf(l.name))
		l.handle(ctx, d)
	})
}

// handle finds out what there is to do with an event, and ends its delivery.
func (l *lane) handle(ctx context.Context, d *store.Delivery) {
	if d.Count > 1 {
		l.p.stats.redelivered.Add(1)
	}
	e, err := decode(d.Data)
	if err == nil && laneOf(e.function()) != functionOf(l.name) {
		err = errors.New("it is of another function")
	}
	if err != nil {
		l.log.Error("an event that cannot be read is dropped", "lane", l.name, "message", d.ID, "err", err)
		l.p.stats.drop(functionOf(l.name), dropUnreadable)
		l.end(d, d.Ticket.Done())
		return
	}
	if wait := time.Until(e.NotBefore); wait > 0 {
		l.end(d, d.Ticket.Later(wait))
		return
	}
	a := &attempt{lane: l, d: d, e: e}
	if e.Telling != nil {
		a.tell(ctx)
		return
	}
	a.run(ctx)
}

// end logs what a delivery's end has failed with: the event comes again then.
func (l *lane) end(d *store.Delivery, err error) {
	if err != nil {
		l.log.Warn("the queue was not told what became of an event: it will come again", "lane", l.name, "message", d.ID, "err", err)
	}
}
