package catalog

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"berth/lambda"
	"berth/store"
)

// maxReleases bounds the versions of one runtime: one record holds them.
const maxReleases = 500

// RuntimePin returns the word of a rollout that keeps an Auto function in an older version of its runtime; false without one.
func (c *Catalog) RuntimePin(v *lambda.Version) (*lambda.RuntimeTrial, bool) {
	t, ok := c.RuntimeTrial(ID{v.Account, v.Function}, v.Number)
	auto := v.Management.Mode == "" || v.Management.Mode == lambda.RuntimeAuto
	return t, ok && t.Pinned && auto && t.Runtime == v.Runtime && t.Code == v.Code && c.RuntimeChoice(v).Version == t.Version
}

func runtimeKey(name string) store.Key { return store.Key(runtimePrefix + runtimeSegment(name)) }

// runtimeSegment writes a runtime's name without dots, which keys must not have; no runtime's name has a "=".
func runtimeSegment(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c == '.' {
			b[i] = '='
		}
	}
	return string(b)
}

// RuntimeState returns what is known of a runtime; false for one of which nothing was ever added.
func (c *Catalog) RuntimeState(name string) (*lambda.RuntimeState, bool) {
	return find[lambda.RuntimeState](c, runtimeKey(name))
}

// RuntimeStates returns what is known of all runtimes, by name.
func (c *Catalog) RuntimeStates() []*lambda.RuntimeState {
	list, _ := page[lambda.RuntimeState](c, runtimePrefix, "", maxReleases)
	return list
}

// RuntimeRelease finds a version of any runtime by its digest, and the runtime.
func (c *Catalog) RuntimeRelease(id lambda.RuntimeVersionID) (*lambda.RuntimeState, *lambda.RuntimeRelease, bool) {
	for _, s := range c.RuntimeStates() {
		if i := slices.IndexFunc(s.Releases, func(r lambda.RuntimeRelease) bool { return r.ID == id }); i >= 0 {
			return s, &s.Releases[i], true
		}
	}
	return nil, nil, false
}

// AddRelease adds a version to a runtime and gives it the next number. A version that is there already is returned as it is.
// No function moves by it.
func (c *Catalog) AddRelease(ctx context.Context, name string, release lambda.RuntimeRelease) (*lambda.RuntimeRelease, error) {
	var added lambda.RuntimeRelease
	_, err := c.EditRuntime(ctx, name, func(s *lambda.RuntimeState) error {
		if i := slices.IndexFunc(s.Releases, func(r lambda.RuntimeRelease) bool { return r.ID == release.ID }); i >= 0 {
			added = s.Releases[i]
			return errUnchanged
		}
		if len(s.Releases) >= maxReleases {
			return invalid("The runtime %s has %d versions; more cannot be added.", name, maxReleases)
		}
		added = release
		added.Number, added.Added = 1, time.Now()
		if n := len(s.Releases); n > 0 {
			added.Number = s.Releases[n-1].Number + 1
		}
		s.Releases = append(s.Releases, added)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &added, nil
}

// Deprecate says of a version that nothing is to move to it any more, or takes that back. What runs in it goes on. Error:
// InvalidParameterValue for one that is not there, or that the runtime's functions use or a rollout tries.
func (c *Catalog) Deprecate(ctx context.Context, name string, id lambda.RuntimeVersionID, deprecated bool) error {
	_, err := c.EditRuntime(ctx, name, func(s *lambda.RuntimeState) error {
		i := slices.IndexFunc(s.Releases, func(r lambda.RuntimeRelease) bool { return r.ID == id })
		if i < 0 {
			return invalid("The runtime %s has no version %q.", name, id)
		}
		if deprecated && (s.Current == id || s.Candidate == id) {
			return invalid("Version %d of %s is in use: publish another one first.", s.Releases[i].Number, name)
		}
		s.Releases[i].Deprecated = deprecated
		return nil
	})
	return err
}

// EditRuntime changes what is known of a runtime, for instance its Current or Candidate: edit gets a copy, and may run several
// times. A Current or Candidate that is neither HostRuntime nor a release, or deprecated, is refused (InvalidParameterValue).
func (c *Catalog) EditRuntime(ctx context.Context, name string, edit func(*lambda.RuntimeState) error) (*lambda.RuntimeState, error) {
	key := runtimeKey(name)
	var written *lambda.RuntimeState
	err := c.retry(ctx, func(ctx context.Context) error {
		old, revision, err := get[lambda.RuntimeState](c, key)
		next := &lambda.RuntimeState{Name: name, Current: lambda.HostRuntime}
		switch {
		case errors.Is(err, store.ErrNotFound):
			revision = store.Absent
		case err != nil:
			return err
		default:
			*next = *old
			next.Releases = slices.Clone(old.Releases)
		}
		written = next
		if err := edit(next); err != nil {
			return err
		}
		for _, id := range []lambda.RuntimeVersionID{next.Current, next.Candidate} {
			known := slices.ContainsFunc(next.Releases, func(r lambda.RuntimeRelease) bool { return r.ID == id && !r.Deprecated })
			if id != lambda.HostRuntime && !known && (id != "" || next.Current == "") {
				return invalid("The runtime %s has no version %q that functions can move to.", name, id)
			}
		}
		raw, err := encode(next)
		if err != nil {
			return err
		}
		return c.apply(ctx, []store.Op{{Key: key, Value: raw, Expect: revision}})
	}, key)
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, err
	}
	return written, nil
}

// RuntimeTrial returns a rollout's word on a function version; see lambda.RuntimeTrial for when it holds.
func (c *Catalog) RuntimeTrial(id ID, number string) (*lambda.RuntimeTrial, bool) {
	t, ok := find[Trial](c, id.trial(number))
	if !ok {
		return nil, false
	}
	return &t.RuntimeTrial, true
}

// SetRuntimeTrial writes a rollout's word on a function version, or with nil takes it back. It does not change the function's
// revision. Error: ResourceNotFound for a version that is not there.
func (c *Catalog) SetRuntimeTrial(ctx context.Context, id ID, number string, trial *Trial) error {
	missing := NotFound(c.arn(id, number))
	_, err := c.change(ctx, id, missing, func(ch *change) error {
		if !c.qualifierExists(id, number) {
			return missing
		}
		if trial == nil {
			ch.stage(store.Delete(id.trial(number), store.Any))
			return nil
		}
		next := *trial
		next.Changed = time.Now()
		return ch.put(id.trial(number), &next)
	})
	return err
}

// SetRuntimeManagement says when a function version ("" and Latest are $LATEST) moves to other versions of its runtime. With
// FunctionUpdate it stays, until it is updated, where it is now; version is Manual's. Errors: ResourceNotFound,
// ResourceConflict while a change is in progress.
func (c *Catalog) SetRuntimeManagement(ctx context.Context, id ID, number string, mode lambda.UpdateRuntimeOn, version lambda.RuntimeVersionID) (*Version, error) {
	number = orLatest(number)
	missing := NotFound(c.arn(id, number))
	var written *Version
	_, err := c.change(ctx, id, missing, func(ch *change) error {
		if err := ch.changeable(""); err != nil {
			return err
		}
		v := &ch.Latest
		if number != lambda.Latest {
			published, ok := find[Version](c, id.version(number))
			if !ok {
				return missing
			}
			copied := *published
			v = &copied
		}
		next := lambda.RuntimeManagement{Mode: mode, Version: version}
		switch mode {
		case lambda.RuntimeAuto:
			next = lambda.RuntimeManagement{}
		case lambda.RuntimeFunctionUpdate:
			next.Version = c.RuntimeChoice(&v.Version).Version
		}
		v.Management, v.RevisionID, written = next, uuid.NewString(), v
		if number != lambda.Latest {
			return ch.put(id.version(number), v)
		}
		if ch.Serving != nil {
			serving := *ch.Serving
			serving.Management = next
			ch.Serving = &serving
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return written, nil
}

// updateRuntime is what an update of $LATEST does to its place among the runtime's versions.
func (c *Catalog) updateRuntime(v *Version, runtimeBefore string) {
	switch {
	case v.Image != nil || v.Runtime != runtimeBefore && v.Management.Mode == lambda.RuntimeManual:
		v.Management = lambda.RuntimeManagement{} // the version that was chosen is one of another runtime
	case v.Management.Mode == lambda.RuntimeFunctionUpdate:
		v.Management.Version = lambda.HostRuntime
		if s, ok := c.RuntimeState(v.Runtime); ok {
			v.Management.Version = s.Current
		}
	}
}
