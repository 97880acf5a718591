package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"berth/lambda"
)

// The time limits of calls between roles: those of wire, but for invokeLimit, which there is longer than any function may
// run. A call whose request or answer is lost fails after its limit.
const (
	reuseLimit   = 500 * time.Millisecond
	acquireLimit = 10 * time.Second
	startLimit   = 2 * time.Second
	controlLimit = 2 * time.Second
	endLimit     = 15 * time.Second
	pingLimit    = 200 * time.Millisecond
	invokeLimit  = 45 * time.Second // longer than the longest start and run of an invocation here
	dialLimit    = 500 * time.Millisecond

	latest = 4 * time.Second // by how much a message may be late
)

// errUnsent marks an error of a call that never reached the other role.
var errUnsent = errors.New("the call was not sent")

// process is one life of a role: from its start to its crash.
type process struct {
	name  string
	life  int // 0 is the first
	ctx   context.Context
	crash context.CancelFunc
	died  time.Time // valid once ctx has ended
}

func (p *process) dead() bool { return p.ctx.Err() != nil }

// site is the place of a role, where one process after the other lives.
type site[R any] struct {
	name string
	mu   sync.Mutex
	now  *process
	role R
}

// current returns the living process and its role; nil while the site is down.
func (s *site[R]) current() (*process, R) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || s.now.dead() {
		var none R
		return nil, none
	}
	return s.now, s.role
}

// network carries calls between sites, and decides what becomes of each. A call's fate is a function of the seed and of who
// says what to whom for the how-manieth time, and of nothing else: not of the order in which goroutines run. All arrivals
// are at instants of their own, so one thing happens at a time, and a seed replays exactly.
type network struct {
	seed uint64
	busy sync.WaitGroup // everything that is under way

	mu      sync.Mutex
	said    map[uint64]uint64 // message → how often it was said
	taken   map[int64]bool    // instants at which something arrives
	blocked map[[2]string]bool
	slow    map[string]time.Duration // sites whose answers take this much longer
	chances chances
}

// chances are probabilities of what goes wrong with one message.
type chances struct{ loss, double, late float64 }

func newNetwork(seed uint64) *network {
	return &network{seed: seed, said: map[uint64]uint64{}, taken: map[int64]bool{}, blocked: map[[2]string]bool{}, slow: map[string]time.Duration{}}
}

// fate is what becomes of one call.
type fate struct {
	id               uint64 // of the call
	lost, answerLost bool
	there, back      time.Duration
	again            time.Duration // the request arrives once more, after so long; 0: it does not
}

func (n *network) fate(from, to, kind, key string) fate {
	h := hash(hash(hash(hash(n.seed, from), to), kind), key)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said[h]++
	rng := rand.New(rand.NewPCG(h, n.said[h]))
	f := fate{id: rng.Uint64(), there: n.delay(rng), back: n.delay(rng) + n.slow[to]}
	f.lost, f.answerLost = rng.Float64() < n.chances.loss, rng.Float64() < n.chances.loss
	if rng.Float64() < n.chances.double {
		f.again = f.there + 1 + time.Duration(rng.Int64N(int64(latest)))
	}
	return f
}

// delay is 50–550 µs, or rarely up to 4 s. The nanoseconds make instants distinct.
func (n *network) delay(rng *rand.Rand) time.Duration {
	d := 50_000 + time.Duration(rng.Int64N(500_000))
	if rng.Float64() < n.chances.late {
		d += time.Duration(rng.Int64N(int64(latest)))
	}
	return d
}

// sleep waits for d, or a few nanoseconds longer, to wake when nobody else does.
func (n *network) sleep(d time.Duration) {
	n.mu.Lock()
	now := time.Now()
	at := now.Add(d).UnixNano()
	for n.taken[at] {
		at++
	}
	n.taken[at] = true
	if len(n.taken) > 1<<14 {
		for t := range n.taken {
			if t < now.UnixNano() {
				delete(n.taken, t)
			}
		}
	}
	n.mu.Unlock()
	time.Sleep(time.Duration(at - now.UnixNano()))
}

func (n *network) cut(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.blocked[[2]string{from, to}]
}

// change alters the conditions.
func (n *network) change(edit func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	edit()
}

// message names a call for its fate.
type message struct{ kind, key string }

type result[A any] struct {
	answer A
	err    error
}

// call makes one call from a process to the role at a site. Errors: those of the role; lambda.ErrUnreachable when no answer
// came, errUnsent too if nothing was sent.
func call[R, A any](ctx context.Context, n *network, from *process, to *site[R], m message, limit time.Duration, do func(context.Context, R) (A, error)) (A, error) {
	var none A
	if from.dead() {
		return none, lambda.ErrUnreachable
	}
	f := n.fate(from.name, to.name, m.kind, m.key)
	if n.cut(from.name, to.name) {
		n.sleep(dialLimit + f.there)
		return none, fmt.Errorf("%w, %w", lambda.ErrUnreachable, errUnsent)
	}
	answered := make(chan result[A], 1)
	if !f.lost {
		n.busy.Go(func() { deliver(n, from, to, f.there, f, do, answered) })
	}
	if f.again > 0 {
		n.busy.Go(func() { deliver(n, from, to, f.again, f, do, make(chan result[A], 1)) })
	}
	timer := time.NewTimer(limit + f.there) // the odd nanoseconds
	defer timer.Stop()
	select {
	case r := <-answered:
		return r.answer, r.err
	case <-timer.C:
		return none, lambda.ErrUnreachable
	case <-ctx.Done():
		if !from.dead() { // a crash ends both contexts
			n.sleep(f.there % (10 * time.Microsecond)) // the odd nanoseconds
		}
		return none, fmt.Errorf("%w: %w", lambda.ErrUnreachable, ctx.Err())
	case <-from.ctx.Done():
		return none, lambda.ErrUnreachable
	}
}

// deliver brings one copy of a request to its site, has it answered, and brings the answer back.
func deliver[R, A any](n *network, from *process, to *site[R], after time.Duration, f fate, do func(context.Context, R) (A, error), answered chan<- result[A]) {
	n.sleep(after)
	if n.cut(from.name, to.name) {
		return
	}
	p, role := to.current()
	if p == nil {
		n.sleep(f.back)
		answered <- result[A]{err: fmt.Errorf("%w, %w", lambda.ErrUnreachable, errUnsent)}
		return
	}
	answer, err := do(context.WithValue(p.ctx, requestKey{}, fmt.Sprint(f.id, after)), role)
	n.sleep(f.back)
	switch {
	case p.dead(): // the connection broke
		answered <- result[A]{err: lambda.ErrUnreachable}
	case !f.answerLost && !n.cut(to.name, from.name):
		answered <- result[A]{answer, err}
	}
}

// tell sends a word that nobody answers.
func tell[R any](n *network, from *process, to *site[R], m message, do func(R)) {
	if from.dead() {
		return
	}
	f := n.fate(from.name, to.name, m.kind, m.key)
	arrive := func(after time.Duration) {
		n.sleep(after)
		if p, role := to.current(); p != nil && !n.cut(from.name, to.name) {
			do(role)
		}
	}
	if !f.lost {
		n.busy.Go(func() { arrive(f.there) })
	}
	if f.again > 0 {
		n.busy.Go(func() { arrive(f.again) })
	}
}

// hash mixes a text into h: FNV-1a, then SplitMix64's finaliser.
func hash(h uint64, s string) uint64 {
	h ^= 14695981039346656037
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
