package manager

import (
	"cmp"
	"time"

	"berth/lambda"
)

// assumedStart is taken for the cost of a start that has not been measured yet: what interpreters with a few libraries take.
const assumedStart = 200 * time.Millisecond

// useWindow is the time over which uses are counted for the rate of use; the window before it fades out meanwhile.
const useWindow = time.Minute

// worth is what is known of the environments of one key that tells how dear it is to lose one. Guarded by set.mu; an
// invocation pays a few integer operations for it.
type worth struct {
	cold, warm time.Duration // mean time from reservation to idle, with and without the start; 0 when unknown
	window     time.Time     // when the present window began
	uses       int           // in the present window
	before     int           // in the window before
}

// used counts one reservation.
func (w *worth) used(now time.Time) {
	w.roll(now)
	w.uses++
}

func (w *worth) roll(now time.Time) {
	switch age := now.Sub(w.window); {
	case age < useWindow:
	case age < 2*useWindow:
		w.window, w.before, w.uses = w.window.Add(useWindow), w.uses, 0
	default:
		w.window, w.before, w.uses = now, 0, 0
	}
}

// held is told how long an environment was reserved, or took to be made ahead: warm when it had been idle before.
func (w *worth) held(d time.Duration, warm bool) {
	mean := &w.cold
	if warm {
		mean = &w.warm
	}
	if *mean == 0 {
		*mean = max(d, 1)
	} else {
		*mean += (d - *mean) / 4
	}
}

// startCost is by how much a call that must wait for a start is slower than another: what a cold call takes beyond a warm
// one. Without a warm call to compare with nobody knows what of it was the start. Initialisation has a limit, and so has
// the cost.
func (w *worth) startCost() time.Duration {
	if w.warm == 0 {
		return min(max(w.cold, time.Millisecond), assumedStart)
	}
	return min(max(w.cold-w.warm, time.Millisecond), lambda.InitTimeout)
}

// rate is how often the key is used, per second: over the present window and what it does not cover yet of the one before.
func (w *worth) rate(now time.Time) float64 {
	r := *w
	r.roll(now)
	covered := min(1, max(0, now.Sub(r.window).Seconds()/useWindow.Seconds()))
	return (float64(r.uses) + float64(r.before)*(1-covered)) / useWindow.Seconds()
}

// candidate is an idle environment that could be ended for room.
type candidate struct {
	value float64
	since time.Time // idle since
	id    lambda.EnvironmentID
}

// appraise gives an environment of a set of n its value: the time that keeping it saves calls, per second and byte. All of
// a set share its uses.
func appraise(w *worth, n int, e *environment, now time.Time) candidate {
	likelihood := w.rate(now) / float64(max(1, n))
	return candidate{value: w.startCost().Seconds() * likelihood / float64(max(1, e.bytes)), since: e.since, id: e.id}
}

// before reports whether c is to be ended rather than d: the one of less value, of two equal ones the one idle for longer, then the
// one of the smaller id, so that a simulation can be repeated.
func (c candidate) before(d candidate) bool {
	if c.value != d.value {
		return c.value < d.value
	}
	return cmp.Or(c.since.Compare(d.since), cmp.Compare(c.id, d.id)) < 0
}
