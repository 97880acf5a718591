// Package parked keeps things that take long to make, made ahead of need: a few of each kind, by how often that kind was
// taken lately, within a bound of memory. Making and discarding happen in the background; Take never waits.
package parked

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Item is one thing that waits.
type Item interface {
	// Done is closed when the thing has ended by itself: it is discarded then, not taken. nil: that cannot be seen.
	Done() <-chan struct{}
	// Bytes is the memory that it holds; it does not change.
	Bytes() int64
	// Discard frees one that was not taken. It is called once, and may take its time.
	Discard()
}

// Config says what a Pool makes. Make and MaxBytes must be given.
type Config[K comparable, I Item] struct {
	Make     func(ctx context.Context, kind K) (I, error)
	MaxBytes int64 // of all that wait; what is being made counts as its kind's last one did
	MaxEach  int   // of one kind; 0 is DefaultMaxEach
	Makers   int   // made at the same time; 0 is 1
	Log      *slog.Logger
}

const (
	// DefaultMaxEach bounds what a burst of one kind leads to.
	DefaultMaxEach = 32

	least       = 2                      // of each kind that is in use: one for a call, and one while the next is made
	slot        = 100 * time.Millisecond // about how long some things take to make
	slots       = 100                    // so many are looked back at: ten seconds
	unusedLimit = 10 * time.Minute       // a kind that is not always wanted and was not used for so long is given up
	pause       = 5 * time.Millisecond   // after the last Hold: its caller has answered then
	lookEvery   = time.Second            // for what became too many
	firstGuess  = 4 << 20                // bytes of a kind of which none was made yet
	firstPause  = time.Second            // after a failure to make one; doubled each time
	lastPause   = time.Minute
)

// Pool holds what waits. Methods may be called from many goroutines.
type Pool[K comparable, I Item] struct {
	cfg  Config[K, I]
	wake chan struct{} // capacity 1: something is to be done

	mu     sync.Mutex
	kinds  map[K]*kind[I]
	bytes  int64 // waiting and being made
	making int
	held   int // while somebody holds, and until calm, nothing is made of what has some left
	calm   time.Time
	closed bool
	timer  *time.Timer    // stirs when it is calm
	work   sync.WaitGroup // makers, watchers and discards
}

// kind is all of one kind.
type kind[I Item] struct {
	waiting  []*entry[I] // the oldest first
	making   int
	guess    int64 // bytes of the next one
	always   bool
	refused  bool      // for good
	used     time.Time // taken or wanted last
	taken    [slots]int
	at       int64 // the slot of now in taken
	pause    time.Duration
	notUntil time.Time // after a failure
}

type entry[I Item] struct {
	item I
	left chan struct{} // closed when it waits no more
}

// New makes an empty pool. It starts nothing.
func New[K comparable, I Item](cfg Config[K, I]) *Pool[K, I] {
	if cfg.MaxEach == 0 {
		cfg.MaxEach = DefaultMaxEach
	}
	if cfg.Makers == 0 {
		cfg.Makers = 1
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Pool[K, I]{cfg: cfg, wake: make(chan struct{}, 1), kinds: map[K]*kind[I]{}}
}

// Keep makes the pool always have some of a kind ready, memory allowing.
func (p *Pool[K, I]) Keep(k K) { p.want(k, true) }

// Expect makes the pool have some of a kind ready for some minutes: one will probably be needed.
func (p *Pool[K, I]) Expect(k K) { p.want(k, false) }

func (p *Pool[K, I]) want(k K, always bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	of := p.of(k)
	of.used = time.Now()
	of.always = of.always || always
	p.stir()
}

// of finds a kind, or begins it; p.mu is held.
func (p *Pool[K, I]) of(k K) *kind[I] {
	of := p.kinds[k]
	if of == nil {
		of = &kind[I]{guess: firstGuess}
		p.kinds[k] = of
	}
	return of
}

func (p *Pool[K, I]) stir() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Take hands one out, or reports false at once when there is none; either way the kind is known to be needed. The item is the
// caller's alone, and nobody has had it before.
func (p *Pool[K, I]) Take(k K) (item I, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return item, false
	}
	of := p.of(k)
	of.count(time.Now())
	p.stir()
	for len(of.waiting) > 0 {
		e := of.waiting[0]
		if p.remove(of, e); !ended(e.item.Done()) {
			return e.item, true
		}
		p.work.Go(e.item.Discard)
	}
	return item, false
}

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// Hold makes the pool wait with making more of what has one left, until some milliseconds after the function that it returns
// was called: somebody uses the processor for what cannot wait.
func (p *Pool[K, I]) Hold() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.held--; p.held > 0 || p.closed {
			return
		}
		p.calm = time.Now().Add(pause)
		if p.timer == nil {
			p.timer = time.AfterFunc(pause, p.stir)
		} else {
			p.timer.Reset(pause)
		}
	}
}

// Busy reports whether somebody holds, or did a moment ago.
func (p *Pool[K, I]) Busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy(time.Now())
}

func (p *Pool[K, I]) busy(now time.Time) bool { return p.held > 0 || now.Before(p.calm) }

// Refuse gives a kind up for good: it turned out to be of no use here.
func (p *Pool[K, I]) Refuse(k K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	of := p.of(k)
	of.refused, of.always = true, true
	p.shrink(of, 0)
}

// Waiting says how many of a kind wait.
func (p *Pool[K, I]) Waiting(k K) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if of := p.kinds[k]; of != nil {
		return len(of.waiting)
	}
	return 0
}

// Total says how many of all kinds wait.
func (p *Pool[K, I]) Total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, of := range p.kinds {
		n += len(of.waiting)
	}
	return n
}

// Run makes and discards until ctx ends. Then it discards all that waits, and returns when nothing is left.
func (p *Pool[K, I]) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		p.look(ctx, time.Now())
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-ticker.C:
		}
	}
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for _, of := range p.kinds {
		p.shrink(of, 0)
	}
	p.mu.Unlock()
	p.work.Wait()
}

// remove takes an entry out of what waits; p.mu is held. It reports false if it was out already.
func (p *Pool[K, I]) remove(of *kind[I], e *entry[I]) bool {
	for i := range of.waiting {
		if of.waiting[i] == e {
			of.waiting = append(of.waiting[:i], of.waiting[i+1:]...)
			p.bytes -= e.item.Bytes()
			close(e.left)
			return true
		}
	}
	return false
}

// shrink discards the oldest of a kind down to n; p.mu is held.
func (p *Pool[K, I]) shrink(of *kind[I], n int) {
	for len(of.waiting) > n {
		e := of.waiting[0]
		p.remove(of, e)
		p.work.Go(e.item.Discard)
	}
}
