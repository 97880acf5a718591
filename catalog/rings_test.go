package catalog

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/lambda"
	"berth/ring"
	"berth/store"
)

func makeRing(t *testing.T, c *Catalog, from ring.Version, quota int, members ...lambda.ManagerID) *RingVersion {
	t.Helper()
	v, err := c.MakeRing(t.Context(), from, RingSpec{Members: members, Quota: quota, Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestC1_ADeployedSetIsANewVersion: version n+1 records its quota and the versions before it.
func TestC1_ADeployedSetIsANewVersion(t *testing.T) {
	overStores(t, func(t *testing.T, newStore func(testing.TB) store.Catalog) {
		s := newStore(t)
		c := open(t, s)
		history, newer := c.Rings()
		if history.Current.Len() != 0 || history.Current.Version() != 0 || c.RingVersion() != nil {
			t.Fatalf("before the first version: %d managers, version %d", history.Current.Len(), history.Current.Version())
		}
		makeRing(t, c, 0, 10, "b", "a")
		select {
		case <-newer:
		default:
			t.Error("whoever waits for a newer ring was not told")
		}
		makeRing(t, c, 1, 40, "c")
		history, _ = c.Rings()
		if h := history; h.Current.Version() != 2 || !slices.Equal(h.Current.Members(), []lambda.ManagerID{"c"}) ||
			h.Current.EffectiveQuota(40) != 40 || len(h.Earlier) != 1 || h.Earlier[0].EffectiveQuota(10) != 10 {
			t.Errorf("history %+v", h)
		}
		now, all := c.RingVersion(), c.RingVersions()
		if now.Version != 2 || now.Quota != 40 || !slices.Equal(now.Previous, []ring.Version{1}) || len(all) != 2 {
			t.Errorf("version %+v of %d", now, len(all))
		}
		if old := all[1]; old.State != RingSuperseded || !slices.Equal(old.Members, []lambda.ManagerID{"a", "b"}) || old.Ended.IsZero() {
			t.Errorf("the version before is %+v", old)
		}
		// Another process, and this one after a restart, see the same.
		other, _ := open(t, s).Rings()
		if other.Current.Version() != 2 || len(other.Earlier) != 1 {
			t.Errorf("another process sees %+v", other)
		}
	})
}

// TestOneOfTwoRingsWins: of those that make a ring from the same version one succeeds.
func TestOneOfTwoRingsWins(t *testing.T) {
	overStores(t, func(t *testing.T, newStore func(testing.TB) store.Catalog) {
		s := newStore(t)
		makers := []*Catalog{open(t, s), open(t, s)}
		for from := range ring.Version(5) {
			for _, c := range makers { // both know the same
				waitRing(t, c, from)
			}
			var won atomic.Int32
			var racing sync.WaitGroup
			for i, c := range makers {
				racing.Go(func() {
					_, err := c.MakeRing(t.Context(), from, RingSpec{Members: []lambda.ManagerID{lambda.ManagerID("m" + strconv.Itoa(i))}, Quota: 1})
					switch {
					case err == nil:
						won.Add(1)
					case !errors.Is(err, store.ErrConflict):
						t.Error(err)
					}
				})
			}
			racing.Wait()
			if won.Load() != 1 {
				t.Fatalf("%d makers of version %d succeeded", won.Load(), from+1)
			}
		}
	})
}

func waitRing(t *testing.T, c *Catalog, version ring.Version) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		h, newer := c.Rings()
		if h.Current.Version() >= version {
			return
		}
		select {
		case <-newer:
		case <-limit:
			t.Fatalf("ring version %d is not seen", version)
		}
	}
}

// TestD9_OldVersionsAreRemoved by whoever knows that nobody needs them; unneeded records do not pile up.
func TestD9_OldVersionsAreRemoved(t *testing.T) {
	overStores(t, func(t *testing.T, newStore func(testing.TB) store.Catalog) {
		c := open(t, newStore(t))
		for from := range ring.Version(4) {
			makeRing(t, c, from, 1, "m", lambda.ManagerID("m"+strconv.Itoa(int(from))))
		}
		before, _ := c.Rings()
		for range 2 { // again is no error
			if err := c.RemoveRing(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.RemoveRing(t.Context(), 4); err != nil { // the current one stays
			t.Fatal(err)
		}
		after, _ := c.Rings()
		if after.Current != before.Current || len(after.Earlier) != 2 || after.Earlier[0] != before.Earlier[0] || after.Earlier[1] != before.Earlier[2] {
			t.Errorf("history %+v after %+v: expected versions 4, 3 and 1, the same rings as before", after, before)
		}
		if v := makeRing(t, c, 4, 1, "m"); !slices.Equal(v.Previous, []ring.Version{4, 3, 1}) {
			t.Errorf("previous versions %v", v.Previous)
		}
	})
}

func TestRingVersionsAreBounded(t *testing.T) {
	c := open(t, newMemory())
	for from := range ring.Version(2 * maxRings) {
		makeRing(t, c, from, 1, "m")
	}
	h, _ := c.Rings()
	if len(h.Earlier) != maxEarlier {
		t.Errorf("%d earlier rings, want at most %d", len(h.Earlier), maxEarlier)
	}
	if n := len(c.RingVersions()); n > maxRings+1 || n < maxRings {
		t.Errorf("%d versions are kept, want about %d", n, maxRings)
	}
}

func TestBadRingsAreRefused(t *testing.T) {
	c := open(t, newMemory())
	for _, spec := range []RingSpec{
		{Quota: 1}, {Members: []lambda.ManagerID{"a"}}, {Members: []lambda.ManagerID{"a", "a"}, Quota: 1}, {Members: []lambda.ManagerID{""}, Quota: 1},
	} {
		if _, err := c.MakeRing(t.Context(), 0, spec); err == nil || errors.Is(err, store.ErrConflict) {
			t.Errorf("%+v gives %v", spec, err)
		}
	}
	if _, err := c.MakeRing(t.Context(), 7, RingSpec{Members: []lambda.ManagerID{"a"}, Quota: 1}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("from a version that is not there: %v", err)
	}
}

func TestPlansCount(t *testing.T) {
	c := open(t, newMemory())
	if p := c.RingPlan(); p.Generation != 0 || p.Managers != nil {
		t.Errorf("without a plan: %+v", p)
	}
	for want := range uint64(3) {
		got, err := c.PlanRing(t.Context(), RingPlan{Quota: 7, Managers: []lambda.ManagerID{"a"}})
		if err != nil || got.Generation != want+1 {
			t.Fatalf("generation %d, %v", got.Generation, err)
		}
	}
	if p := c.RingPlan(); p.Generation != 3 || p.Quota != 7 {
		t.Errorf("the plan is %+v", p)
	}
}
