package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"berth/lambda"
	"berth/store"
)

// Damage changes a blob's stored bytes behind the port's back.
type Damage func(t *testing.T, digest lambda.CodeDigest)

// Blobs runs the suite; open returns an empty blob store and a way to damage a blob in it, and closes it by t.Cleanup.
func Blobs(t *testing.T, open func(t *testing.T) (store.Blobs, Damage)) {
	for name, test := range map[string]func(*testing.T, store.Blobs){
		"PutOpen":       putOpen,
		"Dedupe":        dedupe,
		"ListDelete":    listDelete,
		"Concurrent":    concurrentPut,
		"BrokenReader":  brokenReader,
		"RefusedDigest": refusedDigest,
		"CloseEarly":    closeEarly,
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := open(t)
			test(t, b)
		})
	}
	t.Run("Damaged", func(t *testing.T) {
		b, damage := open(t)
		damaged(t, b, damage)
	})
}

// BoundedMemory puts and reads a blob of 50 MB, and fails if the heap grows by 40 MB meanwhile, an embedded
// engine's caches and garbage included. For implementations that do not keep blobs in memory.
func BoundedMemory(t *testing.T, b store.Blobs) {
	const size, limit = 50_000_000, 40 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // or garbage is most of what is measured
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	stop, wg := make(chan struct{}), sync.WaitGroup{}
	wg.Go(func() {
		var now runtime.MemStats
		for {
			runtime.ReadMemStats(&now)
			peak.Store(max(peak.Load(), now.HeapAlloc))
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	start := time.Now()
	digest, n, err := b.Put(t.Context(), io.LimitReader(rand.NewChaCha8([32]byte{1}), size))
	if err != nil || n != size {
		t.Fatalf("Put: %d bytes, %v", n, err)
	}
	stored := time.Now()
	r, err := b.Open(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = io.Copy(io.Discard, r); err != nil || n != size {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	_ = r.Close()
	t.Logf("50 MB: stored in %v, read in %v, heap grew by %d MB",
		stored.Sub(start), time.Since(stored), (int64(peak.Load())-int64(before.HeapAlloc))>>20)
	close(stop)
	wg.Wait()
	if grown := int64(peak.Load()) - int64(before.HeapAlloc); grown > limit {
		t.Errorf("the heap grew by %d MB, want at most %d", grown>>20, limit>>20)
	}
}

func random(n int, seed byte) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func put(t *testing.T, b store.Blobs, data []byte) lambda.CodeDigest {
	t.Helper()
	d, n, err := b.Put(t.Context(), bytes.NewReader(data))
	if err != nil || n != int64(len(data)) {
		t.Fatalf("Put of %d bytes: %d, %v", len(data), n, err)
	}
	return d
}

func read(ctx context.Context, b store.Blobs, d lambda.CodeDigest) ([]byte, error) {
	r, err := b.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

func putOpen(t *testing.T, b store.Blobs) {
	const chunk = 256 << 10
	for i, n := range []int{0, 1, 1000, chunk - 1, chunk, chunk + 1, 5*chunk + 17} {
		data := random(n, byte(i))
		sum := sha256.Sum256(data)
		d, got, err := b.Put(t.Context(), iotest.HalfReader(bytes.NewReader(data)))
		if err != nil || got != int64(n) || string(d) != hex.EncodeToString(sum[:]) {
			t.Fatalf("Put of %d bytes: %d, digest %s, %v; want digest %x", n, got, d, err, sum)
		}
		back, err := read(t.Context(), b, d)
		if err != nil || !bytes.Equal(back, data) {
			t.Fatalf("%d bytes: read %d, %v", n, len(back), err)
		}
	}
}

func list(t *testing.T, b store.Blobs) map[lambda.CodeDigest]store.BlobInfo {
	t.Helper()
	all := map[lambda.CodeDigest]store.BlobInfo{}
	err := b.List(t.Context(), func(i store.BlobInfo) error {
		if _, twice := all[i.Digest]; twice {
			t.Errorf("blob %s is listed twice", i.Digest)
		}
		all[i.Digest] = i
		return nil
	})
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return all
}

func dedupe(t *testing.T, b store.Blobs) {
	for _, n := range []int{10, 600_000} {
		data := random(n, 1)
		if first, second := put(t, b, data), put(t, b, data); first != second {
			t.Fatalf("digests %s and %s of the same bytes", first, second)
		}
	}
	if all := list(t, b); len(all) != 2 {
		t.Fatalf("%d blobs, want 2", len(all))
	}
}

func listDelete(t *testing.T, b store.Blobs) {
	if all := list(t, b); len(all) != 0 {
		t.Fatalf("an empty store lists %v", all)
	}
	empty, small, big := put(t, b, nil), put(t, b, random(20, 1)), put(t, b, random(700_000, 2))
	all := list(t, b)
	for d, n := range map[lambda.CodeDigest]int64{empty: 0, small: 20, big: 700_000} {
		if i, ok := all[d]; !ok || i.Size != n || i.Digest != d || i.Age < -1 || i.Age > 60 {
			t.Errorf("blob of %d bytes is listed as %+v", n, i)
		}
	}
	stop := errors.New("stop")
	wantErr(t, "List whose callback fails", b.List(t.Context(), func(store.BlobInfo) error { return stop }), stop)
	for _, d := range []lambda.CodeDigest{big, empty, big} { // twice: deleting an absent one is fine
		if err := b.Delete(t.Context(), d); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		_, err := read(t.Context(), b, d)
		wantErr(t, "Open after Delete", err, store.ErrNotFound)
	}
	if all := list(t, b); len(all) != 1 || all[small].Size != 20 {
		t.Fatalf("after deleting: %v", all)
	}
	put(t, b, random(700_000, 2)) // what was deleted can come again
	if back, err := read(t.Context(), b, big); err != nil || len(back) != 700_000 {
		t.Fatalf("read %d bytes after storing again, %v", len(back), err)
	}
}

func concurrentPut(t *testing.T, b store.Blobs) {
	same := random(900_000, 3)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for j, data := range [][]byte{same, random(300_000, byte(10+i))} {
				d, _, err := b.Put(t.Context(), bytes.NewReader(data))
				if err != nil {
					t.Errorf("Put %d: %v", j, err)
					return
				}
				if back, err := read(t.Context(), b, d); err != nil || !bytes.Equal(back, data) {
					t.Errorf("read %d bytes of %d: %v", len(back), len(data), err)
				}
			}
		})
	}
	wg.Wait()
	if all := list(t, b); len(all) != 7 {
		t.Fatalf("%d blobs, want 7", len(all))
	}
}

func brokenReader(t *testing.T, b store.Blobs) {
	broken := errors.New("the sender hung up")
	for _, n := range []int{0, 100, 1_000_000} {
		_, _, err := b.Put(t.Context(), io.MultiReader(bytes.NewReader(random(n, 4)), iotest.ErrReader(broken)))
		wantErr(t, "Put from a broken reader", err, broken)
	}
	if all := list(t, b); len(all) != 0 {
		t.Fatalf("a failed Put left %v", all)
	}
}

func refusedDigest(t *testing.T, b store.Blobs) {
	for _, d := range []lambda.CodeDigest{"", "abc", "*", lambda.CodeDigest(bytes.Repeat([]byte("G"), 64)),
		lambda.CodeDigest(bytes.Repeat([]byte("A"), 64)), lambda.CodeDigest(bytes.Repeat([]byte("a.b>"), 16))} {
		_, err := b.Open(t.Context(), d)
		wantErr(t, "Open of "+string(d), err, store.ErrInvalid)
		wantErr(t, "Delete of "+string(d), b.Delete(t.Context(), d), store.ErrInvalid)
	}
	_, err := b.Open(t.Context(), lambda.CodeDigest(bytes.Repeat([]byte("a"), 64)))
	wantErr(t, "Open of nothing", err, store.ErrNotFound)
}

func closeEarly(t *testing.T, b store.Blobs) {
	d := put(t, b, random(2_000_000, 5))
	for range 5 {
		r, err := b.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func damaged(t *testing.T, b store.Blobs, damage Damage) {
	for i, n := range []int{0, 500, 800_000} {
		d := put(t, b, random(n, byte(6+i)))
		damage(t, d)
		_, err := read(t.Context(), b, d)
		wantErr(t, "reading a damaged blob", err, store.ErrDamaged)
	}
}
