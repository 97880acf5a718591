package manager_test

import (
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"berth/manager"
)

// past runs a function's calls at the given times (the begin of each; calls take a second), and returns its habit and the
// time after the last.
func past(h manager.Habit, at ...time.Duration) time.Time {
	begin := time.Unix(1<<30, 0)
	var last time.Time
	for _, d := range at {
		h.Began(begin.Add(d))
		last = begin.Add(d + time.Second)
		h.Ended(last)
	}
	return last
}

func keepAt(h manager.Habit, t time.Time) int { keep, _ := h.Wanted(t); return keep }

// every lists n times, so far apart.
func every(d time.Duration, n int) (at []time.Duration) {
	for i := range n {
		at = append(at, time.Duration(i)*d)
	}
	return at
}

func TestTheHistogramWaitsOnlyWhenTheCallIsDue(t *testing.T) {
	h := manager.NewHistogram(manager.DefaultWorth).Function(2048)
	last := past(h, every(time.Hour, 30)...)
	for minutes, want := range map[int]int{5: 0, 20: 0, 45: 0, 59: 1, 60: 1, 70: 0} {
		if got := keepAt(h, last.Add(time.Duration(minutes)*time.Minute)); got != want {
			t.Errorf("%d minutes after a call of a function called every hour: %d wanted, want %d", minutes, got, want)
		}
	}
}

func TestTheHistogramKeepsWhatIsCheapLonger(t *testing.T) {
	p := manager.NewHistogram(manager.DefaultWorth)
	small, large := p.Function(128), p.Function(8192)
	last := past(small, 0)
	past(large, 0)
	if at := last.Add(10 * time.Minute); keepAt(small, at) != 1 || keepAt(large, at) != 0 {
		t.Errorf("ten minutes after its only call: %d of a small function and %d of a large one are wanted, want 1 and 0",
			keepAt(small, at), keepAt(large, at))
	}
	if keepAt(small, last.Add(24*time.Hour)) != 0 {
		t.Error("an environment is wanted for a day after one call")
	}
}

func TestTheHistogramIsAheadOfABurst(t *testing.T) {
	h := manager.NewHistogram(manager.DefaultWorth).Function(1024)
	now := time.Unix(1<<30, 0)
	ahead := 0
	for range 20 { // four more calls every five seconds, none of which ends
		for range 4 {
			h.Began(now)
		}
		_, ahead = h.Wanted(now)
		now = now.Add(5 * time.Second)
	}
	if ahead < 4 || ahead > 40 {
		t.Errorf("%d environments are to be made ahead of a burst that grows by 12 in 15 s, want about half of that", ahead)
	}
	for range 5 {
		_, ahead = h.Wanted(now)
		now = now.Add(5 * time.Second)
	}
	if ahead != 0 {
		t.Errorf("%d are to be made ahead when the burst grows no more, want none", ahead)
	}
}

func TestFixedMakesNothingAhead(t *testing.T) {
	h := manager.Fixed(10 * time.Minute).Function(128)
	last := past(h, every(time.Minute, 5)...)
	if keep, ahead := h.Wanted(last.Add(9 * time.Minute)); keep != 1 || ahead != 0 {
		t.Errorf("keep %d, make %d; want 1 and 0", keep, ahead)
	}
	if keepAt(h, last.Add(10*time.Minute)) != 0 {
		t.Error("kept for longer than its time")
	}
}

// TestAnEnvironmentIsMadeAheadOfItsCall is the whole of it: a function that comes every half hour finds an environment that
// was not there in between.
func TestAnEnvironmentIsMadeAheadOfItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := setupWith(manager.NewHistogram(manager.DefaultWorth))
		run(t, m)
		req := request("f")
		req.Version.MemoryMB = 4096
		cold, most := 0, 0
		for range 20 {
			a, err := m.Acquire(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if a.Reservation.Cold {
				cold++
			}
			m.EnvironmentIdle(a.Reservation.Environment, a.Reservation.Number)
			time.Sleep(15 * time.Minute)
			live, _, _ := w.counts()
			most = max(most, live)
			time.Sleep(15 * time.Minute)
		}
		if cold > 4 || most > 0 {
			t.Errorf("%d of 20 calls started cold, and up to %d environments were there in between; want a few, and none", cold, most)
		}
		if n := m.Load(t.Context(), req.Pool).Running; n != 0 {
			t.Errorf("%d count as running, and nothing runs", n)
		}
	})
}

// TestWhatIsRememberedIsBounded holds the size of one group of levels, of which a function has as many as it reaches.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	const limit = 640 // bytes
	if size := unsafe.Sizeof(manager.Level{}); size > limit {
		t.Errorf("a group of levels takes %d bytes, at most %d are allowed", size, limit)
	}
}

func BenchmarkHabit(b *testing.B) {
	h := manager.NewHistogram(manager.DefaultWorth).Function(128)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		h.Began(now)
		h.Ended(now)
	}
}
