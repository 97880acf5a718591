// Package memory holds both ports of store in memory: a double for tests, with the full contract except durability.
package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"time"

	"berth/lambda"
	"berth/store"
)

// Catalog implements store.Catalog. It starts nothing and needs no closing.
type Catalog struct {
	mu       sync.Mutex // held for the whole of an Apply
	revision store.Revision
	feed     *store.Feed
}

var (
	_ store.Catalog = (*Catalog)(nil)
	_ store.Blobs   = (*Blobs)(nil)
)

// NewCatalog returns an empty catalog.
func NewCatalog() *Catalog {
	c := &Catalog{feed: store.NewFeed()}
	c.feed.Loaded(0)
	return c
}

// Get implements store.Catalog.
func (c *Catalog) Get(ctx context.Context, key store.Key) (store.Entry, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	e, ok := c.feed.Get(key)
	if !ok {
		return store.Entry{}, fmt.Errorf("entry %q: %w", key, store.ErrNotFound)
	}
	return e, ctx.Err()
}

// Apply implements store.Catalog.
func (c *Catalog) Apply(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	if err := store.CheckOps(ops); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := make([]store.Entry, 0, len(ops))
	for i, op := range ops {
		e, _ := c.feed.Get(op.Key) // an absent entry has revision 0, which is store.Absent
		if op.Expect != store.Any && op.Expect != e.Revision {
			return 0, fmt.Errorf("entry %q has revision %d, expected %d: %w", op.Key, e.Revision, op.Expect, store.ErrConflict)
		}
		changes = append(changes, store.Entry{
			Key:      op.Key,
			Value:    clone(op.Value),
			Revision: c.revision + store.Revision(i) + 1,
		})
	}
	c.revision += store.Revision(len(ops))
	c.feed.Publish(c.revision, changes...)
	return c.revision, nil
}

// Watch implements store.Catalog.
func (c *Catalog) Watch(ctx context.Context, prefix string, each func(store.Entry), ready func(store.Revision)) error {
	return c.feed.Watch(ctx, prefix, each, ready)
}

// clone keeps nil and empty apart: nil deletes.
func clone(v []byte) []byte {
	if v == nil {
		return nil
	}
	return append(make([]byte, 0, len(v)), v...)
}

// Blobs implements store.Blobs.
type Blobs struct {
	mu    sync.Mutex
	blobs map[lambda.CodeDigest]blob
}

type blob struct {
	bytes  []byte
	stored time.Time
}

// NewBlobs returns an empty blob store.
func NewBlobs() *Blobs { return &Blobs{blobs: map[lambda.CodeDigest]blob{}} }

// Put implements store.Blobs; unlike a durable one it holds the whole blob in memory.
func (b *Blobs) Put(ctx context.Context, r io.Reader) (lambda.CodeDigest, int64, error) {
	data, err := io.ReadAll(io.LimitReader(r, store.MaxBlob+1))
	if err != nil {
		return "", 0, fmt.Errorf("reading the blob: %w", err)
	}
	if len(data) > store.MaxBlob {
		return "", 0, fmt.Errorf("%w blob: expected at most %d bytes", store.ErrInvalid, store.MaxBlob)
	}
	sum := sha256.Sum256(data)
	digest := lambda.CodeDigest(hex.EncodeToString(sum[:]))
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, present := b.blobs[digest]; !present {
		b.blobs[digest] = blob{data, time.Now()}
	}
	return digest, int64(len(data)), ctx.Err()
}

// Open implements store.Blobs.
func (b *Blobs) Open(ctx context.Context, digest lambda.CodeDigest) (io.ReadCloser, error) {
	if err := store.CheckDigest(digest); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	found, ok := b.blobs[digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", digest, store.ErrNotFound)
	}
	return &reader{rest: bytes.NewReader(found.bytes), whole: found.bytes, digest: digest}, ctx.Err()
}

// Delete implements store.Blobs.
func (b *Blobs) Delete(ctx context.Context, digest lambda.CodeDigest) error {
	if err := store.CheckDigest(digest); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.blobs, digest)
	return ctx.Err()
}

// List implements store.Blobs.
func (b *Blobs) List(ctx context.Context, each func(store.BlobInfo) error) error {
	b.mu.Lock()
	infos := make([]store.BlobInfo, 0, len(b.blobs))
	for d, found := range b.blobs {
		infos = append(infos, store.BlobInfo{Digest: d, Size: int64(len(found.bytes)), Age: time.Since(found.stored).Seconds()})
	}
	b.mu.Unlock()
	for _, info := range infos {
		if err := each(info); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Damage changes a stored blob behind the port's back, for tests of those who read it.
func (b *Blobs) Damage(digest lambda.CodeDigest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := b.blobs[digest]
	found.bytes = append([]byte{'#'}, found.bytes...)
	b.blobs[digest] = found
}

type reader struct {
	rest   *bytes.Reader
	whole  []byte
	digest lambda.CodeDigest
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.rest.Read(p)
	if err == io.EOF {
		if sum := sha256.Sum256(r.whole); hex.EncodeToString(sum[:]) != string(r.digest) {
			return n, fmt.Errorf("blob %s: %w", r.digest, store.ErrDamaged)
		}
	}
	return n, err
}

func (r *reader) Close() error { return nil }
