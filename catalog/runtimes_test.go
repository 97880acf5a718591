package catalog

import (
	"strings"
	"testing"

	"berth/lambda"
	"berth/store"
)

var (
	releaseA = lambda.RuntimeVersionID(strings.Repeat("a", 64))
	releaseB = lambda.RuntimeVersionID(strings.Repeat("b", 64))
)

// TestG8_RuntimeChoice goes through a runtime's life: what each mode and each word of a rollout makes of it.
func TestG8_RuntimeChoice(t *testing.T) { overStores(t, testRuntimeChoice) }

func testRuntimeChoice(t *testing.T, newStore func(testing.TB) store.Catalog) {
	c := open(t, newStore(t))
	ctx := t.Context()
	for _, name := range []string{"auto", "update", "manual", "tried"} {
		create(t, c, name)
	}
	runtime := spec("auto").Runtime
	choice := func(name string) lambda.RuntimeChoice {
		v, ok := c.Version(id(name), lambda.Latest)
		if !ok {
			t.Fatal(name)
		}
		got := c.RuntimeChoice(&v.Version)
		got.Trial = nil
		return got
	}
	want := func(when, name string, want lambda.RuntimeChoice) {
		t.Helper()
		if got := choice(name); got != want {
			t.Errorf("%s: %s runs in %+v, want %+v", when, name, got, want)
		}
	}
	host := lambda.RuntimeChoice{Version: lambda.HostRuntime}
	want("nothing added", "auto", host)
	if _, err := c.EditRuntime(ctx, runtime, func(s *lambda.RuntimeState) error { s.Current = releaseA; return nil }); lambda.CodeOf(err) != lambda.InvalidParameterValue {
		t.Errorf("an unknown version became current: %v", err)
	}
	for i, release := range []lambda.RuntimeVersionID{releaseA, releaseB, releaseA} {
		r, err := c.AddRelease(ctx, runtime, lambda.RuntimeRelease{ID: release, Source: "test"})
		if err != nil || r.Number != i%2+1 {
			t.Fatalf("AddRelease = %+v, %v", r, err)
		}
	}
	want("added only", "auto", host)
	set := func(name, number string, mode lambda.UpdateRuntimeOn, version lambda.RuntimeVersionID) {
		t.Helper()
		v, err := c.SetRuntimeManagement(ctx, id(name), number, mode, version)
		if err != nil {
			t.Fatal(err)
		}
		if now, _ := c.Version(id(name), orLatest(number)); now.RevisionID != v.RevisionID || now.Management != v.Management {
			t.Errorf("%s: %+v was not written", name, v.Management)
		}
	}
	set("update", "", lambda.RuntimeFunctionUpdate, "")
	set("manual", lambda.Latest, lambda.RuntimeManual, releaseB)
	current := func(r, candidate lambda.RuntimeVersionID) {
		t.Helper()
		if _, err := c.EditRuntime(ctx, runtime, func(s *lambda.RuntimeState) error { s.Current, s.Candidate = r, candidate; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	current(releaseA, "")
	want("A is current", "auto", lambda.RuntimeChoice{Version: releaseA})
	want("A is current", "update", host)
	want("A is current", "manual", lambda.RuntimeChoice{Version: releaseB})

	if _, _, err := c.Update(ctx, id("update"), "", false, func(v *Version) error { v.MemoryMB++; return nil }); err != nil {
		t.Fatal(err)
	}
	finish(t, c, "update", lambda.Latest, nil)
	want("after its update", "update", lambda.RuntimeChoice{Version: releaseA})

	current(releaseA, releaseB)
	want("B is a candidate", "tried", lambda.RuntimeChoice{Version: releaseA})
	v, _ := c.Version(id("tried"), lambda.Latest)
	trial := lambda.RuntimeTrial{Runtime: runtime, Code: v.Code, Version: releaseA, Candidate: releaseB, Fraction: .1}
	if err := c.SetRuntimeTrial(ctx, id("tried"), lambda.Latest, &Trial{RuntimeTrial: trial}); err != nil {
		t.Fatal(err)
	}
	want("in a trial", "tried", lambda.RuntimeChoice{Version: releaseA, Candidate: releaseB, Fraction: .1})
	if now, _ := c.Version(id("tried"), lambda.Latest); now.RevisionID != v.RevisionID {
		t.Error("a trial changed the function's revision")
	}
	trial = lambda.RuntimeTrial{Runtime: runtime, Code: v.Code, Version: releaseA, Pinned: true, Reason: "it crashed"}
	if err := c.SetRuntimeTrial(ctx, id("tried"), lambda.Latest, &Trial{RuntimeTrial: trial}); err != nil {
		t.Fatal(err)
	}
	current(releaseB, "")
	want("pinned", "tried", lambda.RuntimeChoice{Version: releaseA})
	if _, _, err := c.Update(ctx, id("tried"), "", false, func(v *Version) error { v.Code = lambda.CodeDigest(strings.Repeat("f", 64)); return nil }); err != nil {
		t.Fatal(err)
	}
	finish(t, c, "tried", lambda.Latest, nil)
	want("G7: after a code update", "tried", lambda.RuntimeChoice{Version: releaseB})

	published, err := c.Publish(ctx, id("manual"), "", "", nil)
	if err != nil || published.Management != (lambda.RuntimeManagement{}) {
		t.Errorf("G8: a published version has %+v, %v; want Auto", published, err)
	}
	set("manual", published.Number, lambda.RuntimeManual, releaseA)
	if _, _, err := c.Update(ctx, id("manual"), "", false, func(v *Version) error { v.Runtime = "nodejs20.x"; return nil }); err != nil {
		t.Fatal(err)
	}
	want("another runtime's version is not kept", "manual", host)
	if err := c.SetRuntimeTrial(ctx, id("tried"), "7", &Trial{RuntimeTrial: trial}); lambda.CodeOf(err) != lambda.ResourceNotFound {
		t.Errorf("a trial of an absent version: %v", err)
	}
	if s, r, ok := c.RuntimeRelease(releaseB); !ok || s.Name != runtime || r.Number != 2 {
		t.Errorf("RuntimeRelease = %+v, %+v, %v", s, r, ok)
	}
	if all := c.RuntimeStates(); len(all) != 1 || all[0].Current != releaseB {
		t.Errorf("states = %+v", all)
	}
}
