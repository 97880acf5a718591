package jetstream

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"berth/store"
)

// TestFullDisk lets the disk run full behind the reserve's back, as somebody else's files would: what was acknowledged is
// there when there is room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if syscall.Mount("berth-test", dir, "tmpfs", 0, "size=24m") != nil {
		t.Skip("needs root, to mount a small file system")
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 10<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	config := Config{Dir: filepath.Join(dir, "engine"), MinFree: -1 << 40}
	e := open(t, config)
	written := 0
	var failure error
	for failure == nil && written < 1000 {
		v := bytes.Repeat([]byte{byte(written)}, 100_000)
		ops := []store.Op{store.Create(store.Key(fmt.Sprint("a/", written)), v)}
		if written%3 == 2 {
			ops = append(ops, store.Create(store.Key(fmt.Sprint("b/", written)), v))
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, failure = e.Catalog().Apply(ctx, ops...); failure == nil {
			written++
		}
		cancel()
	}
	t.Logf("after %d writes: %v", written, failure)
	if failure == nil || written < 10 {
		t.Fatalf("the disk did not run full")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	e = open(t, config)
	all := everything(t, e)
	for i := range written {
		a, b := all[store.Key(fmt.Sprint("a/", i))].Value, all[store.Key(fmt.Sprint("b/", i))].Value
		if len(a) != 100_000 || a[0] != byte(i) || i%3 == 2 && len(b) != 100_000 {
			t.Errorf("write %d was acknowledged and is lost: %d and %d bytes", i, len(a), len(b))
		}
	}
	apply(t, e, store.Put("again", []byte("works")))
}
