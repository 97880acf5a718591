package catalog

import (
	"context"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"berth/lambda"
	"berth/store"
)

// Version returns one version of a function: Latest or a published one.
func (c *Catalog) Version(id ID, number string) (*Version, bool) {
	f, ok := c.Function(id)
	if !ok {
		return nil, false
	}
	if number == lambda.Latest {
		return &f.Latest, true
	}
	return find[Version](c, id.version(number))
}

// lastPublished returns the newest published version of f, nil if it has been deleted or there is none.
func (c *Catalog) lastPublished(f *Function) *Version {
	if f.NextVersion == 1 {
		return nil
	}
	v, _ := find[Version](c, f.ID().version(strconv.Itoa(f.NextVersion-1)))
	return v
}

// publish stages a version made of $LATEST, unless last was made of the same code and configuration. The version is
// Active at once if $LATEST is ready, otherwise Pending.
func (ch *change) publish(last *Version) (*Version, error) {
	source, err := ch.Latest.fingerprint()
	if err != nil {
		return nil, err
	}
	if last != nil && last.Source == source {
		return last, nil
	}
	v := ch.Latest
	v.Number, v.Source = strconv.Itoa(ch.NextVersion), source
	v.Management = lambda.RuntimeManagement{} // each version has its own; it begins with Auto
	v.setPending()
	if ch.Latest.State == lambda.Active && ch.Serving == nil {
		v.setReady()
	}
	ch.NextVersion++
	ch.CodeBytes += v.CodeSize
	return &v, ch.put(ch.id.version(v.Number), &v)
}

// setReady ends a preparation well.
func (v *Version) setReady() {
	v.State, v.StateReason, v.StateReasonCode = lambda.Active, "", ""
	v.Update, v.UpdateReason, v.UpdateCode = Successful, "", ""
}

// Publish makes a version of $LATEST, or returns the newest version if nothing changed since. codeSHA256 and revisionID
// must match $LATEST if given; description nil keeps that of $LATEST. Errors: ResourceNotFound, PreconditionFailed,
// InvalidParameterValue, ResourceConflict while a change is in progress.
func (c *Catalog) Publish(ctx context.Context, id ID, codeSHA256, revisionID string, description *string) (*Version, error) {
	arn := lambda.FunctionARN(c.region, id.Account, id.Name)
	var published *Version
	_, err := c.change(ctx, id, NotFound(arn), func(ch *change) error {
		if err := ch.changeable(revisionID); err != nil {
			return err
		}
		if codeSHA256 != "" && codeSHA256 != ch.Latest.CodeSHA256 {
			return invalid("CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.",
				codeSHA256, ch.Latest.CodeSHA256)
		}
		last := c.lastPublished(ch.Function)
		v, err := ch.publish(last)
		if err != nil {
			return err
		}
		if published = v; v == last {
			return errUnchanged
		}
		ch.Latest.RevisionID = uuid.NewString()
		if description == nil {
			return nil
		}
		v.Description = *description
		ch.ops = ch.ops[:len(ch.ops)-1]
		return ch.put(id.version(v.Number), v)
	})
	if err != nil {
		return nil, err
	}
	return published, nil
}

// DeleteVersion removes a published version; one that is not there is not an error, as in Lambda. Errors:
// ResourceNotFound for the function, ResourceConflict while aliases point to the version.
func (c *Catalog) DeleteVersion(ctx context.Context, id ID, number string) error {
	arn := lambda.FunctionARN(c.region, id.Account, id.Name)
	_, err := c.change(ctx, id, NotFound(arn), func(ch *change) error {
		v, ok := find[Version](c, id.version(number))
		if !ok {
			return errUnchanged
		}
		if users := c.aliasesOf(id, number); len(users) > 0 {
			// Text as users report it; not among the recordings.
			return lambda.Errorf(lambda.ResourceConflict,
				"Unable to delete version because the following aliases reference it: [%s]", strings.Join(users, ", "))
		}
		if err := ch.unprovision(c, number); err != nil {
			return err
		}
		ch.CodeBytes -= v.CodeSize
		ch.stage(store.Delete(id.version(number), store.Any))
		ch.stage(store.Delete(id.policy(number), store.Any))
		ch.stage(store.Delete(id.eventConfig(number), store.Any))
		ch.stage(store.Delete(id.trial(number), store.Any))
		return nil
	})
	return err
}

// aliasesOf returns the names of the aliases that send calls to a version.
func (c *Catalog) aliasesOf(id ID, number string) []string {
	var names []string
	for _, k := range c.keys(id.aliases()) {
		a, ok := find[Alias](c, k)
		if !ok {
			continue
		}
		if _, weighted := a.Weights[number]; weighted || a.Version == number {
			names = append(names, a.Name)
		}
	}
	return names
}

// Failure says why a version could not be made ready.
type Failure struct {
	Reason string // for the function's owner
	Code   string // one of the API's StateReasonCode values
}

// Finish records the end of a version's preparation: well, or with a failure. configID says what was prepared; if the
// version has changed since, is gone, or somebody else has finished it, nothing is recorded.
func (c *Catalog) Finish(ctx context.Context, w Work, configID string, failure *Failure) error {
	_, err := c.change(ctx, w.ID, errUnchanged, func(ch *change) error {
		if w.Number == lambda.Latest {
			return ch.finishLatest(configID, failure)
		}
		v, ok := find[Version](c, w.version(w.Number))
		if !ok || v.ConfigID != configID || v.State != lambda.Pending {
			return errUnchanged
		}
		next := *v
		next.finish(failure)
		return ch.put(w.version(w.Number), &next)
	})
	return err
}

func (ch *change) finishLatest(configID string, failure *Failure) error {
	latest := &ch.Latest
	if latest.ConfigID != configID || latest.Update != InProgress && latest.State != lambda.Pending {
		return errUnchanged
	}
	if failure != nil && ch.Serving != nil { // the version before goes on serving
		latest.Update, latest.UpdateReason, latest.UpdateCode = Failed, failure.Reason, failure.Code
		latest.RevisionID = uuid.NewString()
		return nil
	}
	ch.Serving = nil
	latest.finish(failure)
	return nil
}

// finish sets the states of a version whose preparation has ended.
func (v *Version) finish(failure *Failure) {
	v.RevisionID = uuid.NewString()
	if failure == nil {
		v.setReady()
		return
	}
	v.State, v.StateReason, v.StateReasonCode = lambda.Failed, failure.Reason, failure.Code
	v.Update, v.UpdateReason, v.UpdateCode = Failed, failure.Reason, failure.Code
}
