package catalog

import (
	"context"
	"strings"
	"time"

	"berth/lambda"
	"berth/rollout"
	"berth/store"
)

// Trial is the record of a function version's way to the next version of its runtime: what the invoke path reads, and what the
// rollout knows.
type Trial struct {
	lambda.RuntimeTrial
	Rollout string        `json:"rollout,omitempty"` // the Rollout's ID
	State   rollout.State `json:"state,omitzero"`
	Began   time.Time     `json:"began,omitzero"`
	// Before is the pin that an earlier rollout had left: what an abort brings back.
	Before *lambda.RuntimeTrial `json:"before,omitempty"`
	// Sources are the counts of each process that counted, by its name there; Folded the sum of those that are gone for long.
	Sources map[string]rollout.Tally `json:"sources,omitempty"`
	Folded  *rollout.Tally           `json:"folded,omitempty"`
	// FoldedTo is the last of the names that were added up, which begin with a time: what is not above it counts no more.
	FoldedTo string      `json:"foldedTo,omitempty"`
	Notice   NoticeState `json:"notice,omitempty"` // of the verdict
}

// NoticeState says whether the owner was told a verdict.
type NoticeState string

// The states; "" when there is nothing to tell.
const (
	NoticeDue  NoticeState = "due"
	NoticeSent NoticeState = "sent"
	NoticeNone NoticeState = "none" // the owner has not said where to
)

// Tally sums up what all sources counted.
func (t *Trial) Tally() rollout.Tally {
	var sum rollout.Tally
	if t.Folded != nil {
		sum = *t.Folded
	}
	for _, one := range t.Sources {
		sum.Add(&one)
	}
	return sum
}

// Clone returns a copy that may be changed.
func (t *Trial) Clone() *Trial {
	next := *t
	next.Sources = make(map[string]rollout.Tally, len(t.Sources))
	for name, one := range t.Sources {
		next.Sources[name] = one
	}
	return &next
}

// TrialOf names the function version of a trial.
type TrialOf struct {
	ID
	Number string // Latest or a version number
}

func (o TrialOf) key() store.Key { return o.trial(o.Number) }

// Trial returns a function version's trial, and its revision.
func (c *Catalog) Trial(of TrialOf) (*Trial, store.Revision, bool) {
	t, revision, err := get[Trial](c, of.key())
	return t, revision, err == nil
}

// BeginTrial writes the first record of a trial, over whatever was there. Error: ResourceNotFound.
func (c *Catalog) BeginTrial(ctx context.Context, of TrialOf, t *Trial) error {
	return c.SetRuntimeTrial(ctx, of.ID, of.Number, t)
}

// TrialChange is the next state of a trial; nil removes it.
type TrialChange struct {
	Of       TrialOf
	Revision store.Revision // of the record that it follows
	Next     *Trial
}

// ChangeTrials writes the next states of some trials, at most store.MaxOps, all or none. Error: store.ErrConflict when one of
// them was changed or removed since.
func (c *Catalog) ChangeTrials(ctx context.Context, changes []TrialChange) error {
	ops := make([]store.Op, 0, len(changes))
	for _, ch := range changes {
		if ch.Next == nil {
			ops = append(ops, store.Delete(ch.Of.key(), ch.Revision))
			continue
		}
		raw, err := encode(ch.Next)
		if err != nil {
			return err
		}
		ops = append(ops, store.Update(ch.Of.key(), raw, ch.Revision))
	}
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	return c.apply(ctx, ops)
}

// Trials lists the trials of a runtime, of all functions, also those that are over. It is a moment's state.
func (c *Catalog) Trials(runtime string) []TrialOf {
	var out []TrialOf
	for _, key := range c.keys(trialPrefix) {
		of, ok := parseTrial(key)
		if !ok {
			continue
		}
		if t, _, ok := c.Trial(of); ok && t.Runtime == runtime {
			out = append(out, of)
		}
	}
	return out
}

func parseTrial(k store.Key) (TrialOf, bool) {
	parts := strings.Split(strings.TrimPrefix(string(k), trialPrefix), "/")
	if len(parts) != 3 {
		return TrialOf{}, false
	}
	of := TrialOf{ID: ID{lambda.AccountID(parts[0]), parts[1]}, Number: lambda.Latest}
	if parts[2] != latestFirst {
		of.Number = strings.TrimLeft(parts[2], "0")
	}
	return of, true
}

// AutoVersions lists the function versions of a runtime that move by themselves: Auto ones, $LATEST and published, that can be
// invoked. It reads every function of every account.
func (c *Catalog) AutoVersions(runtime string) []*lambda.Version {
	var out []*lambda.Version
	add := func(v *lambda.Version) {
		auto := v.Management.Mode == "" || v.Management.Mode == lambda.RuntimeAuto
		if auto && v.Runtime == runtime && v.Image == nil && v.State == lambda.Active {
			out = append(out, v)
		}
	}
	for _, key := range c.keys(functionPrefix) {
		if f, ok := find[Function](c, key); ok && !f.Deleting {
			add(f.current())
		}
	}
	for _, key := range c.keys(versionPrefix) {
		if v, ok := find[Version](c, key); ok {
			add(&v.Version)
		}
	}
	return out
}
