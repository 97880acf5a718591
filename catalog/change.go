package catalog

import (
	"context"
	"errors"

	"berth/lambda"
	"berth/store"
)

// change is one atomic change of a function: a copy of its head to edit, and writes that go with it.
type change struct {
	*Function // edited in place
	id        ID
	ops       []store.Op // writes besides the head
}

// stage adds a write to the change.
func (ch *change) stage(op store.Op) { ch.ops = append(ch.ops, op) }

// put stages a record under a key that the head's revision already guards.
func (ch *change) put(key store.Key, record any) error {
	raw, err := encode(record)
	if err != nil {
		return err
	}
	ch.stage(store.Put(key, raw))
	return nil
}

// errUnchanged ends a change without a write and without an error.
var errUnchanged = errors.New("nothing to change")

// change edits a function under compare-and-set: edit gets a copy and may run several times. Absent functions give
// missing. It returns the function as it was written.
func (c *Catalog) change(ctx context.Context, id ID, missing error, edit func(*change) error) (*Function, error) {
	var written *Function
	attempt := func(ctx context.Context) error {
		ch, revision, err := c.begin(id, missing)
		if err != nil {
			return err
		}
		written = ch.Function
		if err := edit(ch); err != nil {
			return err
		}
		raw, err := encode(ch.Function)
		if err != nil {
			return err
		}
		return c.apply(ctx, append(ch.ops, store.Update(id.head(), raw, revision)))
	}
	err := c.retry(ctx, attempt, id.head(), accountKey(id.Account))
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, err
	}
	return written, nil
}

// begin copies a function as it is at a revision. One that is absent, or being deleted, gives missing.
func (c *Catalog) begin(id ID, missing error) (*change, store.Revision, error) {
	f, revision, err := get[Function](c, id.head())
	if errors.Is(err, store.ErrNotFound) || (err == nil && f.Deleting) {
		return nil, 0, missing
	}
	if err != nil {
		return nil, 0, err
	}
	return &change{Function: f.clone(), id: id}, revision, nil
}

func accountKey(a lambda.AccountID) store.Key { return store.Key(accountPrefix + string(a)) }
