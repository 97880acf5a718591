package parked

import (
	"context"
	"time"
)

// count notes that one was taken.
func (of *kind[I]) count(now time.Time) {
	of.turn(now)
	of.taken[of.at%slots]++
	of.used = now
}

// turn forgets what was taken longer ago than all slots.
func (of *kind[I]) turn(now time.Time) {
	at := now.UnixNano() / int64(slot)
	for i := max(of.at+1, at-slots+1); i <= at; i++ {
		of.taken[i%slots] = 0
	}
	of.at = max(of.at, at)
}

// wanted is how many shall wait: enough for the busiest tenth of a second of the last ten seconds, and some more.
func (of *kind[I]) wanted(now time.Time, most int) int {
	if of.refused || !of.always && now.Sub(of.used) > unusedLimit {
		return 0
	}
	of.turn(now)
	busiest := 0
	for _, n := range of.taken {
		busiest = max(busiest, n)
	}
	return min(least+busiest, most)
}

// look starts what shall be made and discards what is too much.
func (p *Pool[K, I]) look(ctx context.Context, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, of := range p.kinds {
		want := of.wanted(now, p.cfg.MaxEach)
		p.shrink(of, want)
		if want == 0 && of.making == 0 && !of.refused {
			delete(p.kinds, k)
		}
	}
	full := map[*kind[I]]bool{} // no memory for one more of it
	for p.making < p.cfg.Makers {
		k, of := p.neediest(now, full)
		if of == nil {
			return
		}
		if !p.makeRoom(of) {
			full[of] = true
			continue
		}
		of.making++
		p.making++
		guess := of.guess
		p.bytes += guess
		p.work.Go(func() { p.makeOne(ctx, k, of, guess) })
	}
}

// neediest is the kind of which the smallest part of what is wanted is there, nil if none but those lacks any; of equal ones
// that which was used last. p.mu is held.
func (p *Pool[K, I]) neediest(now time.Time, but map[*kind[I]]bool) (k K, most *kind[I]) {
	part := 1.0
	busy := p.busy(now)
	for key, of := range p.kinds {
		have, want := len(of.waiting)+of.making, of.wanted(now, p.cfg.MaxEach)
		if have >= want || but[of] || now.Before(of.notUntil) || busy && len(of.waiting) > 0 {
			continue
		}
		if has := float64(have) / float64(want); has < part || has == part && of.used.After(most.used) {
			k, most, part = key, of, has
		}
	}
	return k, most
}

// makeRoom reports whether there is memory for one more of a kind, discarding what was used longer ago if need be: all of
// it for a kind of which there is none, all but one otherwise. p.mu is held.
func (p *Pool[K, I]) makeRoom(of *kind[I]) bool {
	for p.bytes+of.guess > p.cfg.MaxBytes {
		spare := 1
		if len(of.waiting)+of.making == 0 {
			spare = 0
		}
		var victim *kind[I]
		for _, other := range p.kinds {
			if other != of && len(other.waiting) > spare && other.used.Before(of.used) && (victim == nil || other.used.Before(victim.used)) {
				victim = other
			}
		}
		if victim == nil {
			return false
		}
		p.shrink(victim, len(victim.waiting)-1)
	}
	return true
}

// makeOne makes one of a kind and lets it wait.
func (p *Pool[K, I]) makeOne(ctx context.Context, k K, of *kind[I], guess int64) {
	item, err := p.cfg.Make(ctx, k)
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.stir()
	of.making--
	p.making--
	p.bytes -= guess
	if err != nil {
		of.pause = min(max(firstPause, 2*of.pause), lastPause)
		of.notUntil = time.Now().Add(of.pause)
		if ctx.Err() == nil {
			p.cfg.Log.Warn("nothing could be made ahead; what needs it takes longer meanwhile", "kind", k, "error", err, "again", of.pause)
		}
		return
	}
	of.pause, of.guess = 0, item.Bytes()
	if p.closed || of.refused {
		p.work.Go(item.Discard)
		return
	}
	e := &entry[I]{item: item, left: make(chan struct{})}
	of.waiting = append(of.waiting, e)
	p.bytes += item.Bytes()
	if item.Done() != nil {
		p.work.Go(func() { p.watch(of, e) })
	}
}

// watch discards an item that ends while it waits.
func (p *Pool[K, I]) watch(of *kind[I], e *entry[I]) {
	select {
	case <-e.left:
		return
	case <-e.item.Done():
	}
	p.mu.Lock()
	mine := p.remove(of, e)
	p.mu.Unlock()
	if mine {
		e.item.Discard()
		p.stir()
	}
}
