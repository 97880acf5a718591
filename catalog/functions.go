package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"berth/lambda"
	"berth/store"
)

// What the API shows while a version is being made ready.
const (
	creatingCode   = "Creating"
	creatingReason = "The function is being created."
)

// Function returns a function's head.
func (c *Catalog) Function(id ID) (*Function, bool) {
	f, ok := find[Function](c, id.head())
	if !ok || f.Deleting {
		return nil, false
	}
	return f, true
}

// Extras are what a function has besides its versions.
type Extras struct {
	Tags           map[string]string
	Signing        string // ID of a code signing configuration, "" for none
	SigningMissing error  // for a Signing that does not exist
}

// Create is CreateWith for a function that has tags at most.
func (c *Catalog) Create(ctx context.Context, v Version, tags map[string]string, publish bool) (*Function, *Version, error) {
	return c.CreateWith(ctx, v, Extras{Tags: tags}, publish)
}

// CreateWith makes a function from the code and configuration in v, and with publish its version 1 too. Both are Pending
// until Finish. It returns the head and, if there is one, version 1. Errors: ResourceConflict when the name is taken,
// extras.SigningMissing.
func (c *Catalog) CreateWith(ctx context.Context, v Version, extras Extras, publish bool) (*Function, *Version, error) {
	v.Region, v.Number = c.region, lambda.Latest
	v.Modified = time.Now()
	v.setPending()
	f := &Function{CodeBytes: v.CodeSize, Latest: v, NextVersion: 1, Tags: extras.Tags, Signing: extras.Signing, arn: v.FunctionARN()}
	var published *Version
	versions := &change{Function: f, id: f.ID()}
	if publish {
		var err error
		if published, err = versions.publish(nil); err != nil {
			return nil, nil, err
		}
	}
	raw, err := encode(f)
	if err != nil {
		return nil, nil, err
	}
	head := versions.id.head()
	err = c.retry(ctx, func(ctx context.Context) error {
		if _, _, taken := c.mirror.Get(head); taken {
			return lambda.Errorf(lambda.ResourceConflict, "Function already exist: %s", v.Function)
		}
		ch := &change{Function: f, id: versions.id, ops: slices.Clone(versions.ops)}
		if err := c.useSigning(ch, extras.Signing, extras.SigningMissing); err != nil {
			return err
		}
		return c.apply(ctx, append(ch.ops, store.Create(head, raw)))
	}, head)
	if err != nil {
		return nil, nil, err
	}
	return f, published, nil
}

// setPending begins a version's life.
func (v *Version) setPending() {
	v.ConfigID, v.RevisionID = uuid.NewString(), uuid.NewString()
	v.State, v.StateReason, v.StateReasonCode = lambda.Pending, creatingReason, creatingCode
	v.Update, v.UpdateReason, v.UpdateCode = "", "", ""
}

// Update changes the code or the configuration of $LATEST: edit changes a copy, and may run several times. Until Finish
// the version before serves invocations. revisionID "" matches any. With publish the change is published at once.
// Errors: ResourceNotFound, PreconditionFailed, ResourceConflict while an earlier change is in progress, edit's own.
func (c *Catalog) Update(ctx context.Context, id ID, revisionID string, publish bool, edit func(*Version) error) (*Function, *Version, error) {
	arn := lambda.FunctionARN(c.region, id.Account, id.Name)
	var published *Version
	f, err := c.change(ctx, id, NotFound(arn), func(ch *change) error {
		if err := ch.changeable(revisionID); err != nil {
			return err
		}
		latest := &ch.Latest
		if ch.Serving == nil && latest.State == lambda.Active {
			before := latest.Version
			ch.Serving = &before
		}
		ch.CodeBytes -= latest.CodeSize
		runtime := latest.Runtime
		if err := edit(latest); err != nil {
			return err
		}
		c.updateRuntime(latest, runtime)
		ch.CodeBytes += latest.CodeSize
		latest.ConfigID, latest.RevisionID, latest.Modified = uuid.NewString(), uuid.NewString(), time.Now()
		latest.Update, latest.UpdateReason, latest.UpdateCode = InProgress, creatingReason, creatingCode
		if !publish {
			return nil
		}
		var err error
		published, err = ch.publish(c.lastPublished(ch.Function))
		return err
	})
	return f, published, err
}

// changeable checks that the function's $LATEST may be changed or published now.
func (f *Function) changeable(revisionID string) error {
	switch {
	case revisionID != "" && revisionID != f.Latest.RevisionID:
		return wrongRevision()
	case f.Latest.Update == InProgress:
		return updating(f.arn)
	case f.Latest.State == lambda.Pending:
		return notActive(lambda.Pending, "")
	}
	return nil
}

// Tag adds and removes tags. Errors: ResourceNotFound, InvalidParameterValue above maxTags.
func (c *Catalog) Tag(ctx context.Context, id ID, add map[string]string, remove []string) error {
	arn := lambda.FunctionARN(c.region, id.Account, id.Name)
	_, err := c.change(ctx, id, NotFound(arn), func(ch *change) error {
		if ch.Tags == nil {
			ch.Tags = make(map[string]string)
		}
		maps.Copy(ch.Tags, add)
		for _, k := range remove {
			delete(ch.Tags, k)
		}
		if err := CheckTags(ch.Tags); err != nil {
			return err
		}
		ch.Latest.RevisionID = uuid.NewString()
		return nil
	})
	return err
}

// maxTags is Lambda's limit of tags per function.
const maxTags = 50

// CheckTags enforces the limit of tags.
func CheckTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return invalid("Number of tags exceeds resource tag limit.")
	}
	return nil
}

// Delete removes a function with all that belongs to it. Error: ResourceNotFound.
func (c *Catalog) Delete(ctx context.Context, id ID) error {
	missing := NotFound(lambda.FunctionARN(c.region, id.Account, id.Name))
	err := c.remove(ctx, id, missing, c.children(id))
	if !errors.Is(err, errTooMany) {
		return err
	}
	_, err = c.change(ctx, id, missing, func(ch *change) error {
		ch.Deleting = true
		ch.stage(store.Put(store.Key(id.pendings()+pendingRemoval), []byte("{}")))
		return ch.release(c)
	})
	if err != nil {
		return err
	}
	return c.Remove(ctx, id)
}

// maxBatch is the port's limit of writes in one Apply.
const maxBatch = 500

// errTooMany says that a function's records do not fit into one batch.
var errTooMany = errors.New("more records than one batch takes")

// remove deletes a function in one batch.
func (c *Catalog) remove(ctx context.Context, id ID, missing error, children []store.Key) error {
	if len(children)+2 > maxBatch { // head and account
		return errTooMany
	}
	attempt := func(ctx context.Context) error {
		ch, revision, err := c.begin(id, missing)
		if err != nil {
			return err
		}
		ch.stage(store.Delete(id.head(), revision)) // first, so that no reader sees a function without its versions
		if err := ch.release(c); err != nil {
			return err
		}
		children := c.children(id) // again: the head's revision proves that the list is whole
		if len(children)+len(ch.ops) > maxBatch {
			return errTooMany
		}
		for _, k := range children {
			ch.stage(store.Delete(k, store.Any))
		}
		return c.apply(ctx, ch.ops)
	}
	return c.retry(ctx, attempt, id.head(), accountKey(id.Account))
}

// Remove ends a deletion that was begun by Delete, perhaps by a process that is no more.
func (c *Catalog) Remove(ctx context.Context, id ID) error {
	f, revision, err := get[Function](c, id.head())
	if errors.Is(err, store.ErrNotFound) || (err == nil && !f.Deleting) {
		return nil
	}
	if err != nil {
		return err
	}
	children := c.children(id) // nobody adds to a function that is Deleting
	for len(children)+1 > maxBatch {
		if err := c.apply(ctx, deletions(children[:maxBatch])); err != nil {
			return fmt.Errorf("catalog: delete %s in batches: %w", f.arn, err)
		}
		children = children[maxBatch:]
	}
	err = c.apply(ctx, append(deletions(children), store.Delete(id.head(), revision)))
	if err != nil && !errors.Is(err, store.ErrConflict) { // a conflict: another process did the same
		return fmt.Errorf("catalog: delete %s: %w", f.arn, err)
	}
	return nil
}

func deletions(keys []store.Key) []store.Op {
	ops := make([]store.Op, 0, len(keys)+1)
	for _, k := range keys {
		ops = append(ops, store.Delete(k, store.Any))
	}
	return ops
}

// children returns the keys of all that belongs to a function, its removal marker last.
func (c *Catalog) children(id ID) []store.Key {
	var keys []store.Key
	for _, prefix := range []string{id.versions(), id.aliases(), id.policies(), id.provisions(), id.eventConfigs(), id.urls(), id.trials(), id.pendings()} {
		keys = append(keys, c.keys(prefix)...)
	}
	return append(c.urlIDs(id), keys...)
}

// Usage sums up what an account uses.
type Usage struct {
	Functions int
	CodeBytes int64 // of all versions, and of all versions of layers
}

// Usage counts an account's functions and the bytes of code of functions and layers.
func (c *Catalog) Usage(a lambda.AccountID) Usage {
	var u Usage
	c.each(functionPrefix+string(a)+"/", "", func(_ store.Key, r *record) bool {
		u.Functions++
		u.CodeBytes += r.codeBytes
		return true
	})
	c.each(layerVersionPrefix+string(a)+"/", "", func(_ store.Key, r *record) bool {
		u.CodeBytes += r.codeBytes
		return true
	})
	return u
}
