// Package store declares the two ports behind which everything durable lives: Catalog, a small transactional key-value
// store that can be watched, and Blobs, content-addressed bytes.
//
// Glossary. A Key is a path of segments joined by '/', each of [A-Za-z0-9_=-]+ (no dots, no empty segments). A prefix is a
// Key followed by '/', or "" for everything. A Revision numbers the writes of one catalog: every applied batch gets
// revisions higher than all before it; each entry carries the revision of its last write.
//
// A Mirror is a reader's copy of one prefix in memory; a Feed is the reading half that implementations share.
//
// Example:
//
//	rev, err := catalog.Apply(ctx, store.Create("function/000000000001/hello", record))
//	_, err = catalog.Apply(ctx,                       // both or neither
//		store.Update("function/000000000001/hello", next, rev),
//		store.Create("version/000000000001/hello/1", published))
//	if errors.Is(err, store.ErrConflict) { … somebody was faster: read again … }
package store

import (
	"context"
	"errors"
	"io"

	"berth/lambda"
)

// Errors of the ports; implementations wrap them.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict: the entry was changed by somebody else")
	ErrInvalid  = errors.New("invalid")          // a key, value, batch or blob outside the limits; nothing was written
	ErrDamaged  = errors.New("damaged")          // what is stored does not match its own checksum
	ErrFull     = errors.New("no space is left") // nothing was written
)

// Key names an entry. See the package comment for its form.
type Key string

// Revision numbers writes; 0 is before every write.
type Revision uint64

// Entry is one key's current value.
type Entry struct {
	Key      Key
	Value    []byte // not to be changed by the receiver
	Revision Revision
}

// Op is one write of a batch.
type Op struct {
	Key    Key
	Value  []byte   // nil deletes
	Expect Revision // revision that the entry must have; Absent, or Any
}

// Special values of Op.Expect.
const (
	Absent Revision = 0
	Any    Revision = ^Revision(0)
)

// Create writes an entry that must not exist.
func Create(k Key, v []byte) Op { return Op{k, v, Absent} }

// Update replaces an entry that must still have revision r.
func Update(k Key, v []byte, r Revision) Op { return Op{k, v, r} }

// Put writes an entry whatever was there.
func Put(k Key, v []byte) Op { return Op{k, v, Any} }

// Delete removes an entry that must still have revision r, or Any; deleting an absent key with Any is not an error.
func Delete(k Key, r Revision) Op { return Op{k, nil, r} }

// Catalog keeps small records (each below 512 KiB). A write that Apply acknowledged survives kill -9 of every process.
type Catalog interface {
	// Get reads the newest acknowledged value: a Get that starts after an Apply has returned sees it.
	// Error: ErrNotFound.
	Get(ctx context.Context, key Key) (Entry, error)

	// Apply writes all ops (1–MaxOps, distinct keys, together at most MaxBatch bytes) or none, and returns the highest
	// revision given to them. Errors: ErrConflict when an Expect does not hold, ErrInvalid, ErrFull: nothing was written.
	// After any other error the batch may or may not have been applied.
	Apply(ctx context.Context, ops ...Op) (Revision, error)

	// Watch calls each with every entry under prefix as of some moment not before the call (in any order, each key once),
	// then calls ready with the catalog's revision of that moment, then calls each for every later change in revision
	// order; a deletion has a nil Value, and a value that is replaced at once may be left out. It calls ready again, with a higher revision, whenever every change up to that revision has been passed to
	// each, also when the changes were outside of prefix, and never in the middle of a batch: so a reader that waits for
	// the revision of its own write need not know under which prefix the feed is. Both are called on the caller's goroutine.
	// Watch returns ctx.Err() when ctx ends, or an error when the feed breaks or each is too slow: the caller watches anew.
	Watch(ctx context.Context, prefix string, each func(Entry), ready func(Revision)) error
}

// Blobs keeps immutable bytes under their own digest, up to 10 GiB each.
type Blobs interface {
	// Put stores all of r, unless present already, and returns its digest and size in bytes. Durable on return; memory
	// bounded (below 16 MiB) whatever the size. Errors: ErrInvalid above MaxBlob bytes, ErrFull, and r's own.
	Put(ctx context.Context, r io.Reader) (lambda.CodeDigest, int64, error)

	// Open reads a blob; ctx holds for the reader too. The reader fails with ErrDamaged, at the end at the latest, if the
	// bytes do not match the digest. Error: ErrNotFound.
	Open(ctx context.Context, digest lambda.CodeDigest) (io.ReadCloser, error)

	// Delete removes a blob; deleting an absent one is not an error.
	Delete(ctx context.Context, digest lambda.CodeDigest) error

	// List calls each with every blob's digest, size, and seconds since it was stored.
	List(ctx context.Context, each func(BlobInfo) error) error
}

// BlobInfo describes one stored blob.
type BlobInfo struct {
	Digest lambda.CodeDigest
	Size   int64
	Age    float64 // seconds since Put
}
