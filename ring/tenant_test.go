package ring

import (
	"fmt"
	"slices"
	"testing"

	"berth/lambda"
)

func rank(tenant int, ids []lambda.ManagerID, weights []float64) []lambda.ManagerID {
	list := slices.Clone(ids)
	RankTenant(lambda.EnvironmentKey{Account: "000000000001", Function: "f", Tenant: fmt.Sprint("t", tenant)}, list, weights)
	return list
}

func TestTenantsAreSpreadByWeight(t *testing.T) {
	ids := []lambda.ManagerID{"a", "b", "c", "d"}
	for _, c := range []struct {
		weights []float64
		want    [4]float64
	}{{nil, [4]float64{.25, .25, .25, .25}}, {[]float64{1, 2, 1, 0}, [4]float64{.25, .5, .25, 0}}} {
		home := map[lambda.ManagerID]int{}
		for n := range 10_000 {
			home[rank(n, ids, c.weights)[0]]++
		}
		for i, id := range ids {
			if got := float64(home[id]) / 10_000; got < c.want[i]-.02 || got > c.want[i]+.02 {
				t.Errorf("weights %v: %.3f of the tenants have their home on %s, want %.2f", c.weights, got, id, c.want[i])
			}
		}
	}
}

func TestATenantsRanksStayWhenAManagerLeaves(t *testing.T) {
	ids := []lambda.ManagerID{"a", "b", "c", "d", "e"}
	for n := range 1000 {
		before := rank(n, ids, nil)
		without := slices.DeleteFunc(slices.Clone(before), func(id lambda.ManagerID) bool { return id == "c" })
		if after := rank(n, []lambda.ManagerID{"e", "d", "b", "a"}, nil); !slices.Equal(after, without) {
			t.Fatalf("tenant %d: %v, and without c %v", n, before, after)
		}
	}
}

func BenchmarkRankTenant(b *testing.B) {
	ids := []lambda.ManagerID{"m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9"}
	key := lambda.EnvironmentKey{Account: "000000000001", Function: "f", Tenant: "blue"}
	b.ReportAllocs()
	for b.Loop() {
		RankTenant(key, ids, nil)
	}
}
