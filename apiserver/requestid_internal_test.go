package apiserver

import (
	"testing"

	"github.com/google/uuid"
)

func TestRequestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newRequestID()
		parsed, err := uuid.Parse(id)
		if err != nil || parsed.Version() != 4 || parsed.Variant() != uuid.RFC4122 || parsed.String() != id || seen[id] {
			t.Fatalf("request id %q: %v, version %v, seen before: %v", id, err, parsed.Version(), seen[id])
		}
		seen[id] = true
	}
}
