package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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

// pullAll takes n events of a lane, which holds no more.
func pullAll(t *testing.T, q store.Queue, l store.Lane, n int) (got []store.Delivery) {
	t.Helper()
	for len(got) < n {
		some, err := q.Pull(t.Context(), l, n, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, some...)
	}
	return got
}

// TestTimesOutliveTheEngine: what was told to wait, and came out of a pack for it, waits on after a restart: each event is stored
// once, with its time. How long the disk takes is not tested.
func TestTimesOutliveTheEngine(t *testing.T) {
	const n = 200
	config := Config{Dir: t.TempDir()}
	e, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	e.queue.closeLimit = time.Minute
	q := e.Queue()
	pushFresh(t, q, n)
	got := pullAll(t, q, "a/f", n)
	late := time.Now().Add(time.Hour)
	together, want := 0, map[string]int{}
	for _, d := range got {
		if d.Ticket.(*ticket).alone { // its time is the server's business
			err = d.Ticket.Done()
		} else {
			together++
			want[d.ID] = 1
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
	e = open(t, config)
	if stored := storedTimes(t, e.queue.partition("a/f"), late); !maps.Equal(stored, want) {
		t.Errorf("%d events are stored, want these %d once each: %v", len(stored), len(want), stored)
	}
	q = e.Queue()
	some, err := q.Pull(t.Context(), "a/f", n, 300*time.Millisecond)
	if err != nil || len(some) > 0 {
		t.Errorf("before their time came %d events, %v", len(some), err)
	}
	if d, err := q.Depth(t.Context(), "a/f"); err != nil || d.Held != together {
		t.Errorf("the lane holds %+v (%v), want %d", d, err, together)
	}
}

// storedTimes counts the events of a partition by their ids. All must have a time near late.
func storedTimes(t *testing.T, p *partition, late time.Time) map[string]int {
	t.Helper()
	info, err := p.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]int{}
	for sequence := info.State.FirstSeq; sequence <= info.State.LastSeq; sequence++ {
		m, err := p.stream.GetMsg(t.Context(), sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		value, err := decodeRecord(m.Subject, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		members, err := decodePack(value)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range members {
			stored[one.id]++
			if off := one.due.Sub(late); off.Abs() > time.Second { // the clock may be set meanwhile
				t.Errorf("%s may be delivered %v after its time", one.id, off)
			}
		}
	}
	return stored
}

// TestAnswersOutliveTheEngine: what was done just before Close is not delivered again, of whatever lane; and Close does not wait
// for lanes whose consumers are gone.
func TestAnswersOutliveTheEngine(t *testing.T) {
	const lanes = 40
	config := Config{Dir: t.TempDir()}
	e, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	e.queue.closeLimit = time.Minute
	var got []store.Delivery
	for i := range lanes {
		l := store.Lane(fmt.Sprint("a/f", i))
		for j := range 3 { // one after the other: no pack holds two
			if err := e.Queue().Push(t.Context(), store.Message{ID: fmt.Sprint(i, ".", j), Lane: l, Data: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, pullAll(t, e.Queue(), l, 3)...)
	}
	for i, d := range got {
		if i%3 == 1 {
			err = d.Ticket.Later(time.Hour)
		} else {
			err = d.Ticket.Done()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	gone := store.Lane("a/f7")
	if err := e.queue.partition(gone).stream.DeleteConsumer(t.Context(), consumerName(gone)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > e.queue.closeLimit/2 {
		t.Errorf("it took %v to close", took)
	}
	q := open(t, config).Queue()
	for i := range lanes {
		l := store.Lane(fmt.Sprint("a/f", i))
		if d, err := q.Depth(t.Context(), l); err != nil || d.Held != 1 && l != gone {
			t.Errorf("%s holds %+v (%v), want the one that is to come later", l, d, err)
		}
	}
}

// TestPackOfALostReceiverComesAgain: until all of a pack has ended, none of it is forgotten.
func TestPackOfALostReceiverComesAgain(t *testing.T) {
	const n = 64
	q := open(t, Config{}).Queue()
	pushFresh(t, q, n)
	packs := map[*delivered][]store.Delivery{}
	for _, d := range pullAll(t, q, "a/f", n) {
		of := d.Ticket.(*ticket).delivered
		packs[of] = append(packs[of], d)
	}
	lost := map[string]bool{} // of the packs that had several: the last of each has not ended
	for _, pack := range packs {
		for i, d := range pack {
			var err error
			if last := len(pack) - 1; i < last || last == 0 {
				err = d.Ticket.Done()
			} else { // as if its receiver had died: the lease ends at once
				err = d.Ticket.(*ticket).later(0)
			}
			if lost[d.ID] = len(pack) > 1; err != nil {
				t.Fatal(err)
			}
		}
	}
	maps.DeleteFunc(lost, func(_ string, several bool) bool { return !several })
	if len(lost) == 0 {
		t.Fatalf("of %d events that waited at the same time none shared a pack", n)
	}
	for _, d := range pullAll(t, q, "a/f", len(lost)) {
		if !lost[d.ID] || d.Count != 2 {
			t.Errorf("came again: %+v", d)
		}
		delete(lost, d.ID)
	}
	if len(lost) > 0 {
		t.Errorf("%d events did not come again: %v", len(lost), lost)
	}
}
