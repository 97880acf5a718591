package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// maxBehind is how many changes a watcher may leave unread before it is cut off: a stuck one must not hold memory without
// bound, and reading everything anew is cheaper than a longer backlog.
const maxBehind = 100_000

var errBehind = fmt.Errorf("the watcher fell %d changes behind", maxBehind)

// Feed is the reading half of a Catalog implementation: a copy of all entries in memory, and the watchers of it. The
// implementation publishes every batch in revision order; each watcher reads at its own pace from a snapshot and a queue,
// so no watcher waits for another, and publishing never waits for a watcher.
type Feed struct {
	mu       sync.Mutex
	entries  btree.Map[Key, Entry]
	revision Revision
	watchers map[*watcher]struct{}

	loaded  chan struct{} // closed when entries are complete
	failed  chan struct{} // closed after err is set
	isReady bool
	err     error
}

type watcher struct {
	prefix  string
	changes []Entry       // not yet taken, in revision order; guarded by Feed.mu
	upTo    Revision      // guarded by Feed.mu
	behind  bool          // guarded by Feed.mu
	wake    chan struct{} // holds one token while there is something to take
}

// NewFeed returns an empty feed whose watchers wait until Loaded is called.
func NewFeed() *Feed {
	return &Feed{watchers: map[*watcher]struct{}{}, loaded: make(chan struct{}), failed: make(chan struct{})}
}

// Publish applies one batch: its changes in revision order, a nil Value deletes. revision is that of the whole catalog
// afterwards; a batch with a revision not above the last one is ignored, so that a source may repeat itself.
func (f *Feed) Publish(revision Revision, changes ...Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if revision <= f.revision {
		return
	}
	for _, e := range changes {
		if e.Value == nil {
			f.entries.Delete(e.Key)
		} else {
			f.entries.Set(e.Key, e)
		}
	}
	f.revision = revision
	for w := range f.watchers {
		w.push(revision, changes)
	}
}

func (w *watcher) push(revision Revision, changes []Entry) {
	if w.behind {
		return
	}
	for _, e := range changes {
		if strings.HasPrefix(string(e.Key), w.prefix) {
			w.changes = append(w.changes, e)
		}
	}
	w.upTo = revision
	if len(w.changes) > maxBehind {
		w.behind, w.changes = true, nil
	}
	select {
	case w.wake <- struct{}{}:
	default: // already awake
	}
}

// Loaded says that the entries published so far are complete as of revision, and lets the watchers begin.
func (f *Feed) Loaded(revision Revision) {
	f.Publish(revision)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isReady {
		f.isReady = true
		close(f.loaded)
	}
}

// Fail ends all watchers, present and future, with err. The feed is of no further use.
func (f *Feed) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = errors.Join(errors.New("the catalog's feed broke"), err)
		close(f.failed)
	}
}

// Failed is closed once Fail was called.
func (f *Feed) Failed() <-chan struct{} { return f.failed }

// Get returns an entry as of the last published batch.
func (f *Feed) Get(key Key) (Entry, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.entries.Get(key)
}

// WaitRevision waits until everything up to r was published, for an implementation whose batches are published some time
// after they are acknowledged: a Watch that begins thereafter begins at r or later.
func (f *Feed) WaitRevision(ctx context.Context, r Revision) error {
	w, _, at, err := f.join(ctx, "/") // a prefix of no key
	if err != nil {
		return err
	}
	defer f.leave(w)
	for at < r {
		if err := f.await(ctx, w.wake); err != nil {
			return err
		}
		f.mu.Lock()
		at = w.upTo
		f.mu.Unlock()
	}
	return nil
}

// await waits for a word, unless the feed has failed or ctx ends.
func (f *Feed) await(ctx context.Context, word <-chan struct{}) error {
	select {
	case <-word:
		return nil
	case <-f.failed:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join waits for the entries to be complete, and adds a watcher that gets every change after the snapshot.
func (f *Feed) join(ctx context.Context, prefix string) (*watcher, *btree.Map[Key, Entry], Revision, error) {
	if err := f.await(ctx, f.loaded); err != nil {
		return nil, nil, 0, err
	}
	w := &watcher{prefix: prefix, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers[w] = struct{}{}
	return w, f.entries.Copy(), f.revision, nil
}

func (f *Feed) leave(w *watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watchers, w)
}

// Watch implements Catalog.Watch.
func (f *Feed) Watch(ctx context.Context, prefix string, each func(Entry), ready func(Revision)) error {
	if err := CheckPrefix(prefix); err != nil {
		return err
	}
	w, snapshot, at, err := f.join(ctx, prefix)
	if err != nil {
		return err
	}
	defer f.leave(w)

	snapshot.Ascend(Key(prefix), func(k Key, e Entry) bool {
		if !strings.HasPrefix(string(k), prefix) || ctx.Err() != nil {
			return false
		}
		each(e)
		return true
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	ready(at)
	snapshot = nil // or it would hold every replaced value for as long as the watcher lives
	return f.follow(ctx, w, each, ready)
}

func (f *Feed) follow(ctx context.Context, w *watcher, each func(Entry), ready func(Revision)) error {
	var spare []Entry
	for {
		if err := f.await(ctx, w.wake); err != nil {
			return err
		}
		f.mu.Lock()
		changes, upTo, behind := w.changes, w.upTo, w.behind
		w.changes = spare
		f.mu.Unlock()
		if behind {
			return errBehind
		}
		for _, e := range changes {
			each(e)
		}
		ready(upTo)
		clear(changes)
		spare = changes[:0]
		if cap(spare) > 1024 {
			spare = nil // after a burst
		}
	}
}
