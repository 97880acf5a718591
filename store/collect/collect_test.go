package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
	"berth/store"
	"berth/store/memory"
)

// fixture is a store in memory and a collector that runs over it, in virtual time.
type fixture struct {
	t       *testing.T
	catalog *memory.Catalog
	blobs   *memory.Blobs
	c       *Collector
	stop    func()
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, catalog: memory.NewCatalog(), blobs: memory.NewBlobs()}
	f.start(f.catalog, f.blobs)
	return f
}

func (f *fixture) start(catalog store.Catalog, blobs store.Blobs) {
	f.c = New(Config{Catalog: catalog, Blobs: blobs, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.c.Run(ctx) }()
	f.stop = func() { cancel(); <-done }
}

// put stores content as everybody in the process does.
func (f *fixture) put(content string) lambda.CodeDigest {
	f.t.Helper()
	d, _, err := f.c.Blobs().Put(f.t.Context(), strings.NewReader(content))
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// name writes a record in the form of the catalog's.
func (f *fixture) name(key store.Key, digests ...lambda.CodeDigest) {
	f.t.Helper()
	text := `{"Function":"f"`
	for i, d := range digests {
		text += fmt.Sprintf(`,"Code%d":%q`, i, d)
	}
	if _, err := f.catalog.Apply(f.t.Context(), store.Put(key, []byte(text+"}"))); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) unname(key store.Key) {
	f.t.Helper()
	if _, err := f.catalog.Apply(f.t.Context(), store.Delete(key, store.Any)); err != nil {
		f.t.Fatal(err)
	}
}

// has looks behind the collector's back, so that it is no use.
func (f *fixture) has(d lambda.CodeDigest) bool {
	r, err := f.blobs.Open(f.t.Context(), d)
	if err == nil {
		r.Close()
	}
	return err == nil
}

// pass lets time pass, with a little more for the looks at its end.
func (f *fixture) pass(d time.Duration) {
	time.Sleep(d + 2*firstLook)
	synctest.Wait()
}

func inTime(t *testing.T, test func(f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer func() { f.stop() }()
		test(f)
	})
}

// TestWhatNobodyNamesGoes: code goes with its last name, and nothing goes that a record, a key or an image's manifest names.
func TestWhatNobodyNamesGoes(t *testing.T) {
	inTime(t, func(f *fixture) {
		code, layer, gone := f.put("PK code"), f.put("PK layer"), f.put("PK gone")
		config, tar := f.put(`{"config":1}`), f.put("\x1f\x8b tar")
		manifest := f.put(fmt.Sprintf(`{"config":{"digest":"sha256:%s"},"layers":[{"digest":"sha256:%s"}]}`, config, tar))
		runtime := f.put("PK runtime")
		f.name("api/function/000000000001/f", code, layer)
		f.name("api/function/000000000001/g", gone, layer)
		f.name("api/function/000000000001/image", manifest)
		f.name("api/runtime/" + store.Key(runtime))
		f.pass(Grace + 3*Interval)
		f.unname("api/function/000000000001/g")
		f.pass(3 * Interval)
		for what, d := range map[string]lambda.CodeDigest{"code": code, "layer": layer, "manifest": manifest, "configuration": config, "image's layer": tar, "runtime": runtime} {
			if !f.has(d) {
				t.Errorf("%s was removed", what)
			}
		}
		if f.has(gone) {
			t.Error("what nobody names is still there")
		}
		f.unname("api/function/000000000001/image")
		f.pass(3 * Interval)
		if f.has(manifest) || f.has(config) || f.has(tar) {
			t.Error("the image of a function that is gone is still there")
		}
	})
}

// TestUploadsAreSafe: what was stored, found stored already, or opened, is not removed before a day is over.
func TestUploadsAreSafe(t *testing.T) {
	inTime(t, func(f *fixture) {
		first := f.put("PK one")
		f.pass(Grace - 4*Interval)
		if !f.has(first) {
			t.Error("an upload was removed within its day")
		}
		f.put("PK one") // is there already: nothing is written
		f.pass(Grace - 4*Interval)
		if !f.has(first) {
			t.Error("an upload that found its content stored was removed")
		}
		r, err := f.c.Blobs().Open(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		f.pass(Grace - 4*Interval)
		if !f.has(first) {
			t.Error("what somebody had looked for was removed")
		}
		f.pass(Grace)
		if f.has(first) {
			t.Error("what nobody wants is still there")
		}
	})
}

// TestUploadsUnderWay: an upload of what is just being collected ends with what it has stored.
func TestUploadsUnderWay(t *testing.T) {
	inTime(t, func(f *fixture) {
		d := f.put("PK one")
		r, w := io.Pipe()
		stored := make(chan error, 1)
		go func() {
			_, _, err := f.c.Blobs().Put(t.Context(), r)
			stored <- err
		}()
		io.WriteString(w, "PK ")
		f.pass(2 * Grace)
		if !f.has(d) {
			t.Error("removed while an upload was under way")
		}
		io.WriteString(w, "one")
		w.Close()
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
		f.pass(3 * Interval)
		if !f.has(d) {
			t.Error("removed after an upload had found it")
		}
		f.pass(2 * Grace)
		if f.has(d) {
			t.Error("never removed")
		}
	})
}

// TestOneLookIsNotEnough: a request that has read a record which is deleted then, and names the same code in its own a little later,
// finds it. So what nobody names at one look stays until the next.
func TestOneLookIsNotEnough(t *testing.T) {
	inTime(t, func(f *fixture) {
		d := f.put("PK layer")
		f.name("api/layer/1", d)
		f.pass(2 * Grace)
		f.unname("api/layer/1")
		time.Sleep(Interval) // one look
		synctest.Wait()
		if !f.has(d) {
			t.Fatal("removed by the first look")
		}
		f.name("api/function/f", d)
		f.pass(3 * Interval)
		if !f.has(d) {
			t.Error("removed although it was named again")
		}
	})
}

// TestUploadBetweenLookAndRemoval: the moment between the look at the catalog and the removal.
func TestUploadBetweenLookAndRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, catalog: memory.NewCatalog(), blobs: memory.NewBlobs()}
		d, _, err := f.blobs.Put(t.Context(), strings.NewReader("PK one"))
		if err != nil {
			t.Fatal(err)
		}
		var uploads atomic.Bool
		f.start(watched{f.catalog, func() {
			if uploads.Load() {
				f.put("PK one")
			}
		}}, f.blobs)
		defer func() { f.stop() }()
		time.Sleep(2*Interval + firstLook - time.Second) // the look that would remove it is next
		synctest.Wait()
		uploads.Store(true)
		f.pass(time.Second)
		if !f.has(d) {
			t.Error("removed although it was uploaded after the look")
		}
	})
}

// watched calls after when the catalog was looked at.
type watched struct {
	store.Catalog
	after func()
}

func (w watched) Watch(ctx context.Context, prefix string, each func(store.Entry), ready func(store.Revision)) error {
	err := w.Catalog.Watch(ctx, prefix, each, ready)
	w.after()
	return err
}

// TestCollectingGoesOn: after an end in the middle, of this process or of a removal, the rest goes later and nothing else does.
func TestCollectingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, catalog: memory.NewCatalog(), blobs: memory.NewBlobs()}
		broken := &failing{Blobs: f.blobs, left: 3}
		f.start(f.catalog, broken)
		kept := f.put("PK kept")
		f.name("api/function/f", kept)
		var all []lambda.CodeDigest
		for i := range 8 {
			all = append(all, f.put(fmt.Sprint("PK ", i)))
		}
		left := func() (n int) {
			for _, d := range all {
				if f.has(d) {
					n++
				}
			}
			return n
		}
		f.pass(Grace + Interval)
		if n := left(); n != 5 {
			t.Errorf("%d of 8 are left after the third removal has failed", n)
		}
		f.stop()
		f.start(f.catalog, f.blobs)
		defer func() { f.stop() }()
		f.pass(3 * Interval)
		if n := left(); n != 0 || !f.has(kept) {
			t.Errorf("%d are left; what is named is there: %v", n, f.has(kept))
		}
	})
}

// failing removes some, and then nothing.
type failing struct {
	store.Blobs
	left int
}

func (f *failing) Delete(ctx context.Context, d lambda.CodeDigest) error {
	if f.left == 0 {
		return errors.New("the disk is gone")
	}
	f.left--
	return f.Blobs.Delete(ctx, d)
}

// TestAnUnreadableCatalogRemovesNothing.
func TestAnUnreadableCatalogRemovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, catalog: memory.NewCatalog(), blobs: memory.NewBlobs()}
		f.start(unreadable{f.catalog}, f.blobs)
		defer func() { f.stop() }()
		d := f.put("PK one")
		f.pass(3 * Grace)
		if !f.has(d) {
			t.Error("removed without knowing who names it")
		}
	})
}

type unreadable struct{ store.Catalog }

func (unreadable) Watch(_ context.Context, _ string, each func(store.Entry), _ func(store.Revision)) error {
	return errors.New("broken before it was complete")
}
