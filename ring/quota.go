package ring

// EffectiveQuota is how many executions one manager runs at once for a pool of limit: the ring's quota, but at least
// ⌈limit/managers⌉, so that a small ring (one machine) still reaches the limit.
func (r *Ring) EffectiveQuota(limit int) int {
	return effectiveQuota(limit, r.quota, len(r.managers))
}

// Quota is how many executions the k-th manager of a pool's order admits: min(q, max(0, limit − k·q)) with the effective
// q. The quotas of all managers sum to limit, whatever any frontend believes, so the limit is exact without a shared counter.
func (r *Ring) Quota(limit, k int) int { return quota(limit, r.quota, len(r.managers), k) }

// Useful is how many managers of a pool's order have a quota above zero: S never grows beyond it.
func (r *Ring) Useful(limit int) int {
	if limit <= 0 || len(r.managers) == 0 {
		return 0
	}
	return ceilDiv(limit, r.EffectiveQuota(limit))
}

// Needed is how many managers a load of so many running executions needs; at least one.
func (r *Ring) Needed(running, limit int) int {
	return max(1, ceilDiv(running, max(1, r.EffectiveQuota(limit))))
}

func effectiveQuota(limit, q, managers int) int {
	if managers == 0 {
		return 0
	}
	return max(q, ceilDiv(limit, managers))
}

func quota(limit, q, managers, k int) int {
	q = effectiveQuota(limit, q, managers)
	return min(q, max(0, limit-k*q))
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
