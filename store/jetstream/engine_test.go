package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"berth/lambda"
	"berth/store"
)

const patience = time.Minute

// eventually asks until ok, for what the server does in its own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func apply(t *testing.T, e *Engine, ops ...store.Op) store.Revision {
	t.Helper()
	r, err := e.Catalog().Apply(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReopen(t *testing.T) {
	config := Config{Dir: filepath.Join(t.TempDir(), "a", "b")}
	e := open(t, config)
	ra := apply(t, e, store.Put("a", []byte("1")))
	apply(t, e, store.Put("b", []byte("1")))
	rc := apply(t, e, store.Put("c", []byte{}), store.Delete("b", store.Any))
	digest, _, err := e.Blobs().Put(t.Context(), strings.NewReader("blob"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = open(t, config)
		all := everything(t, e)
		if len(all) != 2 || all["a"].Revision != ra || all["c"].Revision != rc-1 || all["c"].Value == nil {
			t.Fatalf("after reopening: %v", all)
		}
		if r, err := e.Blobs().Open(t.Context(), digest); err != nil {
			t.Fatal(err)
		} else if data, err := io.ReadAll(r); string(data) != "blob" || err != nil {
			t.Fatalf("after reopening the blob is %q, %v", data, err)
		}
	}
	if _, err := e.Catalog().Apply(t.Context(), store.Create("a", []byte("x"))); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("Create of what is there: %v", err)
	}
	if r := apply(t, e, store.Create("b", []byte("2"))); r <= rc {
		t.Fatalf("revision %d after %d", r, rc)
	}
	err = filepath.WalkDir(config.Dir, func(path string, d fs.DirEntry, err error) error {
		if info, err2 := d.Info(); err != nil || err2 == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusedDirectories(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	refused := func(dir, want string) {
		t.Helper()
		e, err := Open(t.Context(), Config{Dir: dir, Logger: log})
		if err == nil {
			_ = e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open gives %v, want %q in it", err, want)
		}
	}
	refused("", "needs a directory")

	used := t.TempDir()
	e := open(t, Config{Dir: used})
	refused(used, "another process")
	apply(t, e, store.Put("a", []byte("still works")))

	foreign := t.TempDir()
	if err := os.Mkdir(filepath.Join(foreign, "jetstream"), 0o700); err != nil {
		t.Fatal(err)
	}
	refused(foreign, "choose an empty one")

	clustered := t.TempDir()
	if err := os.WriteFile(filepath.Join(clustered, modeName), []byte("berth engine, of a later program, format 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(clustered, "does not know")
	refused(clustered, "does not know") // and not locked for ever
	if _, err := os.Stat(filepath.Join(clustered, dataAlone)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused directory was written to: %v", err)
	}
}

func TestTombstonesExpire(t *testing.T) {
	e := open(t, Config{TombstoneAge: time.Second})
	var creates, deletes []store.Op
	for i := range 300 {
		k := store.Key(fmt.Sprint("k/", i))
		creates, deletes = append(creates, store.Create(k, []byte("x"))), append(deletes, store.Delete(k, store.Any))
	}
	kept := apply(t, e, append(creates, store.Create("kept", []byte("x")))...)
	apply(t, e, deletes...)
	messages := func() uint64 {
		info, err := e.catalog.stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	if n := messages(); n != 301 {
		t.Fatalf("%d messages, want 300 tombstones and an entry", n)
	}
	eventually(t, "the tombstones are gone", func() bool { return messages() == 1 })
	if all := everything(t, e); len(all) != 1 || all["kept"].Revision != kept {
		t.Fatalf("left over: %v", all)
	}
	apply(t, e, creates...)
}

func TestDamagedRecord(t *testing.T) {
	e := open(t, Config{})
	apply(t, e, store.Put("good", []byte("1")), store.Put("bad", []byte("12345")))
	m, err := e.lastMessage(t.Context(), e.catalog.stream, subject("bad"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(m.Data)
	flipped[len(flipped)-1] ^= 4
	other, err := e.lastMessage(t.Context(), e.catalog.stream, subject("good")) // a whole record, but another key's
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{flipped, nil, []byte("x"), m.Data[:recordHead-1], other.Data, append([]byte{9}, m.Data[1:]...)} {
		if _, err := e.js.Publish(t.Context(), subject("bad"), data); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Catalog().Get(t.Context(), "bad"); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("Get of %q: %v", data, err)
		}
	}
	if all := everything(t, e); len(all) != 1 || string(all["good"].Value) != "1" {
		t.Fatalf("a watch sees %v", all)
	}
	r := apply(t, e, store.Put("bad", []byte("repaired")))
	m2 := store.NewMirror(e.Catalog(), "", func(e store.Entry) (string, error) { return string(e.Value), nil })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	var wg sync.WaitGroup
	wg.Go(func() { _ = m2.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	if err := m2.WaitRevision(ctx, r); err != nil {
		t.Fatal(err)
	}
	if v, _, _ := m2.Get("bad"); v != "repaired" {
		t.Errorf("the repaired record is %q", v)
	}
}

func TestUnfinishedUploadsAreSwept(t *testing.T) {
	config := Config{Dir: t.TempDir()}
	e := open(t, config)
	digest, _, err := e.Blobs().Put(t.Context(), bytes.NewReader(make([]byte, 600_000)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := e.publish(t.Context(), nats.NewMsg(chunk(e.blobs.instance+"-lost", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := e.blobs.sweepOnce(t.Context()); removed != 0 || err != nil {
		t.Fatalf("%d of the engine's own uploads were swept, %v", removed, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, config)
	eventually(t, "only the whole blob's head and three chunks are left", func() bool {
		info, err := e.blobs.stream.Info(t.Context())
		return err == nil && info.State.Msgs == 4
	})
	checkBlobs(t, e, &acknowledged{blobs: map[lambda.CodeDigest]bool{digest: true}})
}

// TestBlobRepair loses a chunk of a stored blob: a new Put of the same bytes must not take it for present.
func TestBlobRepair(t *testing.T) {
	e := open(t, Config{})
	for _, size := range []int{1000, 600_000} {
		data := bytes.Repeat([]byte{byte(size)}, size)
		digest, _, err := e.Blobs().Put(t.Context(), bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := e.blobs.find(t.Context(), digest)
		if err != nil || h == nil {
			t.Fatal(h, err)
		}
		if err := e.blobs.purge(t.Context(), chunk(h.Upload, 1)); err != nil {
			t.Fatal(err)
		}
		r, err := e.Blobs().Open(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("a blob without its first chunk: %v", err)
		}
		if _, _, err := e.Blobs().Put(t.Context(), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		checkBlobs(t, e, &acknowledged{blobs: map[lambda.CodeDigest]bool{digest: true}})
	}
}

func TestClose(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		e := open(t, Config{})
		ready, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			var once sync.Once
			ended <- e.Catalog().Watch(context.Background(), "", func(store.Entry) {}, func(store.Revision) { once.Do(func() { close(ready) }) })
		}()
		<-ready
		apply(t, e, store.Put("a", []byte("1")))
		if err := errors.Join(e.Close(), e.Close()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if err == nil {
				t.Error("the watch ended without an error")
			}
		case <-time.After(patience):
			t.Fatal("a watch goes on after Close")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if _, err := e.Catalog().Apply(ctx, store.Put("a", []byte("2"))); err == nil {
			t.Error("Apply after Close succeeds")
		}
		if err := e.Catalog().Watch(ctx, "", func(store.Entry) {}, func(store.Revision) {}); err == nil {
			t.Error("Watch after Close succeeds")
		}
		cancel()
	}
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+2 })
}
