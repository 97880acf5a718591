package jetstream

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nuid"

	"berth/store"
)

// TestWritesWaitForALeader takes the server's JetStream away for a while, as the loss of a leader does: writes wait, and
// mirrors go on afterwards.
func TestWritesWaitForALeader(t *testing.T) {
	e := open(t, Config{})
	first := apply(t, e, store.Create("a", []byte("1")))
	m := store.NewMirror(e.Catalog(), "", func(e store.Entry) (string, error) { return string(e.Value), nil })
	mirroring, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(mirroring) })
	defer running.Wait()
	defer stop()
	<-m.Ready()
	config := e.server.JetStreamConfig()
	config.StoreDir = e.dir.data() // it has the server's own subdirectory at its end
	if err := e.server.DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if r, err := e.Catalog().Apply(t.Context(), store.Update("a", []byte("2"), first)); err != nil || r <= first {
			t.Errorf("single write: %d, %v", r, err)
		}
	})
	wg.Go(func() {
		if _, err := e.Catalog().Apply(t.Context(), store.Create("b", []byte("2")), store.Create("c", []byte("2"))); err != nil {
			t.Errorf("batch: %v", err)
		}
	})
	wg.Go(func() {
		if _, _, err := e.Blobs().Put(t.Context(), bytes.NewReader(make([]byte, 400_000))); err != nil {
			t.Errorf("blob: %v", err)
		}
	})
	time.Sleep(300 * time.Millisecond) // that long there is no leader
	if err := e.server.EnableJetStream(config); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got, err := e.Catalog().Get(t.Context(), "a"); err != nil || string(got.Value) != "2" {
		t.Errorf("the updated entry is %q, %v", got.Value, err)
	}
	last := apply(t, e, store.Put("d", []byte("2")), store.Delete("a", store.Any))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := m.WaitRevision(ctx, last); err != nil || m.Len() != 3 {
		t.Errorf("the mirror is at %d of %d with %d entries: %v", m.Revision(), last, m.Len(), err)
	}
	for _, k := range []store.Key{"b", "c", "d"} {
		if v, _, _ := m.Get(k); v != "2" {
			t.Errorf("in the end %q is %q", k, v)
		}
	}
}

// TestLostAnswer repeats writes whose answer did not come: the one that was applied is told from the one that was not.
func TestLostAnswer(t *testing.T) {
	e := open(t, Config{})
	c := e.catalog
	for _, ops := range [][]store.Op{
		{store.Create("single", []byte("1"))},
		{store.Create("b1", []byte("1")), store.Create("b2", []byte("1"))},
	} {
		messages := c.messages(ops, nil, nuid.Next())
		want, err := c.try(t.Context(), messages)
		if err != nil {
			t.Fatal(err)
		}
		if len(messages) > 1 {
			setBatch(messages, nuid.Next())
		}
		_, answer := c.try(t.Context(), messages)
		last := messages[len(messages)-1]
		if answer == nil {
			t.Fatalf("a repeated create of %d succeeded", len(ops))
		}
		if got, err := c.settle(t.Context(), last, answer); got != want || err != nil {
			t.Errorf("a write that was applied: %d, %v; want %d", got, err, want)
		}
		apply(t, e, store.Put(ops[len(ops)-1].Key, []byte("another")))
		if _, err := c.settle(t.Context(), last, store.ErrConflict); err == nil || errors.Is(err, store.ErrConflict) {
			t.Errorf("a write of unknown fate: %v, want an error that is no conflict", err)
		}
	}
}

func TestWritesStopBeforeTheDiskIsFull(t *testing.T) {
	e := open(t, Config{MinFree: 1 << 60})
	_, err := e.Catalog().Apply(t.Context(), store.Put("a", []byte("1")))
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("Apply: %v", err)
	}
	if _, _, err = e.Blobs().Put(t.Context(), bytes.NewReader([]byte("x"))); !errors.Is(err, store.ErrFull) {
		t.Errorf("Put: %v", err)
	}
	if all := everything(t, e); len(all) != 0 {
		t.Errorf("something was written: %v", all)
	}
}
