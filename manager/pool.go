package manager

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"berth/lambda"
)

// A function may gain gainPerPeriod environments in gainPeriod (Lambda's scaling rate), over all managers together. Each
// manager gives out the share of it that its quota is of the pool's limit, so the whole is exact without a shared bucket.
const (
	gainPerPeriod = 1000
	gainPeriod    = 10 * time.Second
)

// pool is this manager's share of one pool.
type pool struct {
	id       lambda.PoolID
	admitted atomic.Int64  // reserved or running, in all environments of the pool
	warming  atomic.Int64  // being made ahead of calls
	expected atomic.Int64  // executions that predecessors still have to hand over: they count as admitted
	released atomic.Uint64 // see lambda.Load.Released
	tenure   atomic.Pointer[tenure]
	gains    sync.Map // function name → *rate.Limiter
	roster   roster   // its environments here

	mu    sync.Mutex // hand-overs of the pool; taken before set.mu
	will  will
	given []*estate
	owed  []*heritage // being asked for
	peak  peak
}

func (m *Manager) pool(id lambda.PoolID) *pool {
	if p, ok := m.pools.Load(id); ok {
		return p.(*pool)
	}
	p, _ := m.pools.LoadOrStore(id, &pool{id: id})
	return p.(*pool)
}

// admit counts one more execution unless the quota is used up.
func (p *pool) admit(quota int) bool {
	for {
		n := p.admitted.Load()
		if n >= int64(quota) {
			return false
		}
		if p.admitted.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (p *pool) release() {
	p.admitted.Add(-1)
	p.released.Add(1)
}

// load reads released before admitted: an observer who sees the same Released twice, and Throttled both times, knows that
// the quota was used up in all the time between.
func (p *pool) load(quota int) lambda.Load {
	released := p.released.Load()
	return lambda.Load{Running: int(p.admitted.Load()), Quota: quota, Released: released}
}

// mayGain takes a token from the function's bucket. It is asked on cold paths only.
func (p *pool) mayGain(function string, quota, limit int) bool {
	share := float64(gainPerPeriod) * float64(quota) / float64(max(1, limit))
	perSecond, burst := rate.Limit(share/gainPeriod.Seconds()), max(1, int(share))
	v, ok := p.gains.Load(function)
	if !ok {
		v, _ = p.gains.LoadOrStore(function, rate.NewLimiter(perSecond, burst))
	}
	bucket := v.(*rate.Limiter)
	if bucket.Burst() != burst {
		bucket.SetLimit(perSecond)
		bucket.SetBurst(burst)
	}
	return bucket.Allow()
}

// quota is what this manager may run of the pool now: its own share, and the shares of those directly before it in the
// pool's order that neither the frontend nor this manager can reach. While some of its slots are not its own yet, it is the
// others only.
func (m *Manager) quota(ctx context.Context, p *pool, t *tenure, unreachable []lambda.ManagerID) int {
	if !t.member || t.history == nil {
		return 0
	}
	limit := m.cfg.Limit(p.id)
	r := t.history.Current
	quota := r.Quota(limit, t.ordinal)
	if !t.settled.Load() {
		return min(quota, t.kept.count())
	}
	quota -= int(p.expected.Load())
	if len(unreachable) == 0 {
		return quota
	}
	order := r.Managers(p.id, r.Len(), nil)
	for i := 1; i < len(order); i++ {
		k := (t.ordinal - i + len(order)) % len(order)
		if !slices.Contains(unreachable, order[k]) || m.cfg.Reachable(ctx, order[k]) {
			break
		}
		quota += r.Quota(limit, k)
	}
	return quota
}

// peak remembers how many calls of a pool ran at once lately, as the sweep saw it.
type peak struct {
	mu sync.Mutex
	n  int
	at time.Time
}

// peakAge is how long a peak counts: frontends draw on as many managers as it took for as long (frontend.DefaultShrinkWindow).
const peakAge = 10 * time.Second

func (k *peak) saw(n int, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n >= k.n || now.Sub(k.at) > peakAge {
		k.n, k.at = n, now
	}
}

func (k *peak) recent(now time.Time) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Sub(k.at) > peakAge {
		return 0
	}
	return k.n
}
