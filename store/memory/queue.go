package memory

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"berth/store"
)

// scanInterval is how often Watch names the lanes that still hold messages.
const scanInterval = 2 * time.Second

// Queue implements store.Queue. It starts nothing and needs no closing.
type Queue struct {
	mu      sync.Mutex
	lanes   map[store.Lane][]*held
	ids     map[string]time.Time // pushed lately
	changed chan struct{}        // closed and replaced at every change
	pushed  []store.Lane         // in order, for watchers; each keeps its own position
}

var _ store.Queue = (*Queue)(nil)

// held is a message with the time from which it may be delivered.
type held struct {
	store.Message
	due   time.Time
	out   bool // delivered at least once and not due again
	count int
}

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	return &Queue{lanes: map[store.Lane][]*held{}, ids: map[string]time.Time{}, changed: make(chan struct{})}
}

// Push implements store.Queue.
func (q *Queue) Push(ctx context.Context, m store.Message) error {
	if err := store.CheckMessage(m); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if at, known := q.ids[m.ID]; known && now.Sub(at) < store.DuplicateWindow {
		return nil
	}
	q.ids[m.ID] = now
	m.Data = slices.Clone(m.Data)
	q.lanes[m.Lane] = append(q.lanes[m.Lane], &held{Message: m})
	q.pushed = append(q.pushed, m.Lane)
	q.wake()
	return nil
}

// wake tells those who wait that something changed. q.mu is held.
func (q *Queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Watch implements store.Queue.
func (q *Queue) Watch(ctx context.Context, each func(store.Lane)) error {
	tick := time.NewTicker(scanInterval)
	defer tick.Stop()
	seen, all := 0, true
	for {
		q.mu.Lock()
		var lanes []store.Lane
		if all {
			for l := range q.lanes {
				lanes = append(lanes, l)
			}
		} else {
			lanes = slices.Clone(q.pushed[seen:])
		}
		seen = len(q.pushed)
		changed := q.changed
		q.mu.Unlock()
		for _, l := range lanes {
			each(l)
		}
		all = false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-tick.C:
			all = true
		}
	}
}

// Pull implements store.Queue.
func (q *Queue) Pull(ctx context.Context, lane store.Lane, n int, wait time.Duration) ([]store.Delivery, error) {
	if err := store.CheckLane(lane); err != nil {
		return nil, err
	}
	if n < 1 || n > store.MaxPull {
		return nil, fmt.Errorf("%w pull of %d messages: expected 1 to %d", store.ErrInvalid, n, store.MaxPull)
	}
	deadline := time.Now().Add(wait)
	for {
		q.mu.Lock()
		out, next := q.take(lane, n)
		changed := q.changed
		q.mu.Unlock()
		now := time.Now()
		if len(out) > 0 || !now.Before(deadline) {
			return out, ctx.Err()
		}
		until := deadline
		if !next.IsZero() && next.Before(until) {
			until = next
		}
		timer := time.NewTimer(until.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take takes what is due, and says when the next will be. q.mu is held.
func (q *Queue) take(lane store.Lane, n int) (out []store.Delivery, next time.Time) {
	now := time.Now()
	for _, h := range q.lanes[lane] {
		if h.due.After(now) {
			if next.IsZero() || h.due.Before(next) {
				next = h.due
			}
			continue
		}
		if len(out) == n {
			break
		}
		h.count++
		h.out, h.due = true, now.Add(store.PullLease)
		out = append(out, store.Delivery{Message: h.Message, Count: h.count, Ticket: ticket{q, h, h.count}})
	}
	return out, next
}

// Depth implements store.Queue.
func (q *Queue) Depth(ctx context.Context, lane store.Lane) (store.Depth, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := store.Depth{Held: len(q.lanes[lane])}
	for _, h := range q.lanes[lane] {
		if h.out {
			d.Delivered++
		}
	}
	return d, ctx.Err()
}

// ticket is of one delivery: a later one makes it worthless, but for Done.
type ticket struct {
	q     *Queue
	h     *held
	count int
}

func (t ticket) Done() error {
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	rest := slices.DeleteFunc(t.q.lanes[t.h.Lane], func(h *held) bool { return h == t.h })
	if t.q.lanes[t.h.Lane] = rest; len(rest) == 0 {
		delete(t.q.lanes, t.h.Lane)
	}
	t.q.wake()
	return nil
}

func (t ticket) Later(d time.Duration) error { return t.postpone(d) }
func (t ticket) Working() error              { return t.postpone(store.PullLease) }

func (t ticket) postpone(d time.Duration) error {
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	if t.h.count == t.count {
		t.h.due = time.Now().Add(d)
		t.q.wake()
	}
	return nil
}
