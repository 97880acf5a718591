package catalog

import (
	"testing"

	"berth/lambda"
	"berth/store"
)

// TestPendingOnlyWhatWaits: variables that read like a state are no work; an update, a new version and a failed one are told
// apart by their records alone, also after a restart.
func TestPendingOnlyWhatWaits(t *testing.T) { overStores(t, testPendingOnlyWhatWaits) }

func testPendingOnlyWhatWaits(t *testing.T, newStore func(testing.TB) store.Catalog) {
	s := newStore(t)
	c := open(t, s)
	v := spec("odd")
	v.Env = map[string]string{"State": "Pending", "Update": "InProgress"}
	v.Description = `"State":"Pending"`
	if _, _, err := c.Create(t.Context(), v, nil, false); err != nil {
		t.Fatal(err)
	}
	finish(t, c, "odd", lambda.Latest, nil)
	if work := c.Pending(10); len(work) != 0 {
		t.Errorf("work for a function that is ready: %v", work)
	}
	create(t, c, "updated")
	if _, _, err := c.Update(t.Context(), id("updated"), "", true, func(v *Version) error { v.MemoryMB++; return nil }); err != nil {
		t.Fatal(err)
	}
	create(t, c, "broken")
	if _, _, err := c.Create(t.Context(), spec("failed"), nil, false); err != nil {
		t.Fatal(err)
	}
	finish(t, c, "failed", lambda.Latest, &Failure{Reason: "no runtime", Code: "InvalidRuntime"})
	for _, c := range []*Catalog{c, open(t, s)} { // a second process, as after a crash
		work := c.Pending(10)
		if len(work) != 2 || work[0] != (Work{id("updated"), lambda.Latest}) || work[1] != (Work{id("updated"), "1"}) {
			t.Errorf("work %v, want $LATEST and version 1 of updated", work)
		}
		if len(c.Pending(1)) != 1 {
			t.Error("more work than asked for")
		}
	}
}

func BenchmarkPending100k(b *testing.B) {
	c := open(b, full(b))
	for b.Loop() {
		if len(c.Pending(10)) != 0 {
			b.Fatal("work")
		}
	}
}
