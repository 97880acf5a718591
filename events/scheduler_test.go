package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/catalog"
)

// controller is a process that fires schedules, with a watched copy of the catalog of its own.
type controller struct {
	stop func() // ends it, and waits
	log  *lines
}

// lines is what a process logs.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.String(), text)
}

func (w *world) controller() *controller {
	ctx, cancel := context.WithCancel(w.t.Context())
	own := catalog.New(w.records, region)
	log := new(lines)
	var all sync.WaitGroup
	all.Go(func() { _ = own.Run(ctx) })
	<-own.Ready()
	all.Go(func() { _ = NewScheduler(w.queue, own, slog.New(slog.NewTextHandler(log, nil))).Run(ctx) })
	c := &controller{func() { cancel(); all.Wait() }, log}
	w.t.Cleanup(c.stop)
	return c
}

func (w *world) schedule(s catalog.Schedule) {
	w.t.Helper()
	s.Account, s.Created, s.Last = account, time.Now(), time.Now()
	if _, err := w.catalog.CreateSchedule(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) scheduled(name string) *catalog.Schedule {
	w.t.Helper()
	s, err := w.catalog.Schedule(account, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// ticks returns the tick of each run, as the function was told.
func (w *world) ticks() (out []time.Time) {
	w.t.Helper()
	for _, r := range w.runs() {
		var payload struct{ Time time.Time }
		if err := json.Unmarshal([]byte(r.payload), &payload); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, payload.Time)
	}
	return out
}

// TestSchedulesFireOncePerTick: whatever the number of processes, and while they come and go.
func TestSchedulesFireOncePerTick(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		first, second := w.controller(), w.controller()
		began := time.Now()
		w.schedule(catalog.Schedule{Name: "often", Function: "f", Rate: time.Minute})
		w.settle(5*time.Minute + 30*time.Second)
		second.stop()
		w.settle(5 * time.Minute)
		third := w.controller()
		w.settle(5 * time.Minute)
		first.stop()
		third.stop()
		ticks := w.ticks()
		for i, tick := range ticks {
			if want := began.Add(time.Duration(i+1) * time.Minute); !tick.Equal(want) {
				t.Errorf("tick %d is of %v, want %v", i, tick, want)
			}
		}
		if s := w.scheduled("often"); len(ticks) != 15 || s.Fired != 15 || s.Missed != 0 {
			t.Errorf("%d calls; the schedule says %+v; want 15 fired", len(ticks), s)
		}
	})
}

// TestMissedTicksAreReportedOnce: no process ran for ten ticks. The newest is less than a minute old and fires; the others are
// counted and logged once, though two processes come back.
func TestMissedTicksAreReportedOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		only := w.controller()
		began := time.Now()
		w.schedule(catalog.Schedule{Name: "often", Function: "f", Rate: time.Minute})
		w.settle(2*time.Minute + 10*time.Second)
		only.stop()
		w.settle(10 * time.Minute)
		first, second := w.controller(), w.controller()
		w.settle(3 * time.Minute)
		s := w.scheduled("often")
		if want := began.Add(11 * time.Minute); s.Missed != 9 || !s.LastMissed.Equal(want) || s.Fired != 6 {
			t.Errorf("%+v, want 9 missed, the newest at %v, and 6 fired", s, want)
		}
		if n := first.log.count("were missed") + second.log.count("were missed"); n != 1 {
			t.Errorf("missed ticks were logged %d times, want once", n)
		}
		var minutes []string
		for _, tick := range w.ticks() {
			minutes = append(minutes, fmt.Sprint(tick.Sub(began).Minutes()))
		}
		if got := strings.Join(minutes, " "); got != "1 2 12 13 14 15" {
			t.Errorf("the ticks that ran are %s", got)
		}
	})
}

func TestScheduleOfNoFunctionSaysSo(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.controller()
		w.schedule(catalog.Schedule{Name: "early", Function: "f", Cron: "*/5 * * * *"})
		w.settle(6 * time.Minute)
		if s := w.scheduled("early"); s.Failure == "" || s.Fired != 0 || s.Last.IsZero() {
			t.Errorf("%+v, want a failure", s)
		}
		w.function("f", nil)
		w.settle(5 * time.Minute)
		if s := w.scheduled("early"); s.Failure != "" || s.Fired != 1 || len(w.runs()) != 1 {
			t.Errorf("%+v with %d calls, want one fired", s, len(w.runs()))
		}
	})
}

// TestScheduleMadeAnewIsAnother: its ticks are its own, even where they are at the same times.
func TestScheduleMadeAnewIsAnother(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		w.controller()
		w.schedule(catalog.Schedule{Name: "s", Function: "f", Cron: "* * * * *", Payload: json.RawMessage(`{"time":"2000-01-01T00:00:00Z"}`)})
		w.settle(90 * time.Second)
		if err := w.catalog.DeleteSchedule(t.Context(), account, "s"); err != nil {
			t.Fatal(err)
		}
		w.settle(5 * time.Minute)
		before := len(w.runs())
		w.schedule(catalog.Schedule{Name: "s", Function: "f", Cron: "* * * * *"})
		w.settle(2 * time.Minute)
		if n := len(w.runs()); before < 1 || before > 2 || n != before+2 {
			t.Errorf("%d calls before it was removed and %d after it was made again", before, n-before)
		}
	})
}
