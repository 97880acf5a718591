package manager

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// known is the worth of a key with a start of the given cost, used n times in the last half minute.
func known(start time.Duration, n int) *worth {
	var w worth
	for i := range n {
		w.used(noon.Add(-30*time.Second + time.Duration(i)*time.Millisecond))
	}
	w.held(start+10*time.Millisecond, false)
	w.held(10*time.Millisecond, true)
	return &w
}

func TestTheCandidateOfLeastValueIsEndedFirst(t *testing.T) {
	of := func(start time.Duration, uses, n int, mb int64, idle time.Duration) candidate {
		return appraise(known(start, uses), n, &environment{bytes: mb << 20, since: noon.Add(-idle)}, noon)
	}
	for name, c := range map[string]struct{ victim, other candidate }{
		"the cheaper start":            {of(50*time.Millisecond, 10, 1, 128, 0), of(time.Second, 10, 1, 128, time.Minute)},
		"the rarer use":                {of(time.Second, 2, 1, 128, 0), of(time.Second, 20, 1, 128, time.Minute)},
		"the larger memory":            {of(time.Second, 10, 1, 1024, 0), of(time.Second, 10, 1, 128, time.Minute)},
		"one of many":                  {of(time.Second, 10, 8, 128, 0), of(time.Second, 10, 1, 128, time.Minute)},
		"age, of equals":               {of(time.Second, 10, 1, 128, 2*time.Second), of(time.Second, 10, 1, 128, time.Second)},
		"age, of those not used":       {of(time.Millisecond, 0, 1, 128, 2*time.Hour), of(9*time.Second, 0, 1, 64, time.Hour)},
		"never used, against used":     {of(9*time.Second, 0, 1, 64, 0), of(2*time.Millisecond, 1, 4, 10240, time.Minute)},
		"costs are bounded from above": {of(10*time.Second, 1, 1, 128, time.Second), of(time.Hour, 1, 1, 128, 0)},
	} {
		if !c.victim.before(c.other) || c.other.before(c.victim) {
			t.Errorf("%s: %+v is not ended before %+v", name, c.victim, c.other)
		}
	}
}

func TestTheRateOfUseFades(t *testing.T) {
	w := known(time.Second, 60)
	last := w.rate(noon)
	if last < 0.99 || last > 1.01 {
		t.Fatalf("60 uses in a minute: rate %v, want 1 per second", last)
	}
	for _, after := range []time.Duration{40 * time.Second, 60 * time.Second, 80 * time.Second} {
		r := w.rate(noon.Add(after))
		if r >= last || r <= 0 {
			t.Errorf("after %v the rate is %v, was %v", after, r, last)
		}
		last = r
	}
	if r := w.rate(noon.Add(2 * useWindow)); r != 0 {
		t.Errorf("two windows later the rate is %v", r)
	}
}

func TestTheCostOfAStartIsWhatAColdCallTakesBeyondAWarmOne(t *testing.T) {
	var w worth
	w.held(700*time.Millisecond, false)
	if c := w.startCost(); c != assumedStart {
		t.Errorf("without a warm call: %v", c)
	}
	w.held(500*time.Millisecond, true)
	if c := w.startCost(); c != 200*time.Millisecond {
		t.Errorf("cold 700 ms, warm 500 ms: %v", c)
	}
	w.held(900*time.Millisecond, true) // the mean moves by a quarter
	if c := w.startCost(); c != 100*time.Millisecond {
		t.Errorf("the mean of warm calls did not move to 600 ms: %v", c)
	}
}
