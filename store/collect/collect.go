// Package collect removes blobs that no record of the catalog names any more: code of deleted functions, versions and layers, and
// of what was updated. It is for the one process that uses a store: only what goes through its own Blobs is seen to be in use.
//
// A blob is removed when it is old, when two looks at the whole catalog, an interval apart, found nobody who names it, and when it was
// neither stored nor opened since long before. So a request that has read of it, or has found it stored already, has ended by then or
// written what it makes of it. A reference is whatever looks like a digest, in any record: a form of record that this package does not
// know keeps its blobs, too.
package collect

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"berth/lambda"
	"berth/sleep"
	"berth/store"
)

// Times of collecting.
const (
	// Interval is the time between two looks, and what a blob's age is at least. It is longer than any request but those below.
	Interval = time.Hour
	// Grace is how long a blob is in use after it was stored or opened. The layers of a large image wait as long for their manifest,
	// which is stored last.
	Grace = 24 * time.Hour
	// firstLook leaves the server's start alone.
	firstLook = time.Minute
	// A look at many blobs rests between each hundred, which take some ms of a processor.
	atOnce = 100
	rest   = 10 * time.Millisecond
)

// Config says what is collected. All members are required.
type Config struct {
	Catalog store.Catalog
	Blobs   store.Blobs // nobody else may use them but through Collector.Blobs
	Log     *slog.Logger
}

// Collector removes what nobody names.
type Collector struct {
	cfg    Config
	used   *used
	before map[lambda.CodeDigest]bool // named by nobody at the last look
	leaves map[lambda.CodeDigest]bool // named blobs that are known to name no others: content never changes
}

// New makes a Collector that removes nothing before Run.
func New(cfg Config) *Collector {
	return &Collector{cfg: cfg, used: &used{inner: cfg.Blobs, last: map[lambda.CodeDigest]time.Time{}}, leaves: map[lambda.CodeDigest]bool{}}
}

// Blobs returns the blobs for everybody in this process to use.
func (c *Collector) Blobs() store.Blobs { return c.used }

// Run looks every Interval, until ctx ends. What goes wrong is logged, and tried again at the next look.
func (c *Collector) Run(ctx context.Context) error {
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		n, bytes, err := c.look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			c.cfg.Log.WarnContext(ctx, "code that nobody uses could not be removed; it is tried again later", "err", err, "again", Interval)
		case n > 0:
			c.cfg.Log.InfoContext(ctx, "removed code that nobody uses any more", "files", n, "bytes", bytes)
		}
		timer.Reset(Interval)
	}
}

// look removes what this look and the last one found to be named by nobody. The list comes first: what is stored after it is not in it.
func (c *Collector) look(ctx context.Context) (n int, bytes int64, err error) {
	sizes, old := map[lambda.CodeDigest]int64{}, map[lambda.CodeDigest]bool{}
	err = c.cfg.Blobs.List(ctx, func(b store.BlobInfo) error {
		sizes[b.Digest] = b.Size
		if b.Age > Interval.Seconds() {
			old[b.Digest] = true
		}
		return pace(ctx, len(sizes))
	})
	if err != nil {
		return 0, 0, err
	}
	if err := c.dropNamed(ctx, old, sizes); err != nil {
		return 0, 0, err
	}
	before := c.before
	c.before = old
	c.used.forget()
	for d := range old {
		if !before[d] {
			continue
		}
		gone, err := c.used.remove(ctx, d)
		if err != nil {
			return n, bytes, fmt.Errorf("removing %s: %w", d, err)
		}
		if gone {
			n, bytes = n+1, bytes+sizes[d]
		}
	}
	return n, bytes, nil
}

// pace rests when n things have been done and that is a round number.
func pace(ctx context.Context, n int) error {
	if n%atOnce == 0 {
		sleep.For(ctx, rest)
	}
	return ctx.Err()
}

// used are blobs of which it is known which are in use.
type used struct {
	inner store.Blobs
	busy  sync.RWMutex // held for reading by Put, for writing while one is removed

	mu       sync.Mutex
	last     map[lambda.CodeDigest]time.Time
	removing lambda.CodeDigest // "" when none is
}

func (u *used) note(d lambda.CodeDigest) {
	u.mu.Lock()
	u.last[d] = time.Now()
	u.mu.Unlock()
}

// Put implements store.Blobs.
func (u *used) Put(ctx context.Context, r io.Reader) (lambda.CodeDigest, int64, error) {
	u.busy.RLock()
	defer u.busy.RUnlock()
	d, n, err := u.inner.Put(ctx, r)
	if err == nil {
		u.note(d)
	}
	return d, n, err
}

// Open implements store.Blobs. Who only asks whether a blob is there, to rely on it, opens it as well (package image).
func (u *used) Open(ctx context.Context, d lambda.CodeDigest) (io.ReadCloser, error) {
	u.mu.Lock()
	gone := d != "" && d == u.removing
	u.last[d] = time.Now()
	u.mu.Unlock()
	if gone {
		return nil, fmt.Errorf("blob %s: %w", d, store.ErrNotFound)
	}
	return u.inner.Open(ctx, d)
}

// Delete implements store.Blobs.
func (u *used) Delete(ctx context.Context, d lambda.CodeDigest) error { return u.inner.Delete(ctx, d) }

// List implements store.Blobs.
func (u *used) List(ctx context.Context, each func(store.BlobInfo) error) error {
	return u.inner.List(ctx, each)
}

// forget drops what was used so long ago that it does not matter any more.
func (u *used) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for d, at := range u.last {
		if time.Since(at) > Grace {
			delete(u.last, d)
		}
	}
}

// remove deletes a blob that is not in use. While a Put is under way nothing is removed, since it may be of this blob; the next look
// tries again. It never waits for them, or all others would wait behind it.
func (u *used) remove(ctx context.Context, d lambda.CodeDigest) (bool, error) {
	if !u.busy.TryLock() {
		return false, nil
	}
	defer u.busy.Unlock()
	if !u.begin(d) {
		return false, nil
	}
	err := u.inner.Delete(ctx, d)
	u.mu.Lock()
	u.removing = ""
	u.mu.Unlock()
	return err == nil, err
}

// begin hides a blob that is about to be removed, and reports false when it is in use.
func (u *used) begin(d lambda.CodeDigest) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, ok := u.last[d]; ok && time.Since(at) <= Grace {
		return false
	}
	u.removing = d
	return true
}
