package frontend

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"berth/lambda"
)

const (
	// shortCall is how long a call of a version may take for its calls to wait for one another.
	shortCall = time.Millisecond
	// gateFloor is how many short calls of a version run at a time at least, for each processor.
	gateFloor = 4
	// stall is in which time one of the running calls must end, or the limit doubles.
	stall = 4 * time.Millisecond
	// gateSample is how often a gate's limit follows the processors.
	gateSample = 50 * time.Millisecond
	// A gate's limit doubles while the processors are idle for more than muchIdle of their time, and falls while they are for less than
	// littleIdle.
	muchIdle, littleIdle = 0.25, 0.15
	// gateWindow is how many calls are looked at together for their shortest.
	gateWindow = 256
	never      = time.Hour // longer than any call
	// gateKept is for how many ticks of Run a gate without calls is kept.
	gateKept = 60
)

// gate lets only some of a version's short calls run at a time, and the others wait their turn, first come, first served. Calls that
// take less than a millisecond of a busy processor are not answered sooner by running all at once: their processes push one
// another out of the caches and take turns at the scheduler's whim. So no call waits that would not wait for a processor:
//
//   - calls of a version wait only if the shortest of its last ones took less than shortCall,
//   - and the limit doubles when none of the running ones ends within stall: they are not short now,
//   - and while processors are idle.
type gate struct {
	floor int            // the limit's least
	idle  func() float64 // share of the processors' time

	mu       sync.Mutex
	limit    int // at most so many run while others wait
	running  int
	waiting  []chan struct{} // told when they may run; oldest first
	shortest time.Duration   // of the last one to two windows of calls
	earlier  time.Duration   // the shortest of the window before
	within   time.Duration   // the shortest of the window under way
	left     int             // calls until the next window
	ended    uint64          // calls that have ended
	seen     uint64          // ended, when the watch looked last
	sampled  time.Time       // when the limit last followed the processors
	watch    *time.Timer     // goes off while calls wait, or more run than floor
	watching bool
	counted  uint64 // ended, at the last tick
	unused   int    // ticks without a call
}

func newGate(floor int, idle func() float64) *gate {
	g := &gate{floor: floor, idle: idle, limit: floor, shortest: never, earlier: never, within: never, left: gateWindow}
	g.watch = time.AfterFunc(time.Hour, g.look)
	g.watch.Stop()
	return g
}

// enter waits until one more call may run, or ctx ends. After nil, leave must follow. A nil gate is always open.
func (g *gate) enter(ctx context.Context) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	if g.open() {
		g.running++
		g.keepWatch()
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{}, 1)
	g.waiting = append(g.waiting, turn)
	g.keepWatch()
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.giveUp(turn)
		return ctx.Err()
	}
}

// open reports whether a call that comes now runs at once. The caller holds mu.
func (g *gate) open() bool {
	return g.shortest >= shortCall || g.running < g.limit && len(g.waiting) == 0
}

// giveUp takes a caller out of the queue. If its turn has come meanwhile, the next one gets it.
func (g *gate) giveUp(turn chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, turn); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		return
	}
	g.running--
	g.admit()
}

// leave ends a call; outcome is nil if it had none.
func (g *gate) leave(outcome *lambda.Outcome) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	g.ended++
	if outcome != nil {
		g.measure(outcome.Duration)
	}
	g.admit()
}

// measure keeps how long a call took. It is the shortest that tells what calls take by themselves: when many run at once the others wait
// for processors, too. The caller holds mu.
func (g *gate) measure(took time.Duration) {
	g.within = min(g.within, took)
	g.shortest = min(g.earlier, g.within)
	if g.left--; g.left == 0 {
		g.earlier, g.within, g.left = g.within, never, gateWindow
	}
}

// admit lets those run for whom there is room. The caller holds mu.
func (g *gate) admit() {
	n := 0
	for n < len(g.waiting) && (g.running < g.limit || g.shortest >= shortCall) {
		g.waiting[n] <- struct{}{} // has room for it
		g.running++
		n++
	}
	g.waiting = slices.Delete(g.waiting, 0, n)
}

// keepWatch sets the watch, if there is something to watch. The caller holds mu.
func (g *gate) keepWatch() {
	if g.watching || g.shortest >= shortCall || len(g.waiting) == 0 && g.running <= g.floor {
		return
	}
	g.watching = true
	g.watch.Reset(stall)
}

// look is what the watch does.
func (g *gate) look() {
	idle := g.idle() // may read a file
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.sampled) >= gateSample {
		g.sampled = now
		g.follow(idle)
	}
	if g.ended == g.seen && len(g.waiting) > 0 {
		g.widen()
	}
	g.seen = g.ended
	g.admit()
	g.watching = false
	g.keepWatch()
}

// follow sets the limit by the processors. The caller holds mu.
func (g *gate) follow(idle float64) {
	switch {
	case idle > muchIdle && len(g.waiting) > 0:
		g.widen()
	case idle < littleIdle:
		g.limit = max(g.floor, g.limit-max(1, g.limit/4))
	}
}

// widen doubles the limit, as far as there are calls for it. The caller holds mu.
func (g *gate) widen() { g.limit = max(g.limit, min(2*g.limit, g.running+len(g.waiting))) }

// tick is called once in a while, and reports whether the gate has been without calls for so long that it can be forgotten.
func (g *gate) tick() (unused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running > 0 || g.ended != g.counted {
		g.unused, g.counted = 0, g.ended
	}
	g.unused++
	return g.unused > gateKept
}

// gateOf finds the gate of a version's calls; nil if they have none. Tenants have none in common, so that none waits for another.
func (f *Frontend) gateOf(v *lambda.Version, inv *lambda.Invocation) *gate {
	if f.cfg.Idle == nil || inv.Tenant != "" {
		return nil
	}
	if g, ok := f.gates.Load(v); ok {
		return g.(*gate)
	}
	g, _ := f.gates.LoadOrStore(v, newGate(gateFloor*runtime.GOMAXPROCS(0), f.cfg.Idle))
	return g.(*gate)
}
