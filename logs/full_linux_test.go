package logs

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
)

// TestFullDisk: lines that the disk does not take are counted in the log once it takes lines again; whole lines stay whole.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs to mount a small tmpfs: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	s := open(t, Config{Dir: dir, SegmentBytes: 20_000, MaxBytes: 1 << 20})
	want := fill(s, 200)
	if got := messages(read(t, s, Query{Arrival: true})); !slices.Equal(got, want) {
		t.Fatalf("%d lines", len(got))
	}
	for range 10 {
		fill(s, 200)
		_ = s.flush(t.Context())
	}
	before := len(read(t, s, Query{Arrival: true}).Records)
	if before < 200 || before > 600 {
		t.Fatalf("%d lines fit", before)
	}
	oldest := segmentPath(groupDir(dir, groupKey{account, group}), 1)
	removed, err := os.ReadFile(oldest)
	if err == nil {
		err = os.Remove(oldest)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Append(account, group, event(9, "s", "room again"))
	accounted, again := countLines(removed), false
	for _, m := range messages(read(t, s, Query{Arrival: true})) {
		dropped := 0
		if _, err := fmt.Sscanf(m, "[berth] %d log lines were dropped", &dropped); err == nil {
			accounted += dropped
		} else {
			accounted++
		}
		again = again || m == "room again"
	}
	if accounted != 2201 || !again {
		t.Errorf("%d of 2201 lines are accounted for; new line there: %v", accounted, again)
	}
}
