package events

import (
	"context"
	"sync"
	"time"

	"berth/store"
)

// slots bounds how many events run at once in this process, and shares them out: a lane may take another slot while it holds
// fewer than are free ("dynamic thresholds", Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). So one
// flood gets half of them, two floods a third each, and there are always some free for who comes next. A lane that holds none
// gets one even when none is free, up to twice the limit in all.
type slots struct {
	mu      sync.Mutex
	limit   int
	taken   int
	changed chan struct{} // closed and replaced when slots are given back
}

func newSlots(limit int) *slots { return &slots{limit: limit, changed: make(chan struct{})} }

// take waits until a lane may have at least one more slot, and takes up to n. 0 means that ctx has ended.
func (s *slots) take(ctx context.Context, l *window, n int) int {
	for {
		s.mu.Lock()
		got := min(n, l.room(), max(s.limit-s.taken-l.held, 0)/2)
		if got < 1 && l.room() > 0 && (s.limit-s.taken > l.held || l.held == 0 && s.taken < 2*s.limit) {
			got = 1
		}
		s.taken += got
		l.held += got
		changed := s.changed
		s.mu.Unlock()
		if got > 0 {
			return got
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0
		}
	}
}

// takeSome waits for a slot, and a moment more while it is few: a pull for each event would cost as much as the event.
func (s *slots) takeSome(ctx context.Context, l *window) int {
	n := s.take(ctx, l, store.MaxPull)
	if s.mu.Lock(); n > 0 && l.held > 4*n {
		s.mu.Unlock()
		if sleep(ctx, gatherPause) {
			s.mu.Lock()
			more := min(l.room(), max(s.limit-s.taken-l.held, 0)/2, store.MaxPull-n)
			if more > 0 {
				s.taken, l.held, n = s.taken+more, l.held+more, n+more
			}
			s.mu.Unlock()
		}
		return n
	}
	s.mu.Unlock()
	return n
}

// give gives n slots back.
func (s *slots) give(l *window, n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	s.taken -= n
	l.held -= n
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
}

// gatherPause is how long a lane with much at work waits for more slots, before it pulls.
const gatherPause = time.Millisecond

// Limits of a window.
const (
	firstWindow = 8
	growPause   = 100 * time.Millisecond // so that a window grows by ten a second
	shrinkPause = time.Second            // one throttled moment halves it once
	smoothing   = 0.1                    // of the times that calls take
	slowdown    = 2                      // times the fastest: beyond it, more at once only makes each slower
	forgetting  = 1.001                  // per call: the fastest time may have been of better days
)

// window bounds how many events of one lane run at once, as congestion control does: it grows while it is the window that
// holds the lane back and calls do not get slower by it, and is halved when a call is throttled.
type window struct {
	held int // slots; under slots.mu

	mu       sync.Mutex
	size     int
	usual    float64 // smoothed duration of calls, in seconds
	best     float64 // the least that usual has been
	grown    time.Time
	shrunken time.Time
}

func newWindow() *window { return &window{size: firstWindow} }

// room is how many more slots the lane may hold; slots.mu is held.
func (w *window) room() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size - w.held
}

// ended notes a call that ran; full says that the lane had no room for another.
func (w *window) ended(took time.Duration, full bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.usual == 0 {
		w.usual = took.Seconds()
	}
	w.usual += smoothing * (took.Seconds() - w.usual)
	if w.best *= forgetting; w.best == 0 || w.usual < w.best {
		w.best = w.usual
	}
	if full && w.usual < slowdown*w.best && now.Sub(w.grown) >= growPause {
		w.size, w.grown = w.size+1, now
	}
}

// throttled notes a call that found no environment.
func (w *window) throttled(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.shrunken) >= shrinkPause {
		w.size, w.shrunken = max(w.size/2, 1), now
	}
}
