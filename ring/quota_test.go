package ring_test

import (
	"testing"

	"berth/ring"
)

func withQuota(t *testing.T, q, managers int) *ring.Ring {
	t.Helper()
	r, err := ring.New(1, q, ids(managers))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestQuotasSumToTheLimit(t *testing.T) {
	for q := 1; q <= 41; q += 8 {
		for managers := 1; managers <= 12; managers++ {
			r := withQuota(t, q, managers)
			for limit := range 130 {
				sum, useful := 0, 0
				for k := range managers {
					quota := r.Quota(limit, k)
					sum += quota
					if quota > 0 {
						useful = k + 1
					}
				}
				if sum != limit {
					t.Fatalf("limit %d, q %d, %d managers: quotas sum to %d", limit, q, managers, sum)
				}
				if got := r.Useful(limit); got != useful {
					t.Fatalf("limit %d, q %d, %d managers: Useful = %d, want %d", limit, q, managers, got, useful)
				}
			}
		}
	}
}

func TestQuotaExamples(t *testing.T) {
	for _, c := range []struct{ limit, q, managers, k, want int }{
		{25, 10, 8, 0, 10}, {25, 10, 8, 1, 10}, {25, 10, 8, 2, 5}, {25, 10, 8, 3, 0},
		{1000, 10, 1, 0, 1000}, // one machine reaches the limit
		{0, 10, 4, 0, 0},       // reserved concurrency 0 stops the function
	} {
		if got := withQuota(t, c.q, c.managers).Quota(c.limit, c.k); got != c.want {
			t.Errorf("Quota(%d, %d, %d, %d) = %d, want %d", c.limit, c.q, c.managers, c.k, got, c.want)
		}
	}
}
