package ring

import (
	"cmp"
	"math"
	"slices"

	"berth/lambda"
)

// RankTenant sorts managers by how much they are a tenant's, its home first. A tenant has few environments, one of them mostly:
// drawn at random, a call would seldom meet it. The ranks are those of weighted rendezvous hashing (Thaler and Ravishankar,
// 1998): every frontend and manager finds the same, over many tenants managers come first in proportion to their weights (nil:
// all alike), and a manager that joins or leaves changes only the tenants that it gets or had.
func RankTenant(key lambda.EnvironmentKey, managers []lambda.ManagerID, weights []float64) {
	type ranked struct {
		id    lambda.ManagerID
		score float64
	}
	seed := hashString(string(key.Account) + "/" + key.Function + "/" + key.Tenant)
	list := make([]ranked, len(managers))
	for i, id := range managers {
		weight := 1.0
		if weights != nil {
			weight = weights[i]
		}
		// -ln(u)/w with u evenly in (0, 1]: the least of such is i's with a probability in proportion to its weight.
		u := float64(mix(seed^hashString(string(id)))>>11+1) / (1 << 53)
		list[i] = ranked{id, math.Inf(1)}
		if weight > 0 {
			list[i].score = -math.Log(u) / weight
		}
	}
	slices.SortFunc(list, func(a, b ranked) int { return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(a.id, b.id)) })
	for i, r := range list {
		managers[i] = r.id
	}
}
