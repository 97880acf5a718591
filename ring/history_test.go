package ring_test

import (
	"fmt"
	"testing"

	"berth/lambda"
	"berth/ring"
)

func version(t *testing.T, n ring.Version, q int, managers []lambda.ManagerID) *ring.Ring {
	t.Helper()
	r, err := ring.New(n, q, managers)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func named(prefix string, n int) []lambda.ManagerID {
	out := make([]lambda.ManagerID, n)
	for i := range out {
		out[i] = lambda.ManagerID(fmt.Sprintf("%s-%d", prefix, i))
	}
	return out
}

func TestEveryOldSlotHasOneSuccessor(t *testing.T) {
	for _, c := range []struct {
		oldQ, oldN, newQ, newN, limit int
	}{{10, 8, 40, 2, 80}, {40, 2, 10, 8, 80}, {10, 4, 10, 4, 25}, {7, 5, 9, 3, 61}, {10, 3, 10, 1, 1000}} {
		h := &ring.History{
			Current: version(t, 2, c.newQ, named("new", c.newN)),
			Earlier: []*ring.Ring{version(t, 1, c.oldQ, named("old", c.oldN))},
		}
		for n := range 50 {
			covered := make([]lambda.ManagerID, c.limit)
			for k, id := range h.Current.Managers(pool(n), c.newN, nil) {
				from, to := h.Current.Slots(c.limit, k)
				for _, p := range h.Predecessors(pool(n), id, c.limit, nil) {
					if p.From < from || p.To > to || p.From >= p.To || p.Ring != 1 {
						t.Fatalf("%+v: %s with slots %d–%d has predecessor %+v", c, id, from, to, p)
					}
					for s := p.From; s < p.To; s++ {
						if covered[s] != "" {
							t.Fatalf("%+v: slot %d has two predecessors", c, s)
						}
						covered[s] = p.Manager
					}
				}
			}
			old := h.Earlier[0].Managers(pool(n), c.oldN, nil)
			for s, id := range covered {
				if want := old[s/h.Earlier[0].EffectiveQuota(c.limit)]; id != want {
					t.Fatalf("%+v: slot %d comes from %q, want %q", c, s, id, want)
				}
			}
		}
	}
}

func TestAManagerIsNotItsOwnPredecessor(t *testing.T) {
	managers := named("m", 5)
	h := &ring.History{Current: version(t, 2, 10, managers), Earlier: []*ring.Ring{version(t, 1, 10, managers)}}
	for n := range 50 {
		for _, id := range managers {
			if p := h.Predecessors(pool(n), id, 40, nil); len(p) != 0 {
				t.Fatalf("unchanged managers have predecessors: %+v", p)
			}
		}
	}
}

func TestReplacingOneOfManyConcernsFewPools(t *testing.T) {
	const managers, pools = 20, 5000
	old := named("m", managers)
	next := append(named("m", managers-1), "fresh")
	h := &ring.History{Current: version(t, 2, 10, next), Earlier: []*ring.Ring{version(t, 1, 10, old)}}
	moved := 0
	for n := range pools {
		if first := h.Current.Manager(pool(n)); len(h.Predecessors(pool(n), first, 10, nil)) > 0 {
			moved++
		}
	}
	// The pools of the manager that left, and those that the fresh one took from others.
	if share := float64(moved) / pools; share < 1.4/managers || share > 2.6/managers {
		t.Errorf("%.3f of the pools moved, want about %.3f", share, 2.0/managers)
	}
}
