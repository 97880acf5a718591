package ring

import "berth/lambda"

// History is the current ring and the earlier ones whose managers may still hold environments. It does not change: a new
// version makes a new one.
type History struct {
	Current *Ring
	Earlier []*Ring // newest first
}

// Slots returns the range [from, to) of a pool's limit that its k-th manager admits: slot numbers stand for rights to run one
// call. The ranges of all managers make up [0, limit) without a gap or an overlap.
func (r *Ring) Slots(limit, k int) (from, to int) {
	from = min(max(0, limit), k*r.EffectiveQuota(limit))
	return from, from + r.Quota(limit, k)
}

// Predecessors appends to buf who held, in earlier rings, the slots of the pool's limit that are the manager's on the current
// one; the manager itself is left out (design C). Whoever holds a slot holds the environments that are in use in it, and
// its share of the idle ones, so a manager that has got its slots from all predecessors may admit calls in them: the limit
// stays exact while rings change. Newest ring first, then in slot order; one predecessor is named once per ring.
func (h *History) Predecessors(pool lambda.PoolID, manager lambda.ManagerID, limit int, buf []lambda.Predecessor) []lambda.Predecessor {
	k, member := h.Current.Ordinal(pool, manager)
	if !member {
		return buf
	}
	from, to := h.Current.Slots(limit, k)
	if from == to {
		return buf
	}
	for _, old := range h.Earlier {
		q := old.EffectiveQuota(limit)
		if q == 0 {
			continue
		}
		order := old.Managers(pool, ceilDiv(to, q), nil)
		for i := from / q; i < len(order); i++ {
			oldFrom, oldTo := old.Slots(limit, i)
			if order[i] != manager && oldFrom < to && from < oldTo {
				buf = append(buf, lambda.Predecessor{
					Manager: order[i], Ring: uint64(old.Version()), From: max(from, oldFrom), To: min(to, oldTo),
				})
			}
		}
	}
	return buf
}
