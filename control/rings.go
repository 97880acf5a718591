package control

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/members"
	"berth/ring"
	"berth/sleep"
)

// Members tells which processes live; *members.Members is one.
type Members interface {
	View() *members.View
	// Listening is for how long heartbeats have been heard without a break.
	Listening() time.Duration
}

// Times of the ring controller.
const (
	// joinPause is how long the set of managers must be the same before those that joined are taken in, joinLimit how long
	// that may take: managers that are started together make one version.
	joinPause = 300 * time.Millisecond
	joinLimit = 2 * time.Second
	// ringLook is how often it looks without having been told of a change.
	ringLook = 500 * time.Millisecond
	// ringLimit bounds one write. After a failed one the heartbeats of a network that was split are waited for.
	ringLimit = 3 * time.Second
	ringPause = 2 * members.Interval

	// longestHold is when a superseded version is removed whatever its managers say: the longest invocation has ended, and
	// so has the lease of an environment that nobody renewed after it.
	longestHold = longestInvocation + lambda.OwnerLease
	// longestInvocation is the largest time limit of a function (developer guide).
	longestInvocation = 15 * time.Minute
)

// Rings is the task that makes a ring version whenever managers join, are told to stop, are lost, or an operator plans
// something else, and removes old versions when nobody needs them (design D).
func Rings(cat *catalog.Catalog, m Members, log *slog.Logger) Task {
	return Task{Name: "rings", Run: func(ctx context.Context) error {
		r := &rings{catalog: cat, members: m, log: log, absent: map[lambda.ManagerID]time.Time{}}
		return r.run(ctx)
	}}
}

type rings struct {
	catalog *catalog.Catalog
	members Members
	log     *slog.Logger

	wanted  []lambda.ManagerID // at the last look
	since   time.Time          // when it became so
	differs time.Time          // since when it has not been the current version's; zero: it is
	absent  map[lambda.ManagerID]time.Time
}

func (r *rings) run(ctx context.Context) error {
	for {
		view := r.members.View()
		_, newer := r.catalog.Rings()
		wait := min(r.step(ctx, view), ringLook)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-view.Newer():
		case <-newer:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// step makes a version if one is due, else removes old ones. It returns when to look again at the latest.
func (r *rings) step(ctx context.Context, view *members.View) time.Duration {
	now, current := time.Now(), r.catalog.RingVersion()
	spec, wait := r.decide(now, view, current, r.catalog.RingPlan())
	if spec == nil {
		r.clean(ctx, now, view, current)
		return wait
	}
	var from ring.Version
	if current != nil {
		from = current.Version
	}
	limited, cancel := context.WithTimeout(ctx, ringLimit)
	defer cancel()
	made, err := r.catalog.MakeRing(limited, from, *spec)
	if err != nil {
		r.log.Warn("a ring version could not be made, trying again", "version", from+1, "reason", spec.Reason, "err", err)
		sleep.For(ctx, ringPause)
		return 0
	}
	r.differs = time.Time{}
	r.log.Info("a ring version was made", "version", made.Version, "managers", made.Members, "q", made.Quota, "reason", made.Reason)
	return 0
}

// decide says what the next version is to be; nil when the current one is right, or the time for another has not come.
func (r *rings) decide(now time.Time, view *members.View, current *catalog.RingVersion, plan catalog.RingPlan) (*catalog.RingSpec, time.Duration) {
	wanted, pinned := eligible(view, plan)
	if !slices.Equal(wanted, r.wanted) || r.since.IsZero() {
		r.wanted, r.since = wanted, now
	}
	if len(wanted) == 0 { // nobody to take their place: a ring of the silent is no worse than an empty one
		return nil, ringLook
	}
	spec := &catalog.RingSpec{Members: wanted, Quota: quotaOf(view, current, plan), Plan: plan.Generation, Pinned: pinned}
	if current == nil {
		spec.Reason = "the first managers"
		return r.settled(now, spec)
	}
	deployed := plan.Generation != current.Plan
	if !deployed && slices.Equal(wanted, current.Members) && spec.Quota == current.Quota {
		r.differs = time.Time{}
		return nil, ringLook
	}
	lost := without(current.Members, known(view))
	if wait := members.Expiry - r.members.Listening(); len(lost) > 0 && wait > 0 {
		return nil, wait // they may live: this process has not listened for long enough to hear them
	}
	spec.Reason = reason(current, wanted, lost, plan, deployed)
	if deployed || len(without(current.Members, wanted)) > 0 || spec.Quota != current.Quota {
		return spec, 0
	}
	return r.settled(now, spec)
}

// settled holds a version back until the managers have been the same for a moment.
func (r *rings) settled(now time.Time, spec *catalog.RingSpec) (*catalog.RingSpec, time.Duration) {
	if r.differs.IsZero() {
		r.differs = now
	}
	if quiet := now.Sub(r.since); quiet < joinPause && now.Sub(r.differs) < joinLimit {
		return nil, joinPause - quiet
	}
	return spec, 0
}

// eligible returns the managers that the ring is to have, sorted. When none of those that an operator named lives, all that
// live serve: calls matter more.
func eligible(view *members.View, plan catalog.RingPlan) (ids []lambda.ManagerID, pinned bool) {
	var named []lambda.ManagerID
	for _, m := range view.Managers {
		id := lambda.ManagerID(m.ID)
		if m.Draining {
			continue
		}
		ids = append(ids, id)
		if slices.Contains(plan.Managers, id) {
			named = append(named, id)
		}
	}
	if len(named) > 0 {
		return named, true
	}
	return ids, false
}

// quotaOf is what the operator deployed, or else as it was; the first version takes that of the first manager.
func quotaOf(view *members.View, current *catalog.RingVersion, plan catalog.RingPlan) int {
	switch {
	case plan.Quota > 0:
		return plan.Quota
	case current != nil:
		return current.Quota
	}
	return max(1, view.Managers[0].Quota)
}

func known(view *members.View) []lambda.ManagerID {
	ids := make([]lambda.ManagerID, 0, len(view.Managers))
	for _, m := range view.Managers {
		ids = append(ids, lambda.ManagerID(m.ID))
	}
	return ids
}

// without returns what is in a and not in b.
func without(a, b []lambda.ManagerID) []lambda.ManagerID {
	return slices.DeleteFunc(slices.Clone(a), func(id lambda.ManagerID) bool { return slices.Contains(b, id) })
}

// reason tells people why a version was made.
func reason(current *catalog.RingVersion, wanted, lost []lambda.ManagerID, plan catalog.RingPlan, deployed bool) string {
	var parts []string
	say := func(what string, ids []lambda.ManagerID) {
		if len(ids) > 0 {
			parts = append(parts, fmt.Sprintf("%s: %s", what, join(ids)))
		}
	}
	if deployed {
		parts = append(parts, plan.Reason)
	}
	say("joined", without(wanted, current.Members))
	say("lost", lost)
	say("left", without(without(current.Members, wanted), lost))
	if len(parts) == 0 {
		parts = append(parts, "another quota")
	}
	return strings.Join(parts, "; ")
}

func join(ids []lambda.ManagerID) string {
	const most = 10
	names := make([]string, 0, len(ids))
	for i, id := range ids {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(ids)-most))
			break
		}
		names = append(names, string(id))
	}
	return strings.Join(names, ", ")
}

// clean removes superseded versions whose managers hold nothing any more (D9): each of them is settled on the current
// ring, or has been gone for longer than the lease of its environments.
func (r *rings) clean(ctx context.Context, now time.Time, view *members.View, current *catalog.RingVersion) {
	if r.members.Listening() < members.Expiry {
		return
	}
	old := superseded(r.catalog.RingVersions())
	r.track(now, view, old)
	for _, v := range old {
		unneeded := !slices.ContainsFunc(v.Members, func(id lambda.ManagerID) bool { return r.holds(id, now, view, current) })
		if !unneeded && now.Sub(v.Ended) < longestHold {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, ringLimit)
		err := r.catalog.RemoveRing(ctx, v.Version)
		cancel()
		if err != nil {
			r.log.Warn("an old ring version could not be removed, trying again", "version", v.Version, "err", err)
			return
		}
		r.log.Info("an old ring version was removed: its managers hold nothing any more", "version", v.Version)
	}
}

func superseded(versions []*catalog.RingVersion) []*catalog.RingVersion {
	var out []*catalog.RingVersion
	for _, v := range versions {
		if v.State == catalog.RingSuperseded {
			out = append(out, v)
		}
	}
	return out
}

// track notes since when managers of old versions are gone.
func (r *rings) track(now time.Time, view *members.View, old []*catalog.RingVersion) {
	needed := map[lambda.ManagerID]bool{}
	for _, v := range old {
		for _, id := range v.Members {
			_, lives := view.Manager(id)
			if _, counted := r.absent[id]; !lives && !counted {
				r.absent[id] = now
			}
			needed[id] = !lives
		}
	}
	for id := range r.absent {
		if !needed[id] {
			delete(r.absent, id)
		}
	}
}

// holds reports whether a manager may hold what the current ring gives to another.
func (r *rings) holds(id lambda.ManagerID, now time.Time, view *members.View, current *catalog.RingVersion) bool {
	if m, lives := view.Manager(id); lives {
		return m.Settled < uint64(current.Version)
	}
	return now.Sub(r.absent[id]) < lambda.OwnerLease
}
