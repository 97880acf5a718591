package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/lambda"
	"berth/ring"
	"berth/store"
)

// RingState says what a ring version is good for.
type RingState string

// The states of a ring version.
const (
	RingCurrent    RingState = "current"
	RingSuperseded RingState = "superseded" // its managers may still hold environments that the current ring gives to others
	RingRemoved    RingState = "removed"    // they do not: kept to be shown only
)

// Limits of ring versions.
const (
	// maxEarlier is how many superseded versions are asked for state; older ones are removed whatever they hold. Managers
	// that come and go faster than they hand over must not make every first call ask without bound.
	maxEarlier = 16
	// maxRings is how many versions are kept to be shown.
	maxRings = 100
)

// RingVersion is one version of the ring of managers (designs C and D). Members and Quota never change.
type RingVersion struct {
	Version  ring.Version       `json:"version"`
	Members  []lambda.ManagerID `json:"members"` // sorted
	Quota    int                `json:"q"`       // executions that one manager runs at once for one pool; see ring.New
	Previous []ring.Version     `json:"previous,omitempty"`
	State    RingState          `json:"state"`
	Made     time.Time          `json:"made"`
	Ended    time.Time          `json:"ended,omitzero"` // when another took its place
	Reason   string             `json:"reason"`         // for people
	Plan     uint64             `json:"plan,omitempty"` // generation of the RingPlan that it carries out
	Pinned   bool               `json:"pinned,omitempty"`
}

// RingSpec is what a new ring version is to be.
type RingSpec struct {
	Members []lambda.ManagerID
	Quota   int
	Reason  string
	Plan    uint64
	Pinned  bool // the members are those that an operator named
}

// RingPlan is what an operator wants of the ring. The zero value is the default: all living managers.
type RingPlan struct {
	Generation uint64             `json:"generation"`         // one more with each change
	Managers   []lambda.ManagerID `json:"managers,omitempty"` // none: all that live
	Quota      int                `json:"q,omitempty"`        // 0: as it is
	Reason     string             `json:"reason,omitempty"`
}

// rings is what follows from the ring records: made anew when they change.
type rings struct {
	mu      sync.Mutex // of refreshRings
	seen    ringMark   // guarded by mu
	current atomic.Pointer[ringView]
}

// ringMark tells whether any ring record has changed: every write raises the revision, a deletion lowers the count.
type ringMark struct {
	highest store.Revision
	count   int
}

type ringView struct {
	history  *ring.History
	versions []*RingVersion // newest first
	newer    chan struct{}  // closed when there is another view
}

func (r *rings) init() {
	empty, err := ring.New(0, 1, nil)
	if err != nil {
		panic(err) // no managers are always a valid ring
	}
	r.current.Store(&ringView{history: &ring.History{Current: empty}, newer: make(chan struct{})})
}

// Rings returns the ring versions in force, and a channel that is closed when there is a newer history. Before the first
// version was made the current ring is version 0, without managers.
func (c *Catalog) Rings() (*ring.History, <-chan struct{}) {
	v := c.rings.current.Load()
	return v.history, v.newer
}

// RingVersions returns all versions that are kept, newest first. Shared: not to be changed.
func (c *Catalog) RingVersions() []*RingVersion { return c.rings.current.Load().versions }

// RingVersion returns the current version, nil before the first.
func (c *Catalog) RingVersion() *RingVersion {
	return currentOf(c.RingVersions())
}

func currentOf(versions []*RingVersion) *RingVersion {
	for _, v := range versions {
		if v.State == RingCurrent {
			return v
		}
	}
	return nil
}

func ringKey(v ring.Version) store.Key { return store.Key(fmt.Sprintf("%s%020d", ringPrefix, v)) }

// MakeRing makes version from+1, if from is the current version still (0: there is none yet). Errors: store.ErrConflict when
// it is not, or what is wrong with the spec.
func (c *Catalog) MakeRing(ctx context.Context, from ring.Version, spec RingSpec) (*RingVersion, error) {
	members := slices.Clone(spec.Members)
	slices.Sort(members)
	if len(members) == 0 {
		return nil, errors.New("a ring without managers would refuse every call")
	}
	if _, err := ring.New(from+1, spec.Quota, members); err != nil {
		return nil, err
	}
	next := &RingVersion{
		Version: from + 1, Members: members, Quota: spec.Quota, State: RingCurrent, Made: time.Now().UTC(),
		Reason: spec.Reason, Plan: spec.Plan, Pinned: spec.Pinned,
	}
	ops, err := c.supersede(from, next)
	if err != nil {
		return nil, err
	}
	raw, err := encode(next)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	if err := c.apply(ctx, append(ops, store.Create(ringKey(next.Version), raw))); err != nil {
		return nil, fmt.Errorf("making ring version %d: %w", next.Version, err)
	}
	c.refreshRings()
	return next, nil
}

// supersede returns the writes that make room for next: the current version becomes an earlier one, and what is beyond the
// limits goes.
func (c *Catalog) supersede(from ring.Version, next *RingVersion) ([]store.Op, error) {
	var ops []store.Op
	update := func(v RingVersion, revision store.Revision) error {
		raw, err := encode(&v)
		ops = append(ops, store.Update(ringKey(v.Version), raw, revision))
		return err
	}
	var failed error
	var highest ring.Version
	for v, revision := range c.ringRecords() {
		if highest == 0 {
			highest = v.Version
		}
		edited := *v
		switch {
		case v.State == RingCurrent:
			edited.State, edited.Ended = RingSuperseded, next.Made
			failed = errors.Join(failed, update(edited, revision))
			next.Previous = append(next.Previous, v.Version)
		case v.State == RingSuperseded && len(next.Previous) >= maxEarlier:
			edited.State = RingRemoved
			failed = errors.Join(failed, update(edited, revision))
		case v.State == RingSuperseded:
			next.Previous = append(next.Previous, v.Version)
		case v.Version+maxRings <= next.Version:
			ops = append(ops, store.Delete(ringKey(v.Version), revision))
		}
	}
	if highest != from {
		return nil, fmt.Errorf("ring version %d is current, not %d: %w", highest, from, store.ErrConflict)
	}
	return ops, failed
}

// RemoveRing marks a superseded version as removed: nobody asks its managers any more. Removing it again is no error.
func (c *Catalog) RemoveRing(ctx context.Context, version ring.Version) error {
	key := ringKey(version)
	attempt := func(ctx context.Context) error {
		v, revision, err := get[RingVersion](c, key)
		if err != nil {
			return fmt.Errorf("ring version %d: %w", version, err)
		}
		if v.State != RingSuperseded {
			return nil // the current one became so meanwhile, or somebody else removed it
		}
		edited := *v
		edited.State = RingRemoved
		raw, err := encode(&edited)
		if err != nil {
			return err
		}
		return c.apply(ctx, []store.Op{store.Update(key, raw, revision)})
	}
	err := c.retry(ctx, attempt, key)
	c.refreshRings()
	return err
}

// RingPlan returns what an operator wants of the ring.
func (c *Catalog) RingPlan() RingPlan {
	if p, ok := find[RingPlan](c, ringPlanKey); ok {
		return *p
	}
	return RingPlan{}
}

// PlanRing sets what is wanted of the ring and returns it with its generation. The control role carries it out.
func (c *Catalog) PlanRing(ctx context.Context, plan RingPlan) (RingPlan, error) {
	attempt := func(ctx context.Context) error {
		before, revision, err := get[RingPlan](c, ringPlanKey)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		plan.Generation = 1
		if before != nil {
			plan.Generation = before.Generation + 1
		}
		raw, err := encode(&plan)
		if err != nil {
			return err
		}
		return c.apply(ctx, []store.Op{{Key: ringPlanKey, Value: raw, Expect: revision}})
	}
	return plan, c.retry(ctx, attempt, ringPlanKey)
}

// ringRecords yields all ring versions, newest first, with their revisions.
func (c *Catalog) ringRecords() func(func(*RingVersion, store.Revision) bool) {
	type versioned struct {
		*RingVersion
		revision store.Revision
	}
	var all []versioned
	c.mirror.Ascend(ringPrefix, func(k store.Key, r *record, revision store.Revision) bool {
		if !strings.HasPrefix(string(k), ringPrefix) {
			return false
		}
		if v, err := r.load(); err != nil {
			slog.Error("a ring version cannot be read", "key", k, "err", err)
		} else if v, ok := v.(*RingVersion); ok {
			all = append(all, versioned{v, revision})
		}
		return true
	})
	slices.SortFunc(all, func(a, b versioned) int { return cmp.Compare(b.Version, a.Version) })
	return func(yield func(*RingVersion, store.Revision) bool) {
		for _, v := range all {
			if !yield(v.RingVersion, v.revision) {
				return
			}
		}
	}
}

// followRings keeps what follows from the ring records up to date until ctx ends. The catalog is ready when they are.
func (c *Catalog) followRings(ctx context.Context) {
	select {
	case <-c.mirror.Ready():
	case <-ctx.Done():
		return
	}
	c.refreshRings()
	close(c.ready)
	for {
		advanced := c.mirror.Advanced() // before looking, so that no change is missed
		c.refreshRings()
		select {
		case <-advanced:
		case <-ctx.Done():
			return
		}
	}
}

// refreshRings publishes another view if the ring records have changed. Rings that are in both are the same pointers.
func (c *Catalog) refreshRings() {
	c.rings.mu.Lock()
	defer c.rings.mu.Unlock()
	mark := ringMark{}
	c.mirror.Ascend(ringPrefix, func(k store.Key, _ *record, revision store.Revision) bool {
		if !strings.HasPrefix(string(k), ringPrefix) {
			return false
		}
		mark.highest, mark.count = max(mark.highest, revision), mark.count+1
		return true
	})
	if mark == c.rings.seen {
		return
	}
	c.rings.seen = mark
	before := c.rings.current.Load()
	next := &ringView{newer: make(chan struct{})}
	for v := range c.ringRecords() {
		next.versions = append(next.versions, v)
	}
	history, err := historyOf(next.versions, before.history)
	if err != nil {
		slog.Error("the ring versions in the catalog cannot be used, the last ones go on", "err", err)
		return
	}
	next.history = history
	c.rings.current.Store(next)
	close(before.newer)
}

// historyOf builds the rings that are in force, taking over those that are known.
func historyOf(versions []*RingVersion, before *ring.History) (*ring.History, error) {
	h := &ring.History{}
	for _, v := range versions {
		if v.State == RingRemoved {
			continue
		}
		r := known(before, v.Version)
		if r == nil {
			var err error
			if r, err = ring.New(v.Version, v.Quota, v.Members); err != nil {
				return nil, fmt.Errorf("ring version %d: %w", v.Version, err)
			}
		}
		if v.State == RingCurrent {
			h.Current = r
		} else {
			h.Earlier = append(h.Earlier, r)
		}
	}
	if h.Current == nil {
		return nil, errors.New("no ring version is current")
	}
	return h, nil
}

func known(h *ring.History, v ring.Version) *ring.Ring {
	if h.Current.Version() == v {
		return h.Current
	}
	for _, r := range h.Earlier {
		if r.Version() == v {
			return r
		}
	}
	return nil
}
