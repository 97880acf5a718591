package control

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"berth/sleep"
	"berth/store"
)

// leaseKey is the record of who is elected. It lies outside of what the catalog's readers watch.
const leaseKey store.Key = "control/leader"

// Times of the election. The loss of the engine's leader stops writes for 4–9 s, the start of all its servers for 12 s: a
// holder that cannot write for so long keeps its lease.
const (
	leaseTime  = 18 * time.Second
	renewEvery = 2 * time.Second // also the time limit of one try
	lookEvery  = 500 * time.Millisecond
	// silentFor is how long the holder's heartbeats must be missing, beyond the time that the members allow, before the
	// lease is taken over early.
	silentFor    = 300 * time.Millisecond
	releaseLimit = 2 * time.Second
)

// leaseRecord is the stored form. A holder "" has given it back.
type leaseRecord struct {
	Holder string `json:"holder,omitempty"`
	Term   uint64 `json:"term"`  // one more with each holder
	Count  uint64 `json:"count"` // of renewals: makes each write another one
}

// lease is the record as its holder wrote it last.
type lease struct {
	store    store.Catalog
	record   leaseRecord
	revision store.Revision
}

// campaign waits until this process holds the lease; false when ctx ended first.
func (c *Control) campaign(ctx context.Context) (*lease, bool) {
	var watch rival
	for {
		if l := c.attempt(ctx, &watch); l != nil {
			return l, true
		}
		if !sleep.For(ctx, lookEvery) {
			return nil, false
		}
	}
}

// rival is what a loser knows of the holder. Time counts on its own clock and only while it can read: a holder that
// cannot write since the engine is away keeps the lease.
type rival struct {
	revision store.Revision
	since    time.Time // when that revision was first seen
	missing  time.Time // since when its heartbeats are not heard
}

func (c *Control) attempt(ctx context.Context, watch *rival) *lease {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	l := &lease{store: c.cfg.Store}
	err := l.read(ctx)
	now := time.Now()
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		*watch = rival{}
		c.cfg.Log.Debug("the election cannot be read", "err", err)
		return nil
	case l.record.Holder == c.cfg.ID: // a write whose answer was lost
		return l
	case !watch.over(l, now, c.cfg.Alive):
		return nil
	}
	l.record = leaseRecord{Holder: c.cfg.ID, Term: l.record.Term + 1}
	if err := l.write(ctx); err != nil {
		c.cfg.Log.Debug("the lease was not taken", "err", err)
		return nil
	}
	return l
}

// over reports whether the lease may be taken: it was given back, or is stale, or its holder's process is silent.
func (r *rival) over(l *lease, now time.Time, alive func(string) bool) bool {
	if l.revision != r.revision {
		r.revision, r.since = l.revision, now
	}
	switch {
	case alive == nil || alive(l.record.Holder):
		r.missing = time.Time{}
	case r.missing.IsZero():
		r.missing = now
	}
	silent := !r.missing.IsZero() && now.Sub(r.missing) >= silentFor
	return l.record.Holder == "" || silent || now.Sub(r.since) >= leaseTime
}

// read fetches the record; a damaged or unknown one reads as given back.
func (l *lease) read(ctx context.Context) error {
	e, err := l.store.Get(ctx, leaseKey)
	if err != nil {
		return err
	}
	l.revision, l.record = e.Revision, leaseRecord{}
	_ = json.Unmarshal(e.Value, &l.record) // what cannot be read holds nobody: it is written over, by compare-and-set
	return nil
}

// write stores the record over the revision that was seen last.
func (l *lease) write(ctx context.Context) error {
	raw, err := json.Marshal(l.record)
	if err != nil {
		return err
	}
	revision, err := l.store.Apply(ctx, store.Op{Key: leaseKey, Value: raw, Expect: l.revision})
	if err != nil {
		return err
	}
	l.revision = revision
	return nil
}

// keep renews the lease until ctx ends (true) or it is lost or over (false).
func (l *lease) keep(ctx context.Context) bool {
	renewed := time.Now()
	for sleep.For(ctx, renewEvery) {
		began := time.Now()
		switch err := l.renew(ctx); {
		case err == nil:
			renewed = began
		case errors.Is(err, errLost), time.Since(renewed) >= leaseTime-2*renewEvery: // before another may take it
			return false
		}
	}
	return true
}

var errLost = errors.New("another process has the lease")

// renew writes the record anew. After a conflict it looks who has it: an earlier try may have come through late.
func (l *lease) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	mine := l.record
	l.record.Count++
	err := l.write(ctx)
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	if err := l.read(ctx); err != nil {
		l.record = mine
		return err
	}
	if l.record.Holder != mine.Holder || l.record.Term != mine.Term {
		return errLost
	}
	return nil
}

// release gives the lease back, so that the next one need not wait. Without an answer it ends by itself.
func (l *lease) release() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	l.record.Holder = ""
	_ = l.write(ctx)
}
