package events

import (
	"context"
	"sync"
	"time"

	"berth/sleep"
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
		if sleep.For(ctx, gatherPause) {
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
	firstWindow = 4
	period      = 100 * time.Millisecond // the shortest of which a rate is taken
	growth      = 4                      // a window is tried that is larger by one in so many; at first twice as large
	probePause  = 2 * time.Second        // after a larger window was of no use
	shrinkPause = time.Second            // one throttled moment halves it once
	smoothing   = 0.1                    // of the times that calls take
)

// window bounds how many events of one lane run at once, by climbing: while it is the window that holds the lane back, a larger
// one is tried, and kept if it gets through at least half as much more as it is larger. So a function that waits for others gets a
// wide window, and one that needs the processor a narrow one, which leaves the processor to who wants to be accepted. It is halved
// when a call is throttled.
type window struct {
	held int // slots; under slots.mu

	mu       sync.Mutex
	size     int
	before   int       // the size before the one that is tried; 0 while none is
	rate     float64   // of calls per second then
	usual    float64   // smoothed duration of calls, in seconds
	began    time.Time // of this period
	settled  bool      // a larger window was of no use before, or a call was throttled
	done     int       // calls in this period
	full     int       // of these, how many ended while the lane had no room for another
	probe    time.Time // when a larger window may be tried
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
	if w.began.IsZero() {
		w.began, w.usual = now, took.Seconds()
	}
	w.usual += smoothing * (took.Seconds() - w.usual)
	if now.Before(w.began) { // it belongs to another window
		return
	}
	w.done++
	if full {
		w.full++
	}
	elapsed := now.Sub(w.began)
	if elapsed < period || elapsed.Seconds() < w.usual || w.done < w.size {
		return
	}
	before := w.size
	w.climb(float64(w.done)/elapsed.Seconds(), 2*w.full > w.done, now)
	w.began, w.done, w.full = now, 0, 0
	if w.size != before { // what ends soon began before
		w.began = now.Add(time.Duration(w.usual * float64(time.Second)))
	}
}

// climb draws the conclusions from one period. w.mu is held.
func (w *window) climb(rate float64, full bool, now time.Time) {
	if !full { // there was too little to do: it says nothing
		w.before = 0
		return
	}
	if w.before > 0 && rate < w.rate*(1+float64(w.size-w.before)/float64(2*w.before)) {
		w.size, w.before, w.probe, w.settled = w.before, 0, now.Add(probePause), true
		return
	}
	w.before = 0
	if !now.Before(w.probe) {
		w.before, w.rate = w.size, rate
		if w.settled {
			w.size += max(w.size/growth, 1)
		} else {
			w.size *= 2
		}
	}
}

// throttled notes a call that found no environment.
func (w *window) throttled(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.shrunken) >= shrinkPause {
		w.size, w.before, w.shrunken, w.settled = max(w.size/2, 1), 0, now, true
		w.began, w.done, w.full = now, 0, 0
	}
}
