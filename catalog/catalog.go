// Package catalog is the typed face of store.Catalog: functions, versions, aliases, policies, accounts and keys, with a
// watched copy in memory that the invoke path reads without I/O.
//
// A function's head record is the lock of everything that belongs to the function: each change of a version, alias or
// policy also writes the head, guarded by its revision, in the same batch. So whatever races, a change either sees the
// function as it is or is tried again, and nothing can be added to a function that is being deleted.
//
// Writes return when the own mirror shows them: the caller's next read sees its write.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/lambda"
	"berth/sleep"
	"berth/store"
)

// Catalog reads from a mirror and writes to a store. Values that it returns are shared: not to be changed.
type Catalog struct {
	store   store.Catalog
	mirror  *store.Mirror[*record]
	region  string
	rings   rings
	choices atomic.Pointer[choices]
	ready   chan struct{}
}

// New makes a Catalog of the functions of one region; the others' ARNs are not reachable in it. Nothing is read before Run.
func New(s store.Catalog, region string) *Catalog {
	c := &Catalog{store: s, region: region, mirror: store.NewMirror(s, root, newRecord), ready: make(chan struct{})}
	c.rings.init()
	return c
}

// Region returns the region that the catalog serves.
func (c *Catalog) Region() string { return c.region }

// Run keeps the mirror up to date until ctx ends.
func (c *Catalog) Run(ctx context.Context) error {
	var rings sync.WaitGroup
	defer rings.Wait()
	rings.Go(func() { c.followRings(ctx) })
	return c.mirror.Run(ctx)
}

// Ready is closed when the mirror has been filled; reads before that find nothing.
func (c *Catalog) Ready() <-chan struct{} { return c.ready }

// Target is what a Ref resolved to.
type Target struct {
	Version    *lambda.Version // shared: not to be changed
	Pool       lambda.PoolID
	Reserved   int    // the function's reserved concurrency; -1 when it has none
	InvokedARN string // with the qualifier that the caller wrote
	// Provisioned says that some versions of the function have environments made ahead: the pool's first manager has them.
	Provisioned bool
	// TokenAudience is whom tenant tokens of the function are meant for; "" when it asks for none.
	TokenAudience string
}

// get returns the decoded record of a key. A record that cannot be decoded is an error, not an absence: writing over it
// would lose what an operator might repair.
func get[T any](c *Catalog, key store.Key) (*T, store.Revision, error) {
	r, revision, ok := c.mirror.Get(key)
	if !ok {
		return nil, 0, store.ErrNotFound
	}
	v, err := r.load()
	if err != nil {
		return nil, 0, err
	}
	t, ok := v.(*T)
	if !ok {
		return nil, 0, fmt.Errorf("catalog: entry %q holds a %T", strings.Clone(string(key)), v) // else each key would be allocated
	}
	return t, revision, nil
}

// find is get for callers to whom absence is an ordinary answer.
func find[T any](c *Catalog, key store.Key) (*T, bool) {
	v, _, err := get[T](c, key)
	return v, err == nil
}

// Limits of a change: conflicts come from other processes or from parallel calls on one function, and clear in
// milliseconds; the deadline also covers the election of a new store leader (4–9 s).
const (
	maxAttempts   = 50
	retryPause    = 2 * time.Millisecond
	writeDeadline = 20 * time.Second
)

// apply writes a batch and waits until the mirror shows it.
func (c *Catalog) apply(ctx context.Context, ops []store.Op) error {
	revision, err := c.store.Apply(ctx, ops...)
	if err != nil {
		return err
	}
	if err := c.mirror.WaitRevision(ctx, revision); err != nil {
		return fmt.Errorf("catalog: written, but not seen in the mirror yet: %w", err)
	}
	return nil
}

// retry runs attempt until it returns anything but a conflict. Between attempts the mirror catches up with keys.
func (c *Catalog) retry(ctx context.Context, attempt func(context.Context) error, keys ...store.Key) error {
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	for n := range maxAttempts {
		err := attempt(ctx)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if err := c.catchUp(ctx, time.Duration(n+1)*retryPause, keys); err != nil {
			return err
		}
	}
	return lambda.Errorf(lambda.ResourceConflict,
		"The operation cannot be performed at this time: other changes to the same resource keep interfering. Try again.")
}

// catchUp waits until the mirror has what the store has under keys, and a moment longer.
func (c *Catalog) catchUp(ctx context.Context, pause time.Duration, keys []store.Key) error {
	for _, k := range keys {
		e, err := c.store.Get(ctx, k)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("catalog: read %q after a conflict: %w", k, err)
		}
		if err := c.mirror.WaitRevision(ctx, e.Revision); err != nil {
			return fmt.Errorf("catalog: the mirror does not keep up: %w", err)
		}
	}
	if !sleep.For(ctx, pause) {
		return ctx.Err()
	}
	return nil
}
