package conformance

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write KNOWN_DIFFERENCES.md anew")

// TestKnownDifferences holds KNOWN_DIFFERENCES.md to the scenarios and the recordings.
func TestKnownDifferences(t *testing.T) {
	want, err := knownDifferences(load(t))
	if err != nil {
		t.Fatal(err)
	}
	const file = "KNOWN_DIFFERENCES.md"
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not up to date; write it with: go test ./conformance -run TestKnownDifferences -update", file)
	}
}

// TestShare counts the recordings that match among those that concern zip functions: wantShare percent at
// least. That the scenarios which say so do match is what TestRecordings shows, here and in e2e.
func TestShare(t *testing.T) {
	recordings := load(t)
	s := shareOf(recordings)
	t.Logf("%d of %d recordings of zip functions match: %.1f %% (of all %d: %d match as a whole)", s.zipMatching, s.zip, s.percent(), s.all, s.matching)
	if s.percent() < wantShare {
		t.Errorf("want at least %d %%", wantShare)
	}
	for _, o := range outside {
		used := false
		for id := range recordings {
			used = used || strings.HasPrefix(id, o.prefix)
		}
		if !used {
			t.Errorf("no recording begins with %s", o.prefix)
		}
	}
}
