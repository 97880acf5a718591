package code

import (
	"context"
	"errors"
	"log/slog"

	"berth/lambda"
	"berth/store"
)

// CacheConfig configures a Cache.
type CacheConfig struct {
	Dir      string      // owned by the cache alone; made if absent
	Blobs    store.Blobs // where zips come from
	MaxBytes int64       // disk space of unpacked trees; trees in use may exceed it; 0 is DefaultCacheBytes
	Log      *slog.Logger
}

// Cache holds unpacked code on disk.
type Cache struct{}

// NewCache opens the cache in cfg.Dir and removes what a killed process left half-done. It starts nothing.
func NewCache(cfg CacheConfig) (*Cache, error) { return nil, errors.New("not built yet") }

// Tree is one unpacked zip in use. It stays on disk until Release.
type Tree struct {
	Path string // absolute directory, root-owned, to be mounted read-only at /var/task
}

// Tree returns the unpacked code of digest, unpacking it if need be; the caller must Release it.
func (c *Cache) Tree(ctx context.Context, digest lambda.CodeDigest) (*Tree, error) {
	return nil, errors.New("not built yet")
}

// Release ends the caller's use of the tree. Idempotent.
func (t *Tree) Release() {}
