package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/store"
)

// lane is the one that most tests use.
const lane store.Lane = "000000000001/f"

// Queue runs the suite; open returns an empty queue, and closes it by t.Cleanup.
func Queue(t *testing.T, open func(t *testing.T) store.Queue) {
	for name, test := range map[string]func(*testing.T, store.Queue){
		"PushPullDone":    pushPullDone,
		"ManyAtOnce":      manyAtOnce,
		"SameIDOnce":      sameIDOnce,
		"LaterComesAgain": laterComesAgain,
		"LanesAreApart":   lanesAreApart,
		"WatchNamesLanes": watchNamesLanes,
		"PullWaits":       pullWaits,
		"SharedWork":      sharedWork,
		"FreshTogether":   freshTogether,
		"QueueRefuses":    queueRefuses,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func push(t *testing.T, q store.Queue, l store.Lane, id, data string) {
	t.Helper()
	if err := q.Push(t.Context(), store.Message{ID: id, Lane: l, Data: []byte(data)}); err != nil {
		t.Fatalf("Push(%s, %s): %v", l, id, err)
	}
}

// pull takes n messages, in as many pulls as it needs.
func pull(t *testing.T, q store.Queue, l store.Lane, n int) []store.Delivery {
	t.Helper()
	var out []store.Delivery
	for deadline := time.Now().Add(patience); len(out) < n; {
		some, err := q.Pull(t.Context(), l, n-len(out), time.Second)
		if err != nil {
			t.Fatalf("Pull(%s): %v", l, err)
		}
		if out = append(out, some...); len(out) < n && time.Now().After(deadline) {
			t.Fatalf("Pull(%s) gave %d of %d messages", l, len(out), n)
		}
	}
	return out
}

// empty checks that a lane has nothing for a receiver.
func empty(t *testing.T, q store.Queue, l store.Lane) {
	t.Helper()
	if some, err := q.Pull(t.Context(), l, 1, 50*time.Millisecond); err != nil || len(some) > 0 {
		t.Fatalf("Pull(%s) of an empty lane: %v, %v", l, some, err)
	}
}

func finish(t *testing.T, deliveries ...store.Delivery) {
	t.Helper()
	for _, d := range deliveries {
		if err := d.Ticket.Done(); err != nil {
			t.Fatal(err)
		}
	}
}

// held waits until a lane holds n messages: Done does not wait for the engine.
func held(t *testing.T, q store.Queue, l store.Lane, n int) store.Depth {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		d, err := q.Depth(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		if d.Held == n {
			return d
		}
		if time.Now().After(deadline) {
			t.Fatalf("lane %s holds %d messages, want %d", l, d.Held, n)
		}
	}
}

func pushPullDone(t *testing.T, q store.Queue) {
	for i := range 3 {
		push(t, q, lane, fmt.Sprint("m", i), fmt.Sprint("data ", i))
	}
	held(t, q, lane, 3)
	got := pull(t, q, lane, 3)
	for i, d := range got {
		if d.ID != fmt.Sprint("m", i) || string(d.Data) != fmt.Sprint("data ", i) || d.Lane != lane || d.Count != 1 {
			t.Errorf("delivery %d: %+v", i, d)
		}
		if err := d.Ticket.Working(); err != nil {
			t.Error(err)
		}
	}
	if d := held(t, q, lane, 3); d.Delivered != 3 {
		t.Errorf("depth %+v, want 3 delivered", d)
	}
	finish(t, got...)
	held(t, q, lane, 0)
	empty(t, q, lane)
}

// manyAtOnce: pushes that wait together are all stored, each once.
func manyAtOnce(t *testing.T, q store.Queue) {
	const pushers, each = 40, 50
	var all sync.WaitGroup
	for p := range pushers {
		all.Go(func() {
			for i := range each {
				m := store.Message{ID: fmt.Sprintf("%d-%d", p, i), Lane: store.Lane(fmt.Sprintf("000000000001/f%d", p%4)), Data: []byte("x")}
				if err := q.Push(t.Context(), m); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	seen := map[string]int{}
	for l := range 4 {
		for _, d := range pull(t, q, store.Lane(fmt.Sprintf("000000000001/f%d", l)), pushers*each/4) {
			seen[d.ID]++
			finish(t, d)
		}
	}
	if len(seen) != pushers*each {
		t.Errorf("%d different messages came out of %d", len(seen), pushers*each)
	}
}

func sameIDOnce(t *testing.T, q store.Queue) {
	for range 3 {
		push(t, q, lane, "same", "x")
	}
	// The same again among others that wait at the same time: those must be stored all the same.
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			id := "same"
			if i%2 == 0 {
				id = fmt.Sprint("other", i)
			}
			if err := q.Push(t.Context(), store.Message{ID: id, Lane: lane, Data: []byte("x")}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	finish(t, pull(t, q, lane, 11)...)
	held(t, q, lane, 0)
}

func laterComesAgain(t *testing.T, q store.Queue) {
	push(t, q, lane, "m", "x")
	first := pull(t, q, lane, 1)[0]
	began := time.Now()
	if err := first.Ticket.Later(300 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	again := pull(t, q, lane, 1)[0]
	if waited := time.Since(began); waited < 250*time.Millisecond {
		t.Errorf("it came again after %v, want 300ms", waited)
	}
	if again.Count != 2 || again.ID != "m" {
		t.Errorf("second delivery: %+v", again)
	}
	finish(t, again)
	held(t, q, lane, 0)
}

// lanesAreApart: what one lane holds does not stand before another's.
func lanesAreApart(t *testing.T, q store.Queue) {
	for i := range 200 {
		push(t, q, "000000000001/flood", fmt.Sprint("flood", i), "x")
	}
	push(t, q, "000000000001/quiet", "q", "x")
	push(t, q, "000000000002/quiet", "q2", "x")
	if got := pull(t, q, "000000000001/quiet", 1); got[0].ID != "q" {
		t.Errorf("got %q", got[0].ID)
	}
	empty(t, q, "000000000001/quiet")
}

func watchNamesLanes(t *testing.T, q store.Queue) {
	push(t, q, "000000000001/before", "m", "x")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	named := make(chan store.Lane, 1000)
	ended := make(chan error, 1)
	go func() {
		ended <- q.Watch(ctx, func(l store.Lane) {
			select {
			case named <- l:
			default:
			}
		})
	}()
	wait := func(want store.Lane) {
		t.Helper()
		for limit := time.After(patience); ; {
			select {
			case l := <-named:
				if l == want {
					return
				}
			case <-limit:
				t.Fatalf("lane %s was not named", want)
			}
		}
	}
	wait("000000000001/before")
	push(t, q, "000000000002/after", "n", "x")
	wait("000000000002/after")
	wait("000000000001/before") // again: it still holds its message
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
}

func pullWaits(t *testing.T, q store.Queue) {
	got := make(chan []store.Delivery, 1)
	go func() {
		some, err := q.Pull(t.Context(), lane, 10, patience)
		if err != nil {
			t.Error(err)
		}
		got <- some
	}()
	push(t, q, lane, "m", "x")
	if some := <-got; len(some) != 1 || some[0].ID != "m" {
		t.Errorf("a waiting Pull gave %v", some)
	}
}

// freshTogether: messages that may be stored together come out once, and end each for itself: some are done, some come again at
// their time, some at once.
func freshTogether(t *testing.T, q store.Queue) {
	const n = 90
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			m := store.Message{ID: fmt.Sprint("m", i), Lane: lane, Data: []byte(fmt.Sprint("data ", i)), Fresh: true}
			if err := q.Push(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if d := held(t, q, lane, n); d.Delivered != 0 {
		t.Errorf("depth %+v before the first pull", d)
	}
	first := pull(t, q, lane, n)
	began := time.Now()
	left := map[string]bool{}
	for i, d := range first {
		if len(d.ID) < 2 || string(d.Data) != "data "+d.ID[1:] || d.Count != 1 {
			t.Fatalf("delivery %d: %+v", i, d)
		}
		var err error
		switch i % 3 {
		case 0:
			err = d.Ticket.Done()
		case 1:
			err, left[d.ID] = d.Ticket.Later(0), true
		case 2:
			err, left[d.ID] = d.Ticket.Later(700*time.Millisecond), true
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(first) != n || len(left) != n*2/3 {
		t.Fatalf("%d messages came out, %d of them go on: want %d and %d", len(first), len(left), n, n*2/3)
	}
	again := pull(t, q, lane, len(left))
	if waited := time.Since(began); waited < 650*time.Millisecond {
		t.Errorf("all came again after %v, want 700ms", waited)
	}
	for _, d := range again {
		if !left[d.ID] || string(d.Data) != "data "+d.ID[1:] || d.Count > 2 {
			t.Errorf("it came again: %+v", d)
		}
		delete(left, d.ID)
	}
	finish(t, again...)
	held(t, q, lane, 0)
	empty(t, q, lane)
}

// sharedWork: no message has two receivers while both are at work.
func sharedWork(t *testing.T, q store.Queue) {
	const n = 200
	for i := range n {
		push(t, q, lane, fmt.Sprint("m", i), "x")
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var all sync.WaitGroup
	whole := false
	deadline := time.Now().Add(time.Minute) // of a machine that is busy
	for range 4 {
		all.Go(func() {
			for last := false; !last; {
				mu.Lock()
				last = whole || time.Now().After(deadline) // then one more look for what came twice
				mu.Unlock()
				some, err := q.Pull(t.Context(), lane, 7, 200*time.Millisecond)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, d := range some {
					seen[d.ID]++
				}
				whole = len(seen) == n
				mu.Unlock()
				finish(t, some...)
			}
		})
	}
	all.Wait()
	for id, times := range seen {
		if times != 1 {
			t.Errorf("message %s was delivered %d times", id, times)
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d messages were delivered", len(seen), n)
	}
}

func queueRefuses(t *testing.T, q store.Queue) {
	for what, m := range map[string]store.Message{
		"no id":        {Lane: lane},
		"id with line": {ID: "a\r\nb", Lane: lane},
		"long id":      {ID: strings.Repeat("a", 129), Lane: lane},
		"no lane":      {ID: "m"},
		"one segment":  {ID: "m", Lane: "f"},
		"wildcard":     {ID: "m", Lane: "a/*"},
		"too large":    {ID: "m", Lane: lane, Data: make([]byte, store.MaxMessage+1)},
	} {
		wantErr(t, what, q.Push(t.Context(), m), store.ErrInvalid)
	}
	_, err := q.Pull(t.Context(), lane, 0, 0)
	wantErr(t, "pull of none", err, store.ErrInvalid)
	push(t, q, lane, "largest", strings.Repeat("x", store.MaxMessage))
	if got := pull(t, q, lane, 1); len(got[0].Data) != store.MaxMessage {
		t.Errorf("the largest message came back with %d bytes", len(got[0].Data))
	}
}
