package store

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"

	"berth/sleep"
)

// Waits of Mirror.Run before it watches a broken feed anew; doubled each time, back to the first after a success.
const (
	firstRewatch = 100 * time.Millisecond
	lastRewatch  = 5 * time.Second
)

// Mirror is a watched copy in memory of all entries under one prefix, in key order. Reading takes no lock, does no I/O and
// allocates nothing; what a reader sees is always the state after some whole batch. Values are decoded on first use, once.
type Mirror[T any] struct {
	catalog Catalog
	prefix  string
	decode  func(Entry) (T, error)

	current atomic.Pointer[view[T]]
	ready   chan struct{}

	mu       sync.Mutex
	isReady  bool
	advanced chan struct{} // closed and replaced with each new view
}

// view is one immutable state.
type view[T any] struct {
	cells    *btree.Map[Key, *cell[T]]
	revision Revision
}

type cell[T any] struct {
	entry   Entry
	decoded atomic.Pointer[decoded[T]]
}

type decoded[T any] struct {
	value T
	ok    bool
}

// NewMirror returns an empty mirror of prefix; Run fills it. decode turns an entry into a value that all readers share, and
// may run on several goroutines at once. An entry that it refuses is logged and left out of every answer.
func NewMirror[T any](c Catalog, prefix string, decode func(Entry) (T, error)) *Mirror[T] {
	m := &Mirror[T]{catalog: c, prefix: prefix, decode: decode, ready: make(chan struct{}), advanced: make(chan struct{})}
	m.current.Store(&view[T]{cells: new(btree.Map[Key, *cell[T]])})
	return m
}

// Run keeps the mirror up to date until ctx ends, then returns nil. While the feed is broken readers see the last state.
func (m *Mirror[T]) Run(ctx context.Context) error {
	wait := firstRewatch
	for {
		before := m.current.Load()
		err := m.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if m.current.Load() != before {
			wait = firstRewatch
		}
		slog.WarnContext(ctx, "watching the catalog anew", "prefix", m.prefix, "in", wait, "err", err)
		if !sleep.For(ctx, wait) {
			return nil
		}
		wait = min(2*wait, lastRewatch)
	}
}

// follow builds a new state beside the current one, puts it in its place when complete, and applies changes to it.
func (m *Mirror[T]) follow(ctx context.Context) error {
	old, complete := m.current.Load(), false
	cells := new(btree.Map[Key, *cell[T]])
	each := func(e Entry) {
		switch {
		case complete && e.Value == nil:
			cells.Delete(e.Key)
		case complete:
			cells.Set(e.Key, &cell[T]{entry: e})
		default:
			c, known := old.cells.Get(e.Key)
			if !known || c.entry.Revision != e.Revision {
				c = &cell[T]{entry: e}
			}
			cells.Load(e.Key, c)
		}
	}
	return m.catalog.Watch(ctx, m.prefix, each, func(r Revision) {
		complete = true
		m.publish(&view[T]{cells: cells.Copy(), revision: r})
	})
}

func (m *Mirror[T]) publish(v *view[T]) {
	m.current.Store(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.advanced)
	m.advanced = make(chan struct{})
	if !m.isReady {
		m.isReady = true
		close(m.ready)
	}
}

// Ready is closed when the mirror holds a complete state for the first time.
func (m *Mirror[T]) Ready() <-chan struct{} { return m.ready }

// Get returns the value under key and its revision, which an Update of it expects.
func (m *Mirror[T]) Get(key Key) (T, Revision, bool) {
	c, ok := m.current.Load().cells.Get(key)
	if !ok {
		var zero T
		return zero, 0, false
	}
	d := m.value(c)
	return d.value, c.entry.Revision, d.ok
}

// Ascend calls f for each entry from key from on ("" is the first), in key order, until f returns false. All of them are of
// one moment; writers do not wait.
func (m *Mirror[T]) Ascend(from Key, f func(Key, T, Revision) bool) {
	m.current.Load().cells.Ascend(from, func(k Key, c *cell[T]) bool {
		d := m.value(c)
		return !d.ok || f(k, d.value, c.entry.Revision)
	})
}

// Len counts the entries, also those that decode would refuse.
func (m *Mirror[T]) Len() int { return m.current.Load().cells.Len() }

// Revision is that of the catalog which the mirror has reached.
func (m *Mirror[T]) Revision() Revision { return m.current.Load().revision }

// Advanced returns a channel that is closed when the mirror has reached a higher revision than now.
func (m *Mirror[T]) Advanced() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.advanced
}

// WaitRevision waits until the mirror holds every write up to r, whatever its prefix: after it has returned nil for the
// result of an Apply, a Get sees that write. Error: ctx.Err().
func (m *Mirror[T]) WaitRevision(ctx context.Context, r Revision) error {
	for m.current.Load().revision < r {
		m.mu.Lock()
		advanced := m.advanced
		m.mu.Unlock()
		if m.current.Load().revision >= r { // between the first look and taking the channel
			break
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (m *Mirror[T]) value(c *cell[T]) *decoded[T] {
	if d := c.decoded.Load(); d != nil {
		return d
	}
	v, err := m.decode(c.entry)
	d := &decoded[T]{value: v, ok: err == nil}
	if !c.decoded.CompareAndSwap(nil, d) {
		return c.decoded.Load() // another reader was first: everybody shares its value
	}
	if err != nil {
		slog.Error("a record cannot be decoded, it is left out", "key", c.entry.Key, "revision", c.entry.Revision, "err", err)
	}
	return d
}
