package control

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/members"
	"berth/ring"
	"berth/store/memory"
)

// fleet is a set of managers whose heartbeats are as the test says, and a ring controller that hears them.
type fleet struct {
	t       *testing.T
	catalog *catalog.Catalog
	view    atomic.Pointer[members.View]
	mu      sync.Mutex
	since   time.Time // of listening; zero: the engine is away
	all     map[string]members.Member
}

func (f *fleet) View() *members.View { return f.view.Load() }

func (f *fleet) Listening() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since.IsZero() {
		return 0
	}
	return time.Since(f.since)
}

// newFleet runs a controller that has listened for long already.
func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, catalog: catalog.New(memory.NewCatalog(), "us-east-1"), all: map[string]members.Member{}, since: time.Now().Add(-time.Hour)}
	f.view.Store(members.NewView())
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { _ = f.catalog.Run(ctx) })
	<-f.catalog.Ready()
	done.Go(func() { _ = Rings(f.catalog, f, slog.New(slog.DiscardHandler)).Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return f
}

// change edits the living managers, all at once.
func (f *fleet) change(edit func(all map[string]members.Member)) {
	edit(f.all)
	tracked := make([]*members.Tracked, 0, len(f.all))
	for _, m := range f.all {
		tracked = append(tracked, &members.Tracked{Member: m})
	}
	f.view.Store(members.NewView(tracked...)) // the controller finds it at its next look
}

func (f *fleet) join(ids ...string) {
	f.change(func(all map[string]members.Member) {
		for _, id := range ids {
			all[id] = members.Member{ID: id, Role: members.Manager, Quota: 10}
		}
	})
}

func (f *fleet) lose(ids ...string) {
	f.change(func(all map[string]members.Member) {
		for _, id := range ids {
			delete(all, id)
		}
	})
}

func (f *fleet) edit(id string, edit func(*members.Member)) {
	f.change(func(all map[string]members.Member) {
		m := all[id]
		edit(&m)
		all[id] = m
	})
}

// want checks the current version, after a time in which it must have been made.
func (f *fleet) want(version ring.Version, quota int, ids ...lambda.ManagerID) *catalog.RingVersion {
	f.t.Helper()
	time.Sleep(2 * time.Second)
	v := f.catalog.RingVersion()
	if v == nil || v.Version != version || v.Quota != quota || !slices.Equal(v.Members, ids) {
		f.t.Fatalf("the ring is %+v, want version %d of %v with quota %d", v, version, ids, quota)
	}
	return v
}

func TestJoiningManagersMakeOneVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		time.Sleep(time.Minute)
		if f.catalog.RingVersion() != nil {
			t.Fatal("a ring of nobody was made")
		}
		f.join("a")
		time.Sleep(joinPause / 2)
		f.join("b", "c")
		f.want(1, 10, "a", "b", "c")
		f.join("d")
		if v := f.want(2, 10, "a", "b", "c", "d"); v.Reason != "joined: d" || !slices.Equal(v.Previous, []ring.Version{1}) {
			t.Errorf("version %+v", v)
		}
	})
}

// TestManagersThatKeepJoiningAreTakenIn: the pause is not started over for ever.
func TestManagersThatKeepJoiningAreTakenIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		for i := range 30 {
			f.join(fmt.Sprintf("m%02d", i))
			time.Sleep(joinPause / 2)
		}
		if v := f.catalog.RingVersion(); v == nil || len(v.Members) < 10 || v.Version > 3 {
			t.Errorf("after 4.5 s the ring is %+v", v)
		}
	})
}

func TestALostManagerLeavesTheRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.join("a", "b", "c")
		f.want(1, 10, "a", "b", "c")
		f.lose("b", "c")
		time.Sleep(ringLook + time.Millisecond)
		if v := f.catalog.RingVersion(); v.Version != 2 || len(v.Members) != 1 || v.Reason != "lost: b, c" {
			t.Errorf("%v later the ring is %+v", ringLook, v)
		}
	})
}

// TestNobodyIsLostWhileTheEngineIsAway: silence says nothing then, nor right after.
func TestNobodyIsLostWhileTheEngineIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.join("a", "b")
		f.want(1, 10, "a", "b")
		listen := func(since time.Time) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.since = since
		}
		listen(time.Time{})
		f.lose("b")
		time.Sleep(time.Minute)
		f.want(1, 10, "a", "b")
		listen(time.Now())
		time.Sleep(members.Expiry - time.Millisecond)
		if v := f.catalog.RingVersion(); v.Version != 1 {
			t.Errorf("the ring is %+v after %v of silence", v, members.Expiry)
		}
		f.want(2, 10, "a") // it stayed silent
	})
}

func TestAnEmptyRingIsNeverMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.join("a", "b")
		f.want(1, 10, "a", "b")
		f.lose("a", "b")
		time.Sleep(time.Minute)
		f.want(1, 10, "a", "b")
		f.join("c")
		f.want(2, 10, "c")
	})
}

func TestADrainingManagerLeavesTheRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.join("a", "b")
		f.want(1, 10, "a", "b")
		f.edit("a", func(m *members.Member) { m.Draining = true })
		if v := f.want(2, 10, "b"); v.Reason != "left: a" {
			t.Errorf("the reason is %q", v.Reason)
		}
		f.edit("b", func(m *members.Member) { m.Draining = true })
		f.want(2, 10, "b") // the last one stays
	})
}

func (f *fleet) plan(p catalog.RingPlan) {
	f.t.Helper()
	if _, err := f.catalog.PlanRing(f.t.Context(), p); err != nil {
		f.t.Fatal(err)
	}
}

func TestAnOperatorDeploys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.join("a", "b", "c")
		f.want(1, 10, "a", "b", "c")
		f.plan(catalog.RingPlan{Managers: []lambda.ManagerID{"b", "c"}, Quota: 40, Reason: "deployed"})
		if v := f.want(2, 40, "b", "c"); !v.Pinned || !strings.HasPrefix(v.Reason, "deployed") {
			t.Errorf("version %+v", v)
		}
		f.join("d") // not among those that were named
		f.want(2, 40, "b", "c")
		f.lose("b")
		f.want(3, 40, "c")
		f.join("b")
		f.want(4, 40, "b", "c")
		f.lose("b", "c") // calls matter more than the plan
		f.want(5, 40, "a", "d")
		f.plan(catalog.RingPlan{Reason: "all again"}) // the quota stays
		f.want(6, 40, "a", "d")
		f.plan(catalog.RingPlan{Reason: "the same"}) // C1: what is deployed is a version
		f.want(7, 40, "a", "d")
	})
}

// TestD9_AnOldVersionGoesWhenItsManagersAreEmpty or when the lease of a dead one's environments is over.
func TestD9_AnOldVersionGoesWhenItsManagersAreEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.join("a", "b", "c")
		f.want(1, 10, "a", "b", "c")
		f.lose("c")
		f.want(2, 10, "a", "b")
		earlier := func() int { h, _ := f.catalog.Rings(); return len(h.Earlier) }
		f.edit("a", func(m *members.Member) { m.Settled = 2 })
		f.edit("b", func(m *members.Member) { m.Settled = 1 })
		time.Sleep(lambda.OwnerLease + 2*time.Second)
		if earlier() != 1 {
			t.Fatal("version 1 was removed although b holds what is another's")
		}
		f.edit("b", func(m *members.Member) { m.Settled = 2 })
		time.Sleep(time.Second)
		if earlier() != 0 {
			t.Error("version 1 is kept although its managers are empty or long dead")
		}

		f.lose("b")
		f.want(3, 10, "a")
		f.edit("a", func(m *members.Member) { m.Settled = 3 })
		time.Sleep(lambda.OwnerLease - 5*time.Second)
		if earlier() != 1 {
			t.Error("version 2 was removed although environments of the dead b may live")
		}
		time.Sleep(6 * time.Second)
		if earlier() != 0 {
			t.Error("version 2 is kept after the lease of b's environments")
		}
	})
}

func TestD9_AnOldVersionGoesAfterTheLongestInvocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.join("a", "b")
		f.want(1, 10, "a", "b")
		f.join("c")
		f.want(2, 10, "a", "b", "c")
		time.Sleep(longestHold - 5*time.Second)
		if h, _ := f.catalog.Rings(); len(h.Earlier) != 1 {
			t.Fatal("version 1 was removed early")
		}
		time.Sleep(10 * time.Second)
		if h, _ := f.catalog.Rings(); len(h.Earlier) != 0 {
			t.Error("version 1 is kept for ever")
		}
	})
}
