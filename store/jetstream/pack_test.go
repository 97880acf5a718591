package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"berth/store"
)

func TestPackKeepsItsMembers(t *testing.T) {
	want := []member{
		{id: "a", data: []byte("x")},
		{id: "b", data: []byte{}, before: 3},
		{id: "c", data: bytes.Repeat([]byte("y"), 5000), due: time.Unix(1_800_000_000, 5)},
	}
	var data []byte
	for _, m := range want {
		before := len(data)
		if data = m.append(data); len(data)-before != m.size() {
			t.Errorf("%s has %d bytes, says %d", m.id, len(data)-before, m.size())
		}
	}
	got, err := decodePack(data)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d members, %v", len(got), err)
	}
	for i, m := range want {
		if g := got[i]; g.id != m.id || !bytes.Equal(g.data, m.data) || g.before != m.before || !g.due.Equal(m.due) {
			t.Errorf("member %d is %+v, want %+v", i, g, m)
		}
	}
	for n := range len(data) {
		if some, err := decodePack(data[:n]); err == nil && len(some) == len(want) || err != nil && !errors.Is(err, errPack) {
			t.Fatalf("the first %d bytes of %d: %d members, %v", n, len(data), len(some), err)
		}
	}
}

func FuzzDecodePack(f *testing.F) {
	one := member{id: "id", data: []byte("data")}
	f.Add(one.append(nil))
	f.Add([]byte{255, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		members, err := decodePack(data)
		if err != nil {
			return
		}
		var again []byte
		for _, m := range members {
			again = m.append(again)
		}
		if _, err := decodePack(again); err != nil || len(members) > maxPack {
			t.Errorf("%d members, and back: %v", len(members), err)
		}
	})
}

// pushFresh pushes events that wait at the same time, so that they share packs.
func pushFresh(t *testing.T, q store.Queue, n int) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			m := store.Message{ID: fmt.Sprint("m", i), Lane: "a/f", Data: []byte("x"), Fresh: true}
			if err := q.Push(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestTimesOutliveTheEngine: what was told to wait, and came out of a pack for it, waits on after a restart.
func TestTimesOutliveTheEngine(t *testing.T) {
	const n = 200
	config := Config{Dir: t.TempDir()}
	e, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	q := e.Queue()
	pushFresh(t, q, n)
	var got []store.Delivery
	for len(got) < n {
		some, err := q.Pull(t.Context(), "a/f", n, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, some...)
	}
	late := time.Now().Add(time.Hour)
	together := 0
	for _, d := range got {
		if d.Ticket.(*ticket).alone { // its time is the server's business
			err = d.Ticket.Done()
		} else {
			together++
			err = d.Ticket.Later(time.Until(late))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if together == 0 {
		t.Fatalf("of %d events that waited at the same time none shared a pack", n)
	}
	if err := e.Close(); err != nil { // it writes what waits
		t.Fatal(err)
	}
	q = open(t, config).Queue()
	some, err := q.Pull(t.Context(), "a/f", n, 300*time.Millisecond)
	if err != nil || len(some) > 0 {
		t.Errorf("before their time came %d events, %v", len(some), err)
	}
	if d, err := q.Depth(t.Context(), "a/f"); err != nil || d.Held != together {
		t.Errorf("the lane holds %+v (%v), want %d", d, err, together)
	}
}

// TestPackOfALostReceiverComesAgain: until all of a pack has ended, none of it is forgotten.
func TestPackOfALostReceiverComesAgain(t *testing.T) {
	const n = 64
	q := open(t, Config{}).Queue()
	pushFresh(t, q, n)
	ended := map[string]bool{}
	for len(ended) < n {
		some, err := q.Pull(t.Context(), "a/f", n, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range some {
			ended[d.ID] = true
			if i < len(some)-1 {
				if err := d.Ticket.Done(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			// As if its receiver had died: the lease ends at once.
			if err := d.Ticket.(*ticket).later(0); err != nil {
				t.Fatal(err)
			}
		}
		if len(some) > 1 {
			break
		}
	}
	again, err := q.Pull(t.Context(), "a/f", n, 5*time.Second)
	if err != nil || len(again) == 0 {
		t.Fatalf("%d events came again, %v", len(again), err)
	}
	if d := again[len(again)-1]; d.Count != 2 {
		t.Errorf("its second delivery: %+v", d)
	}
}
