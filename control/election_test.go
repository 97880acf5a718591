package control

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/store"
	"berth/store/memory"
)

// candidate is one process that takes part in the election.
type candidate struct {
	*Control
	works atomic.Int32 // runs of its task that go on
	stop  func()
}

// stand lets a process take part. Its store can be cut off.
func stand(t *testing.T, s store.Catalog, id string, alive func(string) bool) *candidate {
	c := &candidate{}
	c.Control = New(Config{ID: id, Store: s, Alive: alive, Log: slog.New(slog.DiscardHandler), Tasks: []Task{{Name: "work", Run: func(ctx context.Context) error {
		c.works.Add(1)
		defer c.works.Add(-1)
		<-ctx.Done()
		return nil
	}}}})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { _ = c.Run(ctx) })
	c.stop = func() { cancel(); done.Wait() }
	t.Cleanup(c.stop)
	return c
}

// away is a store that can be cut off.
type away struct {
	store.Catalog
	cut atomic.Bool
}

var errAway = errors.New("the engine is away")

func (a *away) Get(ctx context.Context, k store.Key) (store.Entry, error) {
	if a.cut.Load() {
		return store.Entry{}, errAway
	}
	return a.Catalog.Get(ctx, k)
}

func (a *away) Apply(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	if a.cut.Load() {
		return 0, errAway
	}
	return a.Catalog.Apply(ctx, ops...)
}

func TestOneIsElected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewCatalog()
		a := stand(t, s, "a", nil)
		synctest.Wait()
		b := stand(t, s, "b", nil)
		time.Sleep(10 * time.Minute)
		if !a.Elected() || a.works.Load() != 1 || b.Elected() || b.works.Load() != 0 {
			t.Fatalf("a is elected: %v, b: %v", a.Elected(), b.Elected())
		}
		a.stop()
		if a.works.Load() != 0 {
			t.Error("Run returned before its tasks")
		}
		time.Sleep(2 * lookEvery)
		if !b.Elected() {
			t.Error("a lease that was given back is not taken")
		}
	})
}

func TestAStaleLeaseIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewCatalog()
		broken := &away{Catalog: s}
		a := stand(t, broken, "a", nil)
		synctest.Wait()
		b := stand(t, s, "b", nil)
		time.Sleep(time.Minute)
		broken.cut.Store(true)
		began := time.Now()
		for !b.Elected() && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
			if a.Elected() && b.Elected() {
				t.Fatal("two are elected")
			}
		}
		if took := time.Since(began); took < leaseTime-renewEvery || took > leaseTime+2*lookEvery {
			t.Errorf("taken over after %v, the lease is %v", took, leaseTime)
		}
		if a.Elected() {
			t.Error("who cannot renew its lease goes on")
		}
	})
}

func TestASilentHolderIsReplacedSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewCatalog()
		var dead atomic.Bool
		broken := &away{Catalog: s}
		stand(t, broken, "a", nil)
		synctest.Wait()
		b := stand(t, s, "b", func(holder string) bool { return holder != "a" || !dead.Load() })
		time.Sleep(time.Minute)
		if b.Elected() {
			t.Fatal("taken from a living holder")
		}
		broken.cut.Store(true)
		dead.Store(true)
		time.Sleep(silentFor + 3*lookEvery)
		if !b.Elected() {
			t.Error("the silent holder's lease was not taken over")
		}
	})
}

func TestAnAbsentEngineEndsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &away{Catalog: memory.NewCatalog()}
		a := stand(t, s, "a", nil)
		synctest.Wait()
		b := stand(t, s, "b", nil)
		time.Sleep(time.Minute)
		s.cut.Store(true)
		time.Sleep(12 * time.Second) // as long as an election takes after all of the engine's servers restarted
		s.cut.Store(false)
		if !a.Elected() {
			t.Error("the holder gave up")
		}
		time.Sleep(time.Minute)
		if !a.Elected() || b.Elected() {
			t.Error("the lease changed hands")
		}
	})
}

// TestALostAnswerLosesNoLease: the write went through, its answer did not.
func TestALostAnswerLosesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &deaf{Catalog: memory.NewCatalog()}
		a := stand(t, s, "a", nil)
		synctest.Wait()
		time.Sleep(time.Minute)
		if !a.Elected() {
			t.Fatal("not elected")
		}
		for range 5 {
			s.deaf.Store(true)
			time.Sleep(2 * renewEvery)
			s.deaf.Store(false)
			time.Sleep(2 * renewEvery)
			if a.works.Load() != 1 {
				t.Error("the lease was lost")
			}
		}
	})
}

// deaf applies writes and loses the answers.
type deaf struct {
	store.Catalog
	deaf atomic.Bool
}

func (d *deaf) Apply(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	r, err := d.Catalog.Apply(ctx, ops...)
	if d.deaf.Load() {
		return 0, errAway
	}
	return r, err
}

func TestAloneNeedsNoElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := stand(t, nil, "a", nil)
		synctest.Wait()
		if !a.Elected() || a.works.Load() != 1 {
			t.Error("the tasks do not run")
		}
	})
}

func TestATaskThatEndsIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		c := New(Config{Log: slog.New(slog.DiscardHandler), Tasks: []Task{{Name: "fails", Run: func(context.Context) error {
			runs.Add(1)
			return errors.New("broken")
		}}}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n := runs.Load(); n < 20 || n > 30 { // 1, 2, 4, 8, 16 s, then every 30 s
			t.Errorf("%d runs in ten minutes", n)
		}
	})
}
