package ring_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"berth/lambda"
	"berth/ring"
)

func ids(n int) []lambda.ManagerID {
	out := make([]lambda.ManagerID, n)
	for i := range out {
		out[i] = lambda.ManagerID(fmt.Sprintf("manager-%d", i))
	}
	return out
}

func pool(n int) lambda.PoolID {
	return lambda.PoolID{Account: lambda.AccountID(fmt.Sprintf("%012d", n%97)), Function: fmt.Sprintf("function-%d", n)}
}

func build(t testing.TB, managers []lambda.ManagerID) *ring.Ring {
	t.Helper()
	r, err := ring.New(1, 10, managers)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBalance(t *testing.T) {
	const managers, pools = 100, 500_000
	r := build(t, ids(managers))
	share := map[lambda.ManagerID]int{}
	for n := range pools {
		share[r.Manager(pool(n))]++
	}
	largest := 0
	for _, s := range share {
		largest = max(largest, s)
	}
	if ratio := float64(largest) * managers / pools; len(share) != managers || ratio > 1.15 {
		t.Errorf("max/mean = %.3f over %d managers, want ≤ 1.15 over %d", ratio, len(share), managers)
	}
}

func TestOneManagerMoreOrLessMovesOnlyItsOwnShare(t *testing.T) {
	const managers, pools = 20, 50_000
	all := ids(managers + 1)
	before, after := build(t, all[:managers]), build(t, all)
	joined := all[managers]
	moved := 0
	for n := range pools {
		old, now := before.Manager(pool(n)), after.Manager(pool(n))
		if old == now {
			continue
		}
		moved++
		if now != joined {
			t.Fatalf("pool %d moved from %s to %s, which did not join", n, old, now)
		}
	}
	if share := float64(moved) / pools; share < 0.8/(managers+1) || share > 1.2/(managers+1) {
		t.Errorf("%.4f of the pools moved, want about %.4f", share, 1.0/(managers+1))
	}
}

func TestALeavingManagerOnlyClosesTheGapInEveryOrder(t *testing.T) {
	all := ids(12)
	gone := all[5]
	full := build(t, all)
	rest := build(t, slices.DeleteFunc(slices.Clone(all), func(id lambda.ManagerID) bool { return id == gone }))
	for n := range 2000 {
		want := slices.DeleteFunc(full.Managers(pool(n), 12, nil), func(id lambda.ManagerID) bool { return id == gone })
		if got := rest.Managers(pool(n), 12, nil); !slices.Equal(got, want) {
			t.Fatalf("pool %d: order %v, want %v", n, got, want)
		}
	}
}

func TestOrderHoldsEveryManagerOnce(t *testing.T) {
	r := build(t, ids(33))
	for n := range 500 {
		order := r.Managers(pool(n), 100, nil)
		for k, id := range order {
			if got, ok := r.Ordinal(pool(n), id); !ok || got != k {
				t.Fatalf("Ordinal(%s) = %d, %v, want %d", id, got, ok, k)
			}
		}
		if order[0] != r.Manager(pool(n)) {
			t.Fatalf("order starts with %s, Manager says %s", order[0], r.Manager(pool(n)))
		}
		slices.Sort(order)
		if !slices.Equal(order, r.Members()) {
			t.Fatalf("pool %d: %v is not every manager once", n, order)
		}
	}
	if _, ok := r.Ordinal(pool(1), "stranger"); ok {
		t.Error("a manager that is not on the ring has an ordinal")
	}
}

// The values are part of the protocol between members of different program versions: if this test fails, it is the code
// that is wrong.
func TestGoldenValues(t *testing.T) {
	shuffled := ids(10)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	r := build(t, shuffled)
	for _, c := range golden {
		if got := r.Managers(c.pool, 4, nil); !slices.Equal(got, c.order) {
			t.Errorf("%+v: %q, want %q", c.pool, got, c.order)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, managers := range map[string][]lambda.ManagerID{
		"a duplicate": {"a", "b", "a"}, "an empty id": {"a", ""}, "too many": ids(ring.MaxManagers + 1),
	} {
		if _, err := ring.New(1, 10, managers); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestSmallRings(t *testing.T) {
	if empty := build(t, nil); empty.Manager(pool(1)) != "" || len(empty.Managers(pool(1), 3, nil)) != 0 {
		t.Error("an empty ring named a manager")
	}
	one := build(t, ids(1))
	if got := one.Managers(pool(1), 5, nil); !slices.Equal(got, ids(1)) {
		t.Errorf("a ring of one gives %v", got)
	}
}

func BenchmarkManager(b *testing.B) {
	r := build(b, ids(100))
	pools := make([]lambda.PoolID, 4096)
	for i := range pools {
		pools[i] = pool(i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r.Manager(pools[i%len(pools)])
		i++
	}
}

func BenchmarkFirstFourManagers(b *testing.B) {
	r := build(b, ids(100))
	pools := make([]lambda.PoolID, 4096)
	for i := range pools {
		pools[i] = pool(i)
	}
	buf := make([]lambda.ManagerID, 0, 4)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		buf = r.Managers(pools[i%len(pools)], 4, buf[:0])
		i++
	}
}
