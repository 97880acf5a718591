package code

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"berth/lambda"
	"berth/store"
)

// DefaultCacheBytes is the disk space of unpacked trees unless configured.
const DefaultCacheBytes = 4 << 30

// CacheConfig configures a Cache.
type CacheConfig struct {
	Dir      string       // owned by this cache alone; made if absent
	Blobs    store.Blobs  // where zips come from
	MaxBytes int64        // disk space of unpacked trees; trees in use may exceed it; 0 is DefaultCacheBytes
	Log      *slog.Logger // nil discards
}

// Cache holds unpacked code on disk. Safe for concurrent use.
//
// On disk: trees/DIGEST-BYTES are whole trees, put there by a rename; tmp is everything else; boot names the boot of the
// machine that wrote the trees. Nothing is synced: after a crash of the machine (another boot) no tree is trusted.
type Cache struct {
	cfg        CacheConfig
	trees, tmp string

	mu      sync.Mutex
	entries map[lambda.CodeDigest]*entry
	unused  *list.List // of *entry without references, the longest unused first
	bytes   int64      // of all ready entries
}

// entry is one tree, being unpacked until ready is closed.
type entry struct {
	digest lambda.CodeDigest
	zips   []lambda.CodeDigest // what the tree is made of: the digest itself, or several layers
	write  Maker               // makes a tree that is not made of zips
	path   string
	bytes  int64
	refs   int
	place  *list.Element // in unused, nil while referenced
	ready  chan struct{}
	err    error // of the unpacking; valid once ready is closed
}

// NewCache opens the cache in cfg.Dir and removes what a killed process left half-done, or everything after a reboot. It
// starts nothing.
func NewCache(cfg CacheConfig) (*Cache, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultCacheBytes
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("code cache: %w", err)
	}
	c := &Cache{
		cfg: cfg, trees: filepath.Join(dir, "trees"), tmp: filepath.Join(dir, "tmp"),
		entries: make(map[lambda.CodeDigest]*entry), unused: list.New(),
	}
	if err := c.sweep(filepath.Join(dir, "boot")); err != nil {
		return nil, fmt.Errorf("code cache: %w", err)
	}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("code cache: %w", err)
	}
	c.removeAll(c.evict(c.cfg.MaxBytes))
	return c, nil
}

// sweep leaves whole trees of this boot only.
func (c *Cache) sweep(bootFile string) error {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // unknown: trust nothing
	wrote, err := os.ReadFile(bootFile)
	trusted := err == nil && len(boot) > 0 && bytes.Equal(boot, wrote)
	if !trusted {
		if err := os.RemoveAll(c.trees); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(c.tmp); err != nil {
		return err
	}
	for _, dir := range []string{c.tmp, c.trees} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if trusted {
		return nil
	}
	return os.WriteFile(bootFile, boot, 0o600)
}

// load finds the trees of earlier processes.
func (c *Cache) load() error {
	found, err := os.ReadDir(c.trees)
	if err != nil {
		return err
	}
	for _, f := range found {
		name, size, _ := strings.Cut(f.Name(), "-")
		n, err := strconv.ParseInt(size, 10, 64)
		digest := lambda.CodeDigest(name)
		if err != nil || n < 0 || !validDigest(digest) || c.entries[digest] != nil {
			c.cfg.Log.Warn("removing a strange file from the code cache", "file", f.Name())
			if err := os.RemoveAll(filepath.Join(c.trees, f.Name())); err != nil {
				return err
			}
			continue
		}
		e := &entry{digest: digest, path: filepath.Join(c.trees, f.Name()), bytes: n, ready: make(chan struct{})}
		close(e.ready)
		e.place = c.unused.PushBack(e)
		c.entries[digest] = e
		c.bytes += n
	}
	return nil
}

// Tree is one unpacked zip in use. It stays on disk, unchanged, until Release.
type Tree struct {
	Path string // absolute directory, to be mounted read-only at /var/task

	cache    *Cache
	entry    *entry
	released atomic.Bool
}

// Tree returns the unpacked code of digest, unpacking it if need be; the caller must Release it. Concurrent calls for one
// digest unpack once; a call whose ctx ends goes at once, and if it was the one unpacking, a waiting call takes over. A
// call that unpacks also pays for removing what must make room.
//
// Errors: store.ErrNotFound (wrapped) for an absent blob, *lambda.Error (wrapped) for a zip that Inspect would refuse,
// others for a damaged blob or a failing disk.
func (c *Cache) Tree(ctx context.Context, digest lambda.CodeDigest) (*Tree, error) {
	return c.tree(ctx, digest, []lambda.CodeDigest{digest}, nil)
}

// Maker makes a tree in root, an empty directory, and returns the disk space that it takes. What it leaves after an error is
// removed.
type Maker func(ctx context.Context, root *os.Root) (int64, error)

// Made is Tree for what is no zip: digest must name what make makes, whenever and wherever it is made. Errors are make's.
func (c *Cache) Made(ctx context.Context, digest lambda.CodeDigest, make Maker) (*Tree, error) {
	return c.tree(ctx, digest, nil, make)
}

// tree is Tree for what is known as digest and made of zips, or by write.
func (c *Cache) tree(ctx context.Context, digest lambda.CodeDigest, zips []lambda.CodeDigest, write Maker) (*Tree, error) {
	for _, d := range append([]lambda.CodeDigest{digest}, zips...) {
		if !validDigest(d) {
			return nil, fmt.Errorf("code digest must be 64 lower-case hexadecimal digits, not %.80q", d)
		}
	}
	for {
		c.mu.Lock()
		e := c.entries[digest]
		if e == nil {
			e = &entry{digest: digest, zips: zips, write: write, ready: make(chan struct{})}
			c.entries[digest] = e
			c.mu.Unlock()
			return c.fill(ctx, e)
		}
		if e.path != "" {
			c.hold(e)
			c.mu.Unlock()
			return &Tree{Path: e.path, cache: c, entry: e}, nil
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for code %s: %w", digest, ctx.Err())
		case <-e.ready:
			if e.err != nil && !isContextError(e.err) { // the unpacker's impatience is not ours
				return nil, e.err
			}
		}
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// hold adds a reference. The caller has c.mu.
func (c *Cache) hold(e *entry) {
	e.refs++
	if e.place != nil {
		c.unused.Remove(e.place)
		e.place = nil
	}
}

// fill unpacks a new entry for its first caller.
func (c *Cache) fill(ctx context.Context, e *entry) (*Tree, error) {
	began := time.Now()
	path, size, err := c.unpack(ctx, e)
	if errors.Is(err, syscall.ENOSPC) {
		c.cfg.Log.Warn("the disk is full: removing all unused code", "digest", e.digest)
		c.makeRoom()
		path, size, err = c.unpack(ctx, e)
	}
	c.mu.Lock()
	if err != nil {
		e.err = fmt.Errorf("unpack code %s: %w", e.digest, err)
		delete(c.entries, e.digest)
		close(e.ready)
		c.mu.Unlock()
		return nil, e.err
	}
	e.path, e.bytes = path, size
	c.bytes += size
	c.hold(e)
	close(e.ready)
	dead := c.evict(c.cfg.MaxBytes)
	c.mu.Unlock()
	c.cfg.Log.Debug("unpacked code", "digest", e.digest, "bytes", size, "took", time.Since(began))
	c.removeAll(dead)
	return &Tree{Path: path, cache: c, entry: e}, nil
}

// Release ends the caller's use of the tree. Idempotent. It removes unused trees if there is too much on disk.
func (t *Tree) Release() {
	if t.released.Swap(true) {
		return
	}
	c, e := t.cache, t.entry
	c.mu.Lock()
	if e.refs--; e.refs == 0 {
		e.place = c.unused.PushBack(e)
	}
	dead := c.evict(c.cfg.MaxBytes)
	c.mu.Unlock()
	c.removeAll(dead)
}

func (c *Cache) makeRoom() {
	c.mu.Lock()
	dead := c.evict(0)
	c.mu.Unlock()
	c.removeAll(dead)
}

// evict takes unused trees out of the cache until at most limit bytes are left, and returns where they were moved to. The
// caller has c.mu and removes them after giving it back.
func (c *Cache) evict(limit int64) (dead []string) {
	for c.bytes > limit && c.unused.Len() > 0 {
		e := c.unused.Remove(c.unused.Front()).(*entry)
		c.bytes -= e.bytes
		delete(c.entries, e.digest)
		grave := filepath.Join(c.tmp, "dead-"+filepath.Base(e.path)+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
		if err := os.Rename(e.path, grave); err != nil {
			c.cfg.Log.Warn("cannot move unused code away, removing it in place", "path", e.path, "error", err)
			c.removeAll([]string{e.path}) // now: the name must be free before the digest is unpacked again
			continue
		}
		dead = append(dead, grave)
	}
	return dead
}

func (c *Cache) removeAll(paths []string) {
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			c.cfg.Log.Error("cannot remove unused code", "path", path, "error", err)
		}
	}
}

// unpack brings an entry's zips to their place among the trees.
func (c *Cache) unpack(ctx context.Context, e *entry) (path string, size int64, err error) {
	write := e.write
	if write == nil {
		plan, done, err := c.plan(ctx, e.zips)
		if err != nil {
			return "", 0, err
		}
		defer done()
		write = plan.write
	}
	dir, err := os.MkdirTemp(c.tmp, "unpack-")
	if err != nil {
		return "", 0, err
	}
	defer func() {
		if err != nil {
			c.removeAll([]string{dir})
		}
	}()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = root.Close() }()
	if size, err = write(ctx, root); err != nil {
		return "", 0, err
	}
	if err = os.Chmod(dir, dirMode); err != nil {
		return "", 0, err
	}
	path = filepath.Join(c.trees, string(e.digest)+"-"+strconv.FormatInt(size, 10))
	return path, size, os.Rename(dir, path)
}

// inMemory is up to how many bytes a zip is unpacked from memory; a larger one goes through a file.
const inMemory = 4 << 20

// fetch reads a whole blob, to its end, where the store verifies its digest.
func (c *Cache) fetch(ctx context.Context, digest lambda.CodeDigest) (zip io.ReaderAt, size int64, done func(), err error) {
	blob, err := c.cfg.Blobs.Open(ctx, digest)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("open the zip: %w", err)
	}
	defer func() { _ = blob.Close() }()
	limited := io.LimitReader(blob, lambda.MaxUnpacked+1)
	head, err := io.ReadAll(io.LimitReader(limited, inMemory+1))
	if err != nil {
		return nil, 0, nil, fmt.Errorf("the stored zip is damaged or cannot be read: %w", err)
	}
	if len(head) <= inMemory {
		return bytes.NewReader(head), int64(len(head)), func() {}, nil
	}
	f, err := os.CreateTemp(c.tmp, "zip-")
	if err != nil {
		return nil, 0, nil, err
	}
	done = func() {
		_ = f.Close()
		c.removeAll([]string{f.Name()})
	}
	size, err = io.Copy(f, io.MultiReader(bytes.NewReader(head), limited))
	if err == nil && size > lambda.MaxUnpacked {
		err = fmt.Errorf("more than %d bytes", lambda.MaxUnpacked)
	}
	if err != nil {
		done()
		return nil, 0, nil, fmt.Errorf("the stored zip is damaged or cannot be read: %w", err)
	}
	return f, size, done, nil
}

func validDigest(d lambda.CodeDigest) bool {
	return len(d) == 64 && strings.Trim(string(d), "0123456789abcdef") == ""
}
