package code

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"berth/lambda"
	"berth/store"
)

// blobs holds zips in memory; only what the cache calls is there.
type blobs struct {
	store.Blobs
	mu     sync.Mutex
	data   map[lambda.CodeDigest][]byte
	opened atomic.Int64
	block  chan struct{} // when set, Open waits for it or for the context
	broken error         // when set, reading ends with it
}

func newBlobs() *blobs { return &blobs{data: make(map[lambda.CodeDigest][]byte)} }

func (b *blobs) add(data []byte) lambda.CodeDigest {
	sum := sha256.Sum256(data)
	digest := lambda.CodeDigest(hex.EncodeToString(sum[:]))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data[digest] = data
	return digest
}

func (b *blobs) Open(ctx context.Context, digest lambda.CodeDigest) (io.ReadCloser, error) {
	b.opened.Add(1)
	if b.block != nil {
		select {
		case <-b.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	data, found := b.data[digest]
	if !found {
		return nil, store.ErrNotFound
	}
	var r io.Reader = bytes.NewReader(data)
	if b.broken != nil {
		r = io.MultiReader(r, failing{b.broken})
	}
	return io.NopCloser(r), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func open(t testing.TB, dir string, b store.Blobs, limit int64) *Cache {
	t.Helper()
	c, err := NewCache(CacheConfig{Dir: dir, Blobs: b, MaxBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tree(t testing.TB, c *Cache, digest lambda.CodeDigest) *Tree {
	t.Helper()
	tr, err := c.Tree(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func zipOf(t testing.TB, content string) []byte {
	return makeZip(t, item{name: "f", content: content})
}

func onDisk(t testing.TB, c *Cache) (trees, tmp int) {
	t.Helper()
	a, err1 := os.ReadDir(c.trees)
	b, err2 := os.ReadDir(c.tmp)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return len(a), len(b)
}

func TestTreeUnpacksOnce(t *testing.T) {
	b := newBlobs()
	large := makeZip(t, item{name: "f", content: "small"}, // larger than what is kept in memory
		item{name: "g", content: strings.Repeat("0123456789abcdef", inMemory/16+1), edit: func(h *zip.FileHeader) { h.Method = zip.Store }})
	for _, data := range [][]byte{zipOf(t, "hello"), large} {
		digest, c := b.add(data), open(t, t.TempDir(), b, 0)
		before := b.opened.Load()
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				tr, err := c.Tree(t.Context(), digest)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(filepath.Join(tr.Path, "f")); err != nil {
					t.Error(err)
				}
				tr.Release()
				tr.Release()
			})
		}
		wg.Wait()
		if n := b.opened.Load() - before; n != 1 {
			t.Errorf("the blob was opened %d times", n)
		}
		if trees, tmp := onDisk(t, c); trees != 1 || tmp != 0 || c.unused.Len() != 1 {
			t.Errorf("%d trees, %d temporary files, %d unused", trees, tmp, c.unused.Len())
		}
	}
}

func TestTreeFailures(t *testing.T) {
	b := newBlobs()
	c := open(t, t.TempDir(), b, 0)
	good := b.add(zipOf(t, "x"))
	if _, err := c.Tree(t.Context(), "../../etc"); err == nil {
		t.Error("took a strange digest")
	}
	if _, err := c.Tree(t.Context(), lambda.CodeDigest(strings.Repeat("0", 64))); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	var e *lambda.Error
	if _, err := c.Tree(t.Context(), b.add([]byte("no zip"))); !errors.As(err, &e) {
		t.Errorf("not a zip: %v", err)
	}
	b.broken = errors.New("digest mismatch")
	if _, err := c.Tree(t.Context(), good); !errors.Is(err, b.broken) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: %v", err)
	}
	if trees, tmp := onDisk(t, c); trees+tmp+len(c.entries) != 0 {
		t.Errorf("failures left %d trees, %d temporary files, %d entries", trees, tmp, len(c.entries))
	}
	b.broken = nil
	tree(t, c, good).Release() // a failure is not remembered
}

// TestTreeWaits: waiting ends with the waiter's context; the unpacker's end passes the work on.
func TestTreeWaits(t *testing.T) {
	b := newBlobs()
	digest, c := b.add(zipOf(t, "x")), open(t, t.TempDir(), b, 0)
	synctest.Test(t, func(t *testing.T) {
		b.block = make(chan struct{})
		first, cancelFirst := context.WithCancel(t.Context())
		second, cancelSecond := context.WithCancel(t.Context())
		errs := make([]error, 3)
		var wg sync.WaitGroup
		for i, ctx := range []context.Context{first, second, t.Context()} {
			wg.Go(func() {
				var tr *Tree
				if tr, errs[i] = c.Tree(ctx, digest); errs[i] == nil {
					tr.Release()
				}
			})
			synctest.Wait()
		}
		cancelSecond()
		synctest.Wait()
		cancelFirst()
		synctest.Wait()
		close(b.block)
		wg.Wait()
		if !errors.Is(errs[0], context.Canceled) || !errors.Is(errs[1], context.Canceled) || errs[2] != nil {
			t.Errorf("errors: %v", errs)
		}
	})
}

func TestEviction(t *testing.T) {
	b := newBlobs()
	c := open(t, t.TempDir(), b, 5*blockSize) // a tree of one file takes two blocks
	var digests []lambda.CodeDigest
	for i := range 4 {
		digests = append(digests, b.add(zipOf(t, fmt.Sprint(i))))
	}
	held := tree(t, c, digests[0])
	tree(t, c, digests[1]).Release()
	second := tree(t, c, digests[2]) // over the limit: 1 goes
	if _, err := os.Stat(held.Path); err != nil || c.entries[digests[1]] != nil {
		t.Errorf("the wrong tree was evicted: %v", err)
	}
	third := tree(t, c, digests[3])
	if trees, _ := onDisk(t, c); trees != 3 || c.bytes != 6*blockSize {
		t.Errorf("%d trees, %d bytes: those in use must stay", trees, c.bytes)
	}
	second.Release()
	held.Release()
	third.Release()
	if trees, tmp := onDisk(t, c); trees != 2 || tmp != 0 || c.bytes != 4*blockSize || c.entries[digests[2]] != nil {
		t.Errorf("%d trees, %d temporary files, %d bytes", trees, tmp, c.bytes)
	}
	again := tree(t, c, digests[2])
	if got, err := os.ReadFile(filepath.Join(again.Path, "f")); err != nil || string(got) != "2" {
		t.Errorf("unpacked again: %q, %v", got, err)
	}
	again.Release()
}

// TestRestart: whole trees of the same boot are found again, half-made ones and those of another boot are not.
func TestRestart(t *testing.T) {
	b, dir := newBlobs(), t.TempDir()
	digest := b.add(zipOf(t, "x"))
	c := open(t, dir, b, 0)
	tree(t, c, digest)
	for _, path := range []string{filepath.Join(c.tmp, "unpack-1", "sub"), filepath.Join(c.trees, "strange"), filepath.Join(c.trees, string(digest)+"-x")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c = open(t, dir, b, 0)
	tr := tree(t, c, digest)
	if trees, tmp := onDisk(t, c); trees != 1 || tmp != 0 || b.opened.Load() != 1 || c.bytes != 2*blockSize {
		t.Errorf("%d trees, %d temporary files, %d reads, %d bytes", trees, tmp, b.opened.Load(), c.bytes)
	}
	tr.Release()
	if err := os.WriteFile(filepath.Join(dir, "boot"), []byte("another boot\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir, b, 0)
	if trees, _ := onDisk(t, c); trees != 0 {
		t.Error("a tree of another boot was trusted")
	}
	tree(t, c, digest).Release()
	if trees, _ := onDisk(t, open(t, dir, b, 1)); trees != 0 {
		t.Error("a smaller limit was not applied at the start")
	}
}

func TestConcurrentEviction(t *testing.T) {
	b := newBlobs()
	c := open(t, t.TempDir(), b, 5*blockSize)
	var digests []lambda.CodeDigest
	for i := range 6 {
		digests = append(digests, b.add(zipOf(t, fmt.Sprint(i))))
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 60 {
				n := (g*7 + i) % len(digests)
				tr, err := c.Tree(t.Context(), digests[n])
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := os.ReadFile(filepath.Join(tr.Path, "f")); err != nil || string(got) != fmt.Sprint(n) {
					t.Errorf("tree %d in use has %q, %v", n, got, err)
				}
				tr.Release()
			}
		})
	}
	wg.Wait()
	if trees, tmp := onDisk(t, c); trees > 2 || tmp != 0 || c.bytes > 5*blockSize || len(c.entries) != trees {
		t.Errorf("%d trees, %d temporary files, %d bytes, %d entries", trees, tmp, c.bytes, len(c.entries))
	}
}

func BenchmarkTreeCached(b *testing.B) {
	blobs := newBlobs()
	digest, c := blobs.add(zipOf(b, "x")), open(b, b.TempDir(), blobs, 0)
	b.ReportAllocs()
	for b.Loop() {
		tree(b, c, digest).Release()
	}
}

// A tree that is not made of a zip is made once, shared, and made again after a failure.
func TestMadeTrees(t *testing.T) {
	c, err := NewCache(CacheConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	digest := lambda.CodeDigest(strings.Repeat("ab", 32))
	made, broken := 0, errors.New("broken")
	maker := func(_ context.Context, root *os.Root) (int64, error) {
		if made++; made == 1 {
			return 0, errors.Join(root.WriteFile("half", nil, 0o644), broken)
		}
		return 4096, root.WriteFile("whole", nil, 0o644)
	}
	if _, err := c.Made(t.Context(), digest, maker); !errors.Is(err, broken) {
		t.Fatalf("err = %v", err)
	}
	for range 2 {
		tree, err := c.Made(t.Context(), digest, maker)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Release()
		if _, err := os.Stat(tree.Path + "/whole"); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(tree.Path + "/half"); err == nil {
			t.Error("the failed attempt is there")
		}
	}
	if made != 2 {
		t.Errorf("made %d times, want 2", made)
	}
	if _, err := c.Made(t.Context(), "../../etc", maker); err == nil {
		t.Error("a digest that is none was taken")
	}
}
