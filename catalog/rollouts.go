package catalog

import (
	"context"
	"errors"
	"time"

	"berth/lambda"
	"berth/store"
)

// RolloutPhase says whether a rollout goes on.
type RolloutPhase string

// The phases.
const (
	RolloutRunning RolloutPhase = "running"
	RolloutPaused  RolloutPhase = "paused"  // no function goes on to the next stage; those that are worse are pinned still
	RolloutAborted RolloutPhase = "aborted" // every function is back where it was
	RolloutDone    RolloutPhase = "done"    // the runtime's current version is the new one
)

// Rollout brings the functions of one runtime to another version of it. The last one of each runtime is kept.
type Rollout struct {
	ID      string                  `json:"id"`
	Runtime string                  `json:"runtime"`
	From    lambda.RuntimeVersionID `json:"from"`
	To      lambda.RuntimeVersionID `json:"to"`
	Phase   RolloutPhase            `json:"phase"`
	Began   time.Time               `json:"began"`
	Changed time.Time               `json:"changed"` // the phase
	Reason  string                  `json:"reason,omitempty"`
	Cleaned bool                    `json:"cleaned,omitempty"` // after the end: no trial is left that says more than the runtime's state
}

// Live reports whether the rollout goes on, or will after its pause.
func (r *Rollout) Live() bool { return r.Phase == RolloutRunning || r.Phase == RolloutPaused }

func rolloutKey(runtime string) store.Key { return store.Key(rolloutPrefix + runtimeSegment(runtime)) }

// Rollout returns the last rollout of a runtime.
func (c *Catalog) Rollout(runtime string) (*Rollout, bool) {
	return find[Rollout](c, rolloutKey(runtime))
}

// Rollouts returns the last rollout of every runtime.
func (c *Catalog) Rollouts() []*Rollout {
	list, _ := page[Rollout](c, rolloutPrefix, "", maxReleases)
	return list
}

// BeginRollout makes the rollout of the runtime's candidate, r.To, if it is the candidate still and no other rollout goes on.
// Error: store.ErrConflict.
func (c *Catalog) BeginRollout(ctx context.Context, r *Rollout) error {
	old, revision, err := get[Rollout](c, rolloutKey(r.Runtime))
	switch {
	case errors.Is(err, store.ErrNotFound):
		revision = store.Absent
	case err != nil:
		return err
	case old.Live():
		return store.ErrConflict
	}
	state, stateRevision, err := get[lambda.RuntimeState](c, runtimeKey(r.Runtime))
	if err != nil {
		return err
	}
	if state.Candidate != r.To {
		return store.ErrConflict
	}
	next := *state
	next.Rollout = r.ID
	return c.writeRollout(ctx, r, revision, &next, stateRevision)
}

// writeRollout writes a rollout, and the state of its runtime if that is not nil.
func (c *Catalog) writeRollout(ctx context.Context, r *Rollout, revision store.Revision, state *lambda.RuntimeState, stateRevision store.Revision) error {
	raw, err := encode(r)
	if err != nil {
		return err
	}
	ops := []store.Op{{Key: rolloutKey(r.Runtime), Value: raw, Expect: revision}}
	if state != nil {
		if raw, err = encode(state); err != nil {
			return err
		}
		ops = append(ops, store.Update(runtimeKey(r.Runtime), raw, stateRevision))
	}
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	return c.apply(ctx, ops)
}

// EditRollout changes the last rollout of a runtime; edit gets a copy, and may run several times. Errors: ResourceNotFound, and
// edit's own.
func (c *Catalog) EditRollout(ctx context.Context, runtime string, edit func(*Rollout) error) (*Rollout, error) {
	key := rolloutKey(runtime)
	var written *Rollout
	err := c.retry(ctx, func(ctx context.Context) error {
		old, revision, err := get[Rollout](c, key)
		if err != nil {
			return lambda.Errorf(lambda.ResourceNotFound, "There was no rollout of %.100s yet. `berth runtime publish %[1]s` begins one.", runtime)
		}
		next := *old
		written = &next
		if err := edit(&next); err != nil {
			return err
		}
		if next.Phase != old.Phase {
			next.Changed = time.Now()
		}
		return c.writeRollout(ctx, &next, revision, nil, 0)
	}, key)
	if err != nil {
		return nil, err
	}
	return written, nil
}

// EndRollout makes a rollout's end and the runtime's state one: Done makes the new version the current one, Aborted leaves the
// current one. In both cases there is no candidate any more, and from that moment on no call runs as the trials say. Errors:
// ResourceConflict when it has ended, or the runtime has been moved meanwhile.
func (c *Catalog) EndRollout(ctx context.Context, runtime string, id string, end RolloutPhase, reason string) (*Rollout, error) {
	var written *Rollout
	keys := []store.Key{rolloutKey(runtime), runtimeKey(runtime)}
	err := c.retry(ctx, func(ctx context.Context) error {
		r, revision, err := get[Rollout](c, keys[0])
		if err != nil {
			return lambda.Errorf(lambda.ResourceNotFound, "There was no rollout of %.100s yet. `berth runtime publish %[1]s` begins one.", runtime)
		}
		if !r.Live() || id != "" && r.ID != id {
			return lambda.Errorf(lambda.ResourceConflict, "The rollout of %s has ended: it is %s.", runtime, r.Phase)
		}
		state, stateRevision, err := get[lambda.RuntimeState](c, keys[1])
		if err != nil {
			return err
		}
		if end == RolloutDone && state.Candidate != r.To {
			return lambda.Errorf(lambda.ResourceConflict, "The runtime %s was moved while its rollout went on.", runtime)
		}
		moved, next := *state, *r
		moved.Rollout = ""
		if state.Candidate == r.To {
			moved.Candidate = ""
		}
		if end == RolloutDone {
			moved.Current = r.To
		}
		next.Phase, next.Changed, next.Reason, next.Cleaned = end, time.Now(), reason, false
		written = &next
		return c.writeRollout(ctx, &next, revision, &moved, stateRevision)
	}, keys...)
	if err != nil {
		return nil, err
	}
	return written, nil
}
