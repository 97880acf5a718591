package frontend

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"berth/lambda"
	"berth/ring"
)

// poolView is what one frontend believes of one pool. It is a hint for choosing managers; no limit depends on it.
type poolView struct {
	id       lambda.PoolID
	inFlight atomic.Int64 // of this frontend: acquiring or running
	place    atomic.Pointer[place]

	mu       sync.Mutex
	size     int       // |S|: the first size managers of the pool's order
	changed  time.Time // when size last changed; zero for never
	shrunk   bool      // the last change made it smaller
	reports  map[lambda.ManagerID]report
	question *question // the load query under way
}

// report is the last load that a manager told with an answer.
type report struct {
	load lambda.Load
	at   time.Time
}

// question is one load query to the other frontends, shared by all calls that were throttled meanwhile.
type question struct {
	done  chan struct{}
	reply PeerLoad
}

func (f *Frontend) poolOf(id lambda.PoolID) *poolView {
	if v, ok := f.pools.Load(id); ok {
		return v.(*poolView)
	}
	v, _ := f.pools.LoadOrStore(id, &poolView{id: id, size: 1, reports: map[lambda.ManagerID]report{}})
	return v.(*poolView)
}

// Load answers another frontend's query (design B): this frontend's in-flight calls of the pool, and its |S|.
func (f *Frontend) Load(id lambda.PoolID) (inFlight, size int) {
	v, ok := f.pools.Load(id)
	if !ok {
		return 0, 1
	}
	p := v.(*poolView)
	return int(p.inFlight.Load()), p.currentSize()
}

func (p *poolView) currentSize() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size
}

// report keeps what a manager told. The call it was told to is left out: one call after the other is a load of none, on
// however many managers they were drawn.
func (p *poolView) report(id lambda.ManagerID, answer lambda.Answer, now time.Time) {
	load := answer.Load
	if answer.Verdict == lambda.Granted {
		load.Running--
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reports[id] = report{load, now}
}

// grow asks the other frontends and raises |S| to what the sum needs (designs A and B), within useful. Without a complete reply it adds one manager, as a frontend on its own does. dead is how many of S are
// unreachable: they serve nobody. It returns the size now.
func (f *Frontend) grow(ctx context.Context, p *poolView, r *ring.Ring, limit, dead int) int {
	reply := f.ask(ctx, p)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now() // not before: the cool-down counts from when S changes
	want := r.Needed(int(p.inFlight.Load())+reply.InFlight, limit) + dead
	want = max(want, reply.MaxSize)
	if !reply.Complete {
		want = max(want, p.size+1)
	}
	want = min(want, r.Useful(limit))
	// Rising load may raise S as fast as it comes; a change of direction waits for the cool-down (A9). Calls that S does not
	// serve go beyond it meanwhile.
	if want > p.size && (!p.shrunk || p.cooled(now, f.cfg.CoolDown)) {
		p.size, p.changed, p.shrunk = want, now, false
	}
	return p.size
}

func (p *poolView) cooled(now time.Time, coolDown time.Duration) bool {
	return p.changed.IsZero() || now.Sub(p.changed) >= coolDown
}

// ask queries the other frontends, with one query per pool under way at a time.
func (f *Frontend) ask(ctx context.Context, p *poolView) PeerLoad {
	p.mu.Lock()
	q := p.question
	if q == nil {
		q = &question{done: make(chan struct{})}
		p.question = q
		p.mu.Unlock()
		q.reply = f.query(ctx, p.id)
		p.mu.Lock()
		p.question = nil
		p.mu.Unlock()
		close(q.done)
		return q.reply
	}
	p.mu.Unlock()
	select {
	case <-q.done:
		return q.reply
	case <-ctx.Done():
		return PeerLoad{}
	}
}

// query is bounded by the poll limit and not by one caller's context: others may wait for the same reply.
func (f *Frontend) query(ctx context.Context, id lambda.PoolID) PeerLoad {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.cfg.PollLimit)
	defer cancel()
	return f.cfg.Peers.PoolLoad(ctx, id)
}

// shrink lowers |S| to what the managers report (A6, A7). Reports older than the window count as idle: no call of this
// frontend went there since.
func (f *Frontend) shrink(p *poolView) {
	h, _ := f.cfg.Rings()
	at := f.placeOf(p, h)
	r, limit := h.Current, at.limit
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	running := 0
	for id, rep := range p.reports {
		if now.Sub(rep.at) > f.cfg.ShrinkWindow {
			delete(p.reports, id)
			continue
		}
		running += rep.load.Running
	}
	// The margin keeps S from swinging around a threshold: it shrinks when the smaller S would be at most ¾ full.
	need := r.Needed(running+running/3, limit)
	if need < p.size && p.cooled(now, f.cfg.CoolDown) {
		p.size, p.changed, p.shrunk = need, now, true
	}
}
