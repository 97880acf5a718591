package conformance

import (
	"flag"
	"os"
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
