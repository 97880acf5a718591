package manager

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"berth/lambda"
	"berth/ring"
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
	released atomic.Uint64 // see lambda.Load.Released
	place    atomic.Pointer[place]
	gains    sync.Map // function name → *rate.Limiter
}

// place remembers this manager's ordinal for as long as the ring is the same.
type place struct {
	ring    *ring.Ring
	ordinal int
	member  bool
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
// pool's order that neither the frontend nor this manager can reach.
func (m *Manager) quota(ctx context.Context, p *pool, unreachable []lambda.ManagerID) int {
	r := m.ring()
	at := p.placeOn(r, m.cfg.ID)
	if !at.member {
		return 0
	}
	limit := m.cfg.Limit(p.id)
	quota := r.Quota(limit, at.ordinal)
	if len(unreachable) == 0 {
		return quota
	}
	order := r.Managers(p.id, r.Len(), nil)
	for i := 1; i < len(order); i++ {
		k := (at.ordinal - i + len(order)) % len(order)
		if !slices.Contains(unreachable, order[k]) || m.cfg.Reachable(ctx, order[k]) {
			break
		}
		quota += r.Quota(limit, k)
	}
	return quota
}

func (p *pool) placeOn(r *ring.Ring, id lambda.ManagerID) *place {
	if at := p.place.Load(); at != nil && at.ring == r {
		return at
	}
	at := &place{ring: r}
	at.ordinal, at.member = r.Ordinal(p.id, id)
	p.place.Store(at)
	return at
}
