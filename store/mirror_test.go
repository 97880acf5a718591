package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/store"
	"berth/store/memory"
)

func number(e store.Entry) (int, error) { return strconv.Atoi(string(e.Value)) }

// run starts a mirror and ends it with the test.
func run[T any](t *testing.T, m *store.Mirror[T]) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func apply(t testing.TB, c store.Catalog, ops ...store.Op) store.Revision {
	t.Helper()
	r, err := c.Apply(context.Background(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func put(k string, v int) store.Op { return store.Put(store.Key(k), []byte(strconv.Itoa(v))) }

func ascend(m *store.Mirror[int], from store.Key, n int) (got []string) {
	m.Ascend(from, func(k store.Key, v int, r store.Revision) bool {
		got = append(got, fmt.Sprintf("%s=%d@%d", k, v, r))
		return len(got) < n
	})
	return got
}

func TestMirrorFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := memory.NewCatalog()
		apply(t, c, put("f/b", 2), put("f/a", 1), put("g/x", 9))
		m := store.NewMirror(c, "f/", number)
		if _, _, ok := m.Get("f/a"); ok || m.Len() != 0 || ascend(m, "", 9) != nil {
			t.Fatal("a mirror that does not run holds something")
		}
		run(t, m)
		<-m.Ready()
		if got := ascend(m, "", 9); !slices.Equal(got, []string{"f/a=1@2", "f/b=2@1"}) {
			t.Fatalf("initially %v", got)
		}
		apply(t, c, put("f/c", 3), store.Delete("f/a", 2), put("f/b", 4))
		r := apply(t, c, put("g/x", 8)) // outside of the prefix: the wait must end nevertheless
		if err := m.WaitRevision(t.Context(), r); err != nil || m.Revision() < r {
			t.Fatalf("WaitRevision: %v at %d", err, m.Revision())
		}
		if got := ascend(m, "f/b", 9); !slices.Equal(got, []string{"f/b=4@6", "f/c=3@4"}) || m.Len() != 2 {
			t.Fatalf("then %v, Len %d", got, m.Len())
		}
		if got := ascend(m, "", 1); len(got) != 1 {
			t.Fatalf("Ascend went on after false: %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := m.WaitRevision(ctx, r+1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("WaitRevision of the future: %v", err)
		}
	})
}

func TestMirrorDecodesOnceAndSkipsBadRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := memory.NewCatalog()
		apply(t, c, put("a", 1), store.Put("bad", []byte("x")), put("c", 3))
		var decoded atomic.Int32
		m := store.NewMirror(c, "", func(e store.Entry) (int, error) { decoded.Add(1); return number(e) })
		run(t, m)
		<-m.Ready()
		if decoded.Load() != 0 {
			t.Fatal("decoded before anybody asked")
		}
		for range 3 {
			if v, r, ok := m.Get("a"); v != 1 || r != 1 || !ok {
				t.Fatalf("a is %d at %d, %v", v, r, ok)
			}
			if _, _, ok := m.Get("bad"); ok {
				t.Fatal("a record that cannot be decoded is there")
			}
			if got := ascend(m, "", 9); len(got) != 2 {
				t.Fatalf("Ascend: %v", got)
			}
		}
		if decoded.Load() != 3 {
			t.Fatalf("%d decodings of 3 records", decoded.Load())
		}
		if err := m.WaitRevision(t.Context(), apply(t, c, put("bad", 5))); err != nil {
			t.Fatal(err)
		}
		if v, _, ok := m.Get("bad"); v != 5 || !ok {
			t.Fatalf("the repaired record is %d, %v", v, ok)
		}
		if n := testing.AllocsPerRun(100, func() { m.Get("a") }); n != 0 {
			t.Errorf("Get allocates %v times", n)
		}
	})
}

// breaking is a catalog whose feed breaks a few times before and after it is ready.
type breaking struct {
	store.Catalog
	watches atomic.Int32
	cut     chan struct{}
}

func (b *breaking) Watch(ctx context.Context, prefix string, each func(store.Entry), ready func(store.Revision)) error {
	if n := b.watches.Add(1); n%2 == 1 {
		each(store.Entry{Key: "half", Value: []byte("1"), Revision: 1})
		return errors.New("broken before ready")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-b.cut:
			cancel(errors.New("broken"))
		case <-ctx.Done():
		}
	}()
	if err := b.Catalog.Watch(ctx, prefix, each, ready); err != nil {
		return context.Cause(ctx)
	}
	return nil
}

func TestMirrorRewatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &breaking{Catalog: memory.NewCatalog(), cut: make(chan struct{})}
		apply(t, c, put("a", 1), put("b", 1))
		var decoded atomic.Int32
		m := store.NewMirror(c, "", func(e store.Entry) (int, error) { decoded.Add(1); return number(e) })
		run(t, m)
		<-m.Ready()
		for i := 2; i < 5; i++ {
			ascend(m, "", 9)
			c.cut <- struct{}{}
			synctest.Wait() // it waits to watch again: reads go on, writes are not seen
			r := apply(t, c, put("a", i), store.Delete("b", store.Any), put(fmt.Sprint("new", i), i))
			if v, _, _ := m.Get("a"); v != i-1 {
				t.Fatalf("while broken, a is %d, want %d", v, i-1)
			}
			start := time.Now()
			if err := m.WaitRevision(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(start); waited > time.Second {
				t.Errorf("the mirror took %v to watch again", waited)
			}
			if got := ascend(m, "", 9); len(got) != i || got[0][:3] != fmt.Sprintf("a=%d", i) {
				t.Fatalf("after watching again: %v", got)
			}
			if _, _, ok := m.Get("half"); ok {
				t.Fatal("half a state became visible")
			}
		}
		if n := decoded.Load(); n != 2+3*2 { // what did not change is not decoded again
			t.Errorf("%d decodings, want 8", n)
		}
	})
}

// TestMirrorIsAlwaysWhole reads while batches move a unit between two entries: every reader must see the same sum.
func TestMirrorIsAlwaysWhole(t *testing.T) {
	c := memory.NewCatalog()
	apply(t, c, put("a", 1000), put("b", 0))
	m := store.NewMirror(c, "", number)
	run(t, m)
	<-m.Ready()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				sum := 0
				m.Ascend("", func(_ store.Key, v int, _ store.Revision) bool { sum += v; return true })
				if sum != 1000 {
					t.Errorf("a reader saw a sum of %d", sum)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 1000 {
		r := apply(t, c, put("a", 999-i), put("b", i+1))
		if i%10 == 0 {
			if err := m.WaitRevision(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if v, _, _ := m.Get("b"); v != i+1 {
				t.Fatalf("own write: b is %d, want %d", v, i+1)
			}
		}
	}
	close(stop)
	wg.Wait()
}

func TestFeedCutsOffWhoFallsBehind(t *testing.T) {
	c := memory.NewCatalog()
	blocked, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- c.Watch(context.Background(), "", func(store.Entry) {}, func(r store.Revision) {
			if r == 0 {
				close(blocked)
				<-release
			}
		})
	}()
	<-blocked
	ops := make([]store.Op, store.MaxOps)
	for i := range ops {
		ops[i] = put(fmt.Sprint("k", i), i)
	}
	for range 100_000/len(ops) + 1 {
		apply(t, c, ops...)
	}
	close(release)
	if err := <-done; err == nil {
		t.Fatal("a watcher that fell behind was not cut off")
	}
}

func BenchmarkMirror(b *testing.B) {
	c := memory.NewCatalog()
	var ops []store.Op
	for i := range 100_000 {
		if ops = append(ops, put(fmt.Sprintf("function/000000000001/name-%06d", i), i)); len(ops) == store.MaxOps {
			apply(b, c, ops...)
			ops = ops[:0]
		}
	}
	start := func(b *testing.B) (*store.Mirror[int], func()) {
		m := store.NewMirror(c, "function/", number)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = m.Run(ctx) })
		<-m.Ready()
		return m, func() { cancel(); wg.Wait() }
	}
	b.Run("Fill100k", func(b *testing.B) {
		for b.Loop() {
			_, stop := start(b)
			stop()
		}
	})
	m, stop := start(b)
	defer stop()
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Get("function/000000000001/name-054321")
		}
	})
	b.Run("PageOf50", func(b *testing.B) {
		for b.Loop() {
			n := 0
			m.Ascend("function/000000000001/name-054321", func(store.Key, int, store.Revision) bool { n++; return n < 50 })
		}
	})
}
