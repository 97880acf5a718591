package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"berth/store"
)

// watched follows a Watch on its own goroutine and checks its form: no doubles before ready, revisions in order after it.
type watched struct {
	t    *testing.T
	mu   sync.Mutex
	cond *sync.Cond

	state   map[store.Key]store.Entry
	ready   int            // calls
	at      store.Revision // the first ready's
	upTo    store.Revision // the last ready's
	last    store.Revision // of a change
	changes []store.Entry

	whole func(map[store.Key]store.Entry) error // checks the state at each ready; may be nil
}

func watch(t *testing.T, c store.Catalog, prefix string) *watched {
	return watchWhole(t, c, prefix, nil)
}

func watchWhole(t *testing.T, c store.Catalog, prefix string, whole func(map[store.Key]store.Entry) error) *watched {
	w := &watched{t: t, state: map[store.Key]store.Entry{}, whole: whole}
	w.cond = sync.NewCond(&w.mu)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Watch(ctx, prefix, w.each, w.progress); !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v, want context.Canceled", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

func (w *watched) each(e store.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ready == 0 {
		if _, twice := w.state[e.Key]; twice || e.Value == nil {
			w.t.Errorf("initial entry %q: twice %v, deleted %v", e.Key, twice, e.Value == nil)
		}
	} else {
		if e.Revision <= w.last || e.Revision <= w.at {
			w.t.Errorf("change of %q at %d after %d (ready at %d)", e.Key, e.Revision, w.last, w.at)
		}
		w.last = e.Revision
		w.changes = append(w.changes, e)
	}
	if e.Value == nil {
		delete(w.state, e.Key)
	} else {
		w.state[e.Key] = e
	}
}

func (w *watched) progress(r store.Revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ready == 0 {
		w.at = r
		for k, e := range w.state {
			if e.Revision > r {
				w.t.Errorf("initial entry %q is of %d, after ready's %d", k, e.Revision, r)
			}
		}
	} else if r < w.upTo || r < w.last {
		w.t.Errorf("ready(%d) after ready(%d) and a change at %d", r, w.upTo, w.last)
	}
	if w.whole != nil {
		if err := w.whole(w.state); err != nil {
			w.t.Errorf("at ready(%d), the %d. one: %v", r, w.ready, err)
		}
	}
	w.ready++
	w.upTo = r
	w.cond.Broadcast()
}

// wait returns when ready was called with r or more.
func (w *watched) wait(r store.Revision) {
	w.t.Helper()
	stop := time.AfterFunc(patience, func() {
		w.t.Errorf("the watch has not come to revision %d in %v", r, patience)
		w.cond.Broadcast()
	})
	defer stop.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for (w.ready == 0 || w.upTo < r) && !w.t.Failed() {
		w.cond.Wait()
	}
}

func (w *watched) value(k store.Key) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.state[k].Value)
}

func watchInOrder(t *testing.T, c store.Catalog) {
	empty := watch(t, c, "")
	empty.wait(0)
	must(t, c, store.Put("a", []byte("1")), store.Put("b", []byte("1")), store.Put("gone", []byte("1")))
	r := must(t, c, store.Delete("gone", store.Any), store.Put("a", []byte("2")))
	w := watch(t, c, "")
	w.wait(r)
	if len(w.changes) != 0 || len(w.state) != 2 || w.value("a") != "2" || w.at < r {
		t.Fatalf("initial state %v with changes %v at %d, want a=2 b=1 at %d", w.state, w.changes, w.at, r)
	}
	ra := must(t, c, store.Put("a", []byte("3")))
	rb := must(t, c, store.Delete("b", store.Any))
	r = must(t, c, store.Put("b", []byte("4")), store.Put("c", []byte{}), store.Delete("a", ra))
	for _, each := range []*watched{empty, w} {
		each.wait(r)
		if each.value("b") != "4" || len(each.state) != 2 || each.state["c"].Value == nil {
			t.Fatalf("state is %v, want b=4 and an empty c", each.state)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, e := range w.changes {
		got = append(got, fmt.Sprintf("%s=%s", e.Key, e.Value))
	}
	want := "[a=3 b= b=4 c= a=]"
	if fmt.Sprint(got) != want || w.changes[0].Revision != ra || w.changes[1].Revision != rb || w.changes[4].Value != nil {
		t.Fatalf("changes %v from %d, want %v from %d", got, w.changes[0].Revision, want, ra)
	}
}

func watchPrefix(t *testing.T, c store.Catalog) {
	must(t, c, store.Put("fn/1/a", []byte("1")), store.Put("fn/10/a", []byte("1")), store.Put("fn", []byte("1")),
		store.Put("fn/1", []byte("1")), store.Put("fo/1/a", []byte("1")))
	w := watch(t, c, "fn/1/")
	w.wait(0)
	if len(w.state) != 1 || w.value("fn/1/a") != "1" {
		t.Fatalf("state under fn/1/ is %v", w.state)
	}
	must(t, c, store.Put("fn/10/a", []byte("2")), store.Put("fn/1/b", []byte("2")), store.Delete("fn", store.Any))
	r := must(t, c, store.Put("fn/10/b", []byte("3"))) // outside: the watch must pass it nevertheless
	w.wait(r)
	if len(w.changes) != 1 || w.value("fn/1/b") != "2" {
		t.Fatalf("changes under fn/1/ are %v", w.changes)
	}
}

// watchHasNoGap starts watches while writers change, delete and create: in the end each must have the catalog's own state,
// and never one half of a batch.
func watchHasNoGap(t *testing.T, c store.Catalog) {
	var seed []store.Op
	for i := range store.MaxOps {
		seed = append(seed, store.Put(store.Key(fmt.Sprint("seed/", i)), []byte("0")))
	}
	must(t, c, seed...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k, v := fmt.Sprint(g, "-", i%40), []byte(fmt.Sprint(i))
				ops := []store.Op{store.Put(store.Key("left/"+k), v), store.Put(store.Key("right/"+k), v),
					store.Put(store.Key(fmt.Sprint("seed/", (i*7+g)%store.MaxOps)), v)}
				if i%5 == 4 {
					ops[0].Value, ops[1].Value = nil, nil
				}
				if _, err := c.Apply(t.Context(), ops...); err != nil {
					t.Errorf("Apply: %v", err)
					return
				}
			}
		})
	}
	var watches []*watched
	for range 6 {
		before := must(t, c, store.Put("mark", []byte("x")))
		w := watchWhole(t, c, "", pairsAreWhole)
		w.wait(0)
		if w.at < before {
			t.Errorf("a watch begins at %d, after a write of %d was acknowledged", w.at, before)
		}
		w.wait(w.at + 30)
		watches = append(watches, w)
	}
	close(stop)
	wg.Wait()
	end := must(t, c, store.Put("end", []byte("x")))
	for _, w := range watches {
		w.wait(end)
		compare(t, c, w)
	}
}

func pairsAreWhole(state map[store.Key]store.Entry) error {
	for g := range 3 {
		for i := range 40 {
			k := fmt.Sprint(g, "-", i)
			if l, r := state[store.Key("left/"+k)], state[store.Key("right/"+k)]; string(l.Value) != string(r.Value) {
				return fmt.Errorf("a batch is torn: left/%s is %q, right/%s is %q", k, l.Value, k, r.Value)
			}
		}
	}
	return nil
}

func compare(t *testing.T, c store.Catalog, w *watched) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for g := range 3 {
		for i := range 40 {
			l := store.Key(fmt.Sprintf("left/%d-%d", g, i))
			e, err := c.Get(t.Context(), l)
			if errors.Is(err, store.ErrNotFound) {
				e.Value = nil
			} else if err != nil {
				t.Fatalf("Get(%q): %v", l, err)
			}
			if got := w.state[l]; string(got.Value) != string(e.Value) || got.Revision != e.Revision {
				t.Errorf("%q is %q at %d, the watch (ready at %d) has %q at %d", l, e.Value, e.Revision, w.at, got.Value, got.Revision)
			}
		}
	}
	for i := range store.MaxOps {
		k := store.Key(fmt.Sprint("seed/", i))
		if _, ok := w.state[k]; !ok {
			t.Errorf("the watch misses %q", k)
		}
	}
}

func watchEnds(t *testing.T, c store.Catalog) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Watch(ctx, "", func(store.Entry) {}, func(store.Revision) { cancel() })
	}()
	select {
	case err := <-done:
		wantErr(t, "Watch after cancel", err, context.Canceled)
	case <-time.After(patience):
		t.Fatal("Watch goes on after its context ended")
	}
}
