// Package ring is the consistent-hash ring of managers: an immutable value that gives each pool an order of all managers.
// Every frontend and every manager that holds the same ring computes the same order, in every version of this program: the
// hash is part of the cluster's protocol and is held by golden tests.
//
// A pool's managers are met walking clockwise from the pool's point; a manager stands on the ring at many points ("virtual
// nodes"), so that shares are even and a joining or leaving manager moves about 1/M of the pools, and only those.
package ring

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"berth/lambda"
)

// pointsPerManager makes the largest share of 100 managers at most 1.15 of the mean: the deviation of a share is about
// 1/√points, and the largest of 100 lies 2.5–3 deviations out.
const pointsPerManager = 1024

// MaxManagers bounds a ring: managers are numbered with 16 bits inside.
const MaxManagers = 4096

// Version numbers rings of one cluster; 0 is no ring.
type Version uint64

// Ring is one immutable ring version.
type Ring struct {
	version  Version
	quota    int                // executions one manager runs at once for one pool; see EffectiveQuota
	managers []lambda.ManagerID // sorted
	points   []point            // sorted by hash, then manager
	// index[h>>shift] is the first point whose hash has at least that prefix: it turns the search into one look-up and a
	// short walk, since points are spread evenly.
	index []uint32
	shift uint
}

type point struct {
	hash    uint64
	manager uint16
}

// New builds the ring of a set of managers that admit quota executions of each pool. Their order does not matter. Errors: a
// duplicate or empty id, too many managers, a quota below one.
func New(version Version, quota int, managers []lambda.ManagerID) (*Ring, error) {
	if quota < 1 {
		return nil, fmt.Errorf("the quota per pool must be at least 1, not %d", quota)
	}
	if len(managers) > MaxManagers {
		return nil, fmt.Errorf("a ring holds at most %d managers, not %d", MaxManagers, len(managers))
	}
	r := &Ring{version: version, quota: quota, managers: slices.Clone(managers)}
	slices.Sort(r.managers)
	for i, id := range r.managers {
		if id == "" || i > 0 && id == r.managers[i-1] {
			return nil, fmt.Errorf("manager id %q is empty or given twice", id)
		}
	}
	r.place()
	r.buildIndex()
	return r, nil
}

func (r *Ring) place() {
	r.points = make([]point, 0, len(r.managers)*pointsPerManager)
	for i, id := range r.managers {
		seed := hashString(string(id))
		for n := range uint64(pointsPerManager) {
			r.points = append(r.points, point{mix(seed + n*goldenGamma), uint16(i)})
		}
	}
	slices.SortFunc(r.points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.manager, b.manager))
	})
}

func (r *Ring) buildIndex() {
	if len(r.points) == 0 {
		return
	}
	width := uint(bits.Len(uint(len(r.points) - 1)))
	r.shift = 64 - width
	r.index = make([]uint32, 1<<width)
	p := 0
	for prefix := range r.index {
		for p < len(r.points) && r.points[p].hash>>r.shift < uint64(prefix) {
			p++
		}
		r.index[prefix] = uint32(p)
	}
}

// Version returns the ring's number.
func (r *Ring) Version() Version { return r.version }

// Len returns the number of managers.
func (r *Ring) Len() int { return len(r.managers) }

// Members returns all managers, sorted.
func (r *Ring) Members() []lambda.ManagerID { return slices.Clone(r.managers) }

// Manager returns the pool's first manager, m₀; "" on an empty ring. It does not allocate.
func (r *Ring) Manager(pool lambda.PoolID) lambda.ManagerID {
	if len(r.points) == 0 {
		return ""
	}
	return r.managers[r.points[r.start(pool)].manager]
}

// Managers appends the first n managers of the pool's order, m₀ … mₙ₋₁, to buf (fewer when the ring has fewer). It does
// not allocate when buf has room.
func (r *Ring) Managers(pool lambda.PoolID, n int, buf []lambda.ManagerID) []lambda.ManagerID {
	r.walk(pool, min(n, len(r.managers)), func(m uint16) bool {
		buf = append(buf, r.managers[m])
		return true
	})
	return buf
}

// Ordinal returns k such that manager is m_k of the pool's order; false when it is not on the ring.
func (r *Ring) Ordinal(pool lambda.PoolID, manager lambda.ManagerID) (int, bool) {
	want, found := slices.BinarySearch(r.managers, manager)
	if !found {
		return 0, false
	}
	k := 0
	r.walk(pool, len(r.managers), func(m uint16) bool {
		if int(m) == want {
			return false
		}
		k++
		return true
	})
	return k, true
}

// walk visits n distinct managers clockwise from the pool's point, until visit returns false.
func (r *Ring) walk(pool lambda.PoolID, n int, visit func(uint16) bool) {
	if n <= 0 {
		return
	}
	var seen [MaxManagers / 64]uint64
	for p := r.start(pool); ; p = (p + 1) % len(r.points) {
		m := r.points[p].manager
		if seen[m/64]&(1<<(m%64)) != 0 {
			continue
		}
		seen[m/64] |= 1 << (m % 64)
		if !visit(m) {
			return
		}
		if n--; n == 0 {
			return
		}
	}
}

// start returns the index of the first point at or after the pool's.
func (r *Ring) start(pool lambda.PoolID) int {
	h := hashPool(pool)
	p := int(r.index[h>>r.shift])
	for p < len(r.points) && r.points[p].hash < h {
		p++
	}
	if p == len(r.points) {
		return 0
	}
	return p
}

// goldenGamma is SplitMix64's increment (Steele, Lea, Flood, OOPSLA 2014): it spreads consecutive seeds.
const goldenGamma = 0x9e3779b97f4a7c15

// mix is SplitMix64's finaliser: every input bit reaches every output bit. FNV alone leaves its high bits too even for
// short keys that differ in their last byte.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

func hashString(s string) uint64 { return mix(fnvAdd(fnvOffset, s)) }

// hashPool hashes account and function with the account's length between them, so that no two pools share an input.
func hashPool(pool lambda.PoolID) uint64 {
	h := fnvAdd(fnvOffset, string(pool.Account))
	h = (h ^ uint64(len(pool.Account))) * fnvPrime
	return mix(fnvAdd(h, pool.Function))
}

// The 64-bit FNV-1a parameters (RFC 9923). Inline: hash/fnv would allocate.
const (
	fnvOffset uint64 = 14695981039346656037
	fnvPrime  uint64 = 1099511628211
)

func fnvAdd(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}
