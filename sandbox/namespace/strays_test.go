//go:build linux

package namespace

import (
	"os"
	"path/filepath"
	"testing"

	"berth/sandbox"
)

// TestStraysAreSwept: groups of a daemon that was killed and whose state directory is gone are removed by any other's sweep;
// those of one that may come back, or whose owner nobody knows, stay.
func TestStraysAreSwept(t *testing.T) {
	d := newTestDriver(t)
	own, err := d.setup()
	if err != nil {
		t.Fatal(err)
	}
	limits := sandbox.Limits{MemoryBytes: 64 << 20, CPUs: 1, PIDs: 10, ScratchBytes: 1 << 20}
	root := t.TempDir()
	make := func(name, state string) string {
		c, err := newCgroups(own.layout, name, d.log)
		if err != nil {
			t.Fatal(err)
		}
		if state != "" {
			c.mark(state)
		}
		g, err := c.create("left", limits, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			g.remove(t.Context())
			c.removeParents()
		})
		return g.dir(c.roots()[0])
	}
	exists := filepath.Join(root, "exists")
	if err := os.Mkdir(exists, 0o700); err != nil {
		t.Fatal(err)
	}
	gone := make("berth-straytest-gone", filepath.Join(root, "gone"))
	kept := []string{make("berth-straytest-kept", exists), make("berth-straytest-unknown", "")}
	if owner, err := ownerOf(exists); err != nil || ownerDead(owner) || !ownerDead(owner+"-gone") || ownerDead("1"+owner+"-gone") {
		t.Errorf("ownerDead is wrong about %q, %v", owner, err)
	}
	if _, err := d.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(gone)); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", filepath.Dir(gone), err)
	}
	for _, dir := range kept {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}
