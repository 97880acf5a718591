// Package storetest is the contract of store's two ports as tests, run by every implementation.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/store"
)

// patience bounds each wait of the suite; only a failing test waits so long.
const patience = 20 * time.Second

// Catalog runs the suite; open returns an empty catalog, and closes it by t.Cleanup.
func Catalog(t *testing.T, open func(t *testing.T) store.Catalog) {
	for name, test := range map[string]func(*testing.T, store.Catalog){
		"GetAfterApply":       getAfterApply,
		"Expectations":        expectations,
		"RecreateAfterDelete": recreateAfterDelete,
		"BatchIsAtomic":       batchIsAtomic,
		"BigBatch":            bigBatch,
		"Refused":             refused,
		"OneWinner":           oneWinner,
		"CountersAddUp":       countersAddUp,
		"Watch":               watchInOrder,
		"WatchPrefix":         watchPrefix,
		"WatchHasNoGap":       watchHasNoGap,
		"WatchEndsWithCtx":    watchEnds,
		"MirrorSeesOwnWrite":  mirrorSeesOwnWrite,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func must(t *testing.T, c store.Catalog, ops ...store.Op) store.Revision {
	t.Helper()
	r, err := c.Apply(t.Context(), ops...)
	if err != nil {
		t.Fatalf("Apply(%d ops, first %q): %v", len(ops), ops[0].Key, err)
	}
	return r
}

func get(t *testing.T, c store.Catalog, k store.Key) store.Entry {
	t.Helper()
	e, err := c.Get(t.Context(), k)
	if err != nil {
		t.Fatalf("Get(%q): %v", k, err)
	}
	return e
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

func getAfterApply(t *testing.T, c store.Catalog) {
	_, err := c.Get(t.Context(), "a/b")
	wantErr(t, "Get of nothing", err, store.ErrNotFound)
	var last store.Revision
	for i, v := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{0, 255}, store.MaxValue/2), []byte("four")} {
		r := must(t, c, store.Put("a/b", v))
		if r <= last {
			t.Fatalf("revision %d after %d", r, last)
		}
		e := get(t, c, "a/b")
		if e.Key != "a/b" || !bytes.Equal(e.Value, v) || e.Value == nil || e.Revision != r {
			t.Fatalf("write %d: got key %q, %d bytes (nil: %v), revision %d; want %d bytes, revision %d",
				i, e.Key, len(e.Value), e.Value == nil, e.Revision, len(v), r)
		}
		last = r
	}
	must(t, c, store.Delete("a/b", last))
	_, err = c.Get(t.Context(), "a/b")
	wantErr(t, "Get after Delete", err, store.ErrNotFound)
	_, err = c.Get(t.Context(), "a")
	wantErr(t, "Get of a parent", err, store.ErrNotFound)
}

func expectations(t *testing.T, c store.Catalog) {
	apply := func(op store.Op) error { _, err := c.Apply(t.Context(), op); return err }
	r := must(t, c, store.Create("k", []byte("1")))
	wantErr(t, "second Create", apply(store.Create("k", []byte("2"))), store.ErrConflict)
	wantErr(t, "Update with a wrong revision", apply(store.Update("k", []byte("2"), r+1)), store.ErrConflict)
	wantErr(t, "Update of nothing", apply(store.Update("none", []byte("2"), r)), store.ErrConflict)
	wantErr(t, "Delete with a wrong revision", apply(store.Delete("k", r+1)), store.ErrConflict)
	wantErr(t, "Delete of what must be absent", apply(store.Delete("k", store.Absent)), store.ErrConflict)
	if e := get(t, c, "k"); string(e.Value) != "1" || e.Revision != r {
		t.Fatalf("a refused write changed the entry: %q at %d", e.Value, e.Revision)
	}
	r2 := must(t, c, store.Update("k", []byte("2"), r))
	wantErr(t, "Update with an old revision", apply(store.Update("k", []byte("3"), r)), store.ErrConflict)
	must(t, c, store.Put("k", []byte("3")))
	wantErr(t, "Delete with an old revision", apply(store.Delete("k", r2)), store.ErrConflict)
	must(t, c, store.Delete("k", store.Any))
	must(t, c, store.Delete("k", store.Any))
	must(t, c, store.Delete("never", store.Any))
}

func recreateAfterDelete(t *testing.T, c store.Catalog) {
	r := must(t, c, store.Create("k", []byte("1")), store.Create("other", []byte("1")))
	for range 3 {
		must(t, c, store.Delete("k", store.Any))
		_, err := c.Apply(t.Context(), store.Update("k", []byte("x"), r))
		wantErr(t, "Update after Delete", err, store.ErrConflict)
		_, err = c.Apply(t.Context(), store.Create("k", []byte("x")), store.Create("other", []byte("x")))
		wantErr(t, "batch with one Create too many", err, store.ErrConflict)
		must(t, c, store.Create("k", []byte("2")), store.Create("fresh", []byte("2")))
		must(t, c, store.Delete("fresh", store.Any), store.Delete("gone", store.Absent))
		_, err = c.Apply(t.Context(), store.Create("k", []byte("x")))
		wantErr(t, "Create after Create", err, store.ErrConflict)
	}
}

func batchIsAtomic(t *testing.T, c store.Catalog) {
	ra := must(t, c, store.Create("a", []byte("1")))
	must(t, c, store.Create("b", []byte("1")))
	before := get(t, c, "b")
	for i, bad := range []store.Op{store.Create("b", []byte("2")), store.Update("b", []byte("2"), ra), store.Delete("b", ra)} {
		for at := range 3 {
			ops := []store.Op{store.Put("c", []byte("2")), store.Update("a", []byte("2"), ra)}
			ops = append(ops[:min(at, 2)], append([]store.Op{bad}, ops[min(at, 2):]...)...)
			_, err := c.Apply(t.Context(), ops...)
			wantErr(t, fmt.Sprintf("batch with bad op %d at %d", i, at), err, store.ErrConflict)
		}
	}
	if _, err := c.Get(t.Context(), "c"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a refused batch wrote c: %v", err)
	}
	if a, b := get(t, c, "a"), get(t, c, "b"); string(a.Value) != "1" || b.Revision != before.Revision {
		t.Fatalf("a refused batch changed a to %q or b to revision %d", a.Value, b.Revision)
	}
	r := must(t, c, store.Update("a", []byte("2"), ra), store.Delete("b", before.Revision), store.Create("c", []byte("2")))
	_, err := c.Get(t.Context(), "b")
	wantErr(t, "Get of what the batch deleted", err, store.ErrNotFound)
	if a, cc := get(t, c, "a"), get(t, c, "c"); a.Revision <= before.Revision || cc.Revision <= before.Revision ||
		max(a.Revision, cc.Revision) > r || string(a.Value) != "2" || string(cc.Value) != "2" {
		t.Fatalf("after batch %d: a %q at %d, c %q at %d", r, a.Value, a.Revision, cc.Value, cc.Revision)
	}
}

func bigBatch(t *testing.T, c store.Catalog) {
	ops := make([]store.Op, store.MaxOps)
	for i := range ops {
		ops[i] = store.Create(store.Key(fmt.Sprintf("n/%d", i)), bytes.Repeat([]byte{byte(i)}, 1200))
	}
	r := must(t, c, ops...)
	if e := get(t, c, ops[len(ops)-1].Key); e.Revision != r {
		t.Fatalf("the last of a batch has revision %d, Apply returned %d", e.Revision, r)
	}
	for i := range ops {
		ops[i] = store.Delete(ops[i].Key, store.Any)
	}
	must(t, c, ops...)
	_, err := c.Get(t.Context(), "n/0")
	wantErr(t, "Get after deleting all", err, store.ErrNotFound)
}

func refused(t *testing.T, c store.Catalog) {
	long := store.Key(strings.Repeat("k", store.MaxKey+1))
	for _, k := range []store.Key{"", "/", "a/", "/a", "a//b", "a.b", "a b", "a*", ">", "ä", "a\n", "a\x00", long} {
		_, err := c.Get(t.Context(), k)
		wantErr(t, fmt.Sprintf("Get(%q)", k), err, store.ErrInvalid)
		_, err = c.Apply(t.Context(), store.Put(k, []byte("x")))
		wantErr(t, fmt.Sprintf("Put(%q)", k), err, store.ErrInvalid)
	}
	for _, p := range []string{"a", "/", "a.b/", "a//"} {
		wantErr(t, fmt.Sprintf("Watch(%q)", p), c.Watch(t.Context(), p, nil, nil), store.ErrInvalid)
	}
	var many, heavy []store.Op
	for i := range store.MaxOps + 1 {
		many = append(many, store.Put(store.Key(fmt.Sprint("m", i)), []byte("x")))
	}
	for i := range store.MaxBatch/store.MaxValue + 1 {
		heavy = append(heavy, store.Put(store.Key(fmt.Sprint("h", i)), make([]byte, store.MaxValue)))
	}
	for name, ops := range map[string][]store.Op{
		"no ops": nil, "too many ops": many, "too heavy a batch": heavy,
		"a key twice":     {store.Put("a", []byte("1")), store.Put("a", []byte("2"))},
		"too big a value": {store.Put("a", make([]byte, store.MaxValue+1))},
	} {
		_, err := c.Apply(t.Context(), ops...)
		wantErr(t, name, err, store.ErrInvalid)
	}
	must(t, c, store.Put(store.Key(strings.Repeat("k/", store.MaxKey/2-1)+"k"), []byte("deep")),
		store.Put("Az_09=-", []byte("every kind of character")))
}

func oneWinner(t *testing.T, c store.Catalog) {
	for round := range 10 {
		key, wins := store.Key(fmt.Sprint("race/", round)), make(chan int, 8)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				ops := []store.Op{store.Create(key, []byte{byte(i)})}
				if i%2 == 0 { // batches and single writes race each other
					ops = append(ops, store.Put(store.Key(fmt.Sprint("side/", round, "-", i)), []byte("x")))
				}
				_, err := c.Apply(t.Context(), ops...)
				switch {
				case err == nil:
					wins <- i
				case !errors.Is(err, store.ErrConflict):
					t.Errorf("Create: %v", err)
				}
			})
		}
		wg.Wait()
		close(wins)
		if len(wins) != 1 {
			t.Fatalf("%d of 8 concurrent Creates won", len(wins))
		}
		if winner := <-wins; get(t, c, key).Value[0] != byte(winner) {
			t.Fatalf("the entry is not the winner's")
		}
	}
}

// countersAddUp increments two counters in one batch from many goroutines: lost updates or torn batches show in the sums.
func countersAddUp(t *testing.T, c store.Catalog) {
	const writers, each = 4, 15
	must(t, c, store.Create("x", []byte{0}), store.Create("y", []byte{0}))
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each && !t.Failed(); {
				x, err := c.Get(t.Context(), "x")
				y, err2 := c.Get(t.Context(), "y")
				if err = errors.Join(err, err2); err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				_, err = c.Apply(t.Context(), store.Update("x", []byte{x.Value[0] + 1}, x.Revision),
					store.Update("y", []byte{y.Value[0] + 1}, y.Revision))
				if err == nil {
					done++
				} else if !errors.Is(err, store.ErrConflict) {
					t.Errorf("Apply: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if x, y := get(t, c, "x").Value[0], get(t, c, "y").Value[0]; x != writers*each || y != writers*each {
		t.Fatalf("counters are %d and %d, want %d", x, y, writers*each)
	}
}

func mirrorSeesOwnWrite(t *testing.T, c store.Catalog) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	m := store.NewMirror(c, "fn/", func(e store.Entry) (string, error) { return string(e.Value), nil })
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	for i := range 50 {
		k, v := store.Key(fmt.Sprint("fn/", i%5)), fmt.Sprint(i)
		r := must(t, c, store.Put(k, []byte(v)), store.Put("elsewhere/k", []byte(v)))
		if i%2 == 0 {
			r = must(t, c, store.Put("elsewhere/l", []byte(v)))
		}
		if err := m.WaitRevision(ctx, r); err != nil {
			t.Fatalf("WaitRevision(%d) at %d: %v", r, m.Revision(), err)
		}
		if got, _, ok := m.Get(k); !ok || got != v {
			t.Fatalf("the mirror has %q, %v after a write of %q", got, ok, v)
		}
	}
}
