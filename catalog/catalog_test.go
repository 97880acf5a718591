package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/lambda"
	"berth/store"
)

const (
	region  = "us-east-1"
	account = lambda.AccountID("000000000001")
)

// open returns a running catalog over s.
func open(t testing.TB, s store.Catalog) *Catalog {
	t.Helper()
	c := New(s, region)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	select {
	case <-c.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("the catalog does not get ready")
	}
	return c
}

func id(name string) ID { return ID{account, name} }

// spec returns what a caller of Create gives.
func spec(name string) Version {
	return Version{
		Version: lambda.Version{Account: account, Function: name, Code: "c0de", Runtime: "python3.13", Handler: "h.handler",
			MemoryMB: 128, Timeout: 3 * time.Second, EphemeralMB: 512, Logging: lambda.Logging{Format: lambda.Text, Group: "/aws/lambda/" + name}},
		CodeSize: 100, CodeSHA256: "sha", Role: "arn:aws:iam::000000000001:role/r", Architecture: "x86_64",
	}
}

// create makes an Active function.
func create(t testing.TB, c *Catalog, name string) *Function {
	t.Helper()
	f, _, err := c.Create(t.Context(), spec(name), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, c, name, lambda.Latest, nil)
	return f
}

// finish ends a version's preparation.
func finish(t testing.TB, c *Catalog, name, number string, failure *Failure) {
	t.Helper()
	v, ok := c.Version(id(name), number)
	if !ok {
		t.Fatalf("%s has no version %s", name, number)
	}
	if err := c.Finish(t.Context(), Work{id(name), number}, v.ConfigID, failure); err != nil {
		t.Fatal(err)
	}
}

func resolve(t testing.TB, c *Catalog, name, qualifier string) Target {
	t.Helper()
	target, err := c.Resolve(lambda.Ref{Account: account, Region: region, Function: name, Qualifier: qualifier})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func wantError(t testing.TB, err error, code lambda.Code, text string) {
	t.Helper()
	var e *lambda.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, text) {
		t.Fatalf("got error %v, want %s with %q", err, code, text)
	}
}

func TestLifeOfAFunction(t *testing.T) { overStores(t, testLifeOfAFunction) }

func testLifeOfAFunction(t *testing.T, newStore func(testing.TB) store.Catalog) {
	s := newStore(t)
	c := open(t, s)
	f, _, err := c.Create(t.Context(), spec("hello"), map[string]string{"k": "v"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if f.Latest.State != lambda.Pending || f.Latest.StateReasonCode != "Creating" || f.Latest.Update != "" {
		t.Fatalf("after Create: %+v", f.Latest)
	}
	_, err = c.Resolve(lambda.Ref{Account: account, Region: region, Function: "hello"})
	wantError(t, err, lambda.ResourceConflict, "in the following state: Pending")
	if _, _, err := c.Create(t.Context(), spec("hello"), nil, false); err == nil {
		t.Fatal("two functions of one name")
	} else {
		wantError(t, err, lambda.ResourceConflict, "Function already exist: hello")
	}
	_, _, err = c.Update(t.Context(), id("hello"), "", false, func(*Version) error { return nil })
	wantError(t, err, lambda.ResourceConflict, "in the following state: Pending")

	finish(t, c, "hello", lambda.Latest, nil)
	target := resolve(t, c, "hello", "")
	if target.InvokedARN != "arn:aws:lambda:us-east-1:000000000001:function:hello" || target.Reserved != -1 || target.Pool.Function != "" {
		t.Fatalf("target %+v", target)
	}
	if again := resolve(t, c, "hello", ""); again.Version != target.Version {
		t.Fatal("Resolve copies the version")
	}
	first, _ := c.Function(id("hello"))
	if first.Latest.RevisionID == f.Latest.RevisionID || first.Latest.Update != Successful {
		t.Fatalf("after Finish: %+v", first.Latest)
	}

	// An update: the old version serves until the new one is ready.
	updated, _, err := c.Update(t.Context(), id("hello"), first.Latest.RevisionID, false, func(v *Version) error {
		v.Code, v.CodeSize = "c1de", 150
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if updated.Latest.Update != InProgress || updated.Latest.State != lambda.Active || updated.CodeBytes != 150 {
		t.Fatalf("after Update: %+v", updated)
	}
	if v := resolve(t, c, "hello", lambda.Latest).Version; v.Code != "c0de" || v.ConfigID != first.Latest.ConfigID {
		t.Fatalf("during the update %s serves", v.Code)
	}
	_, _, err = c.Update(t.Context(), id("hello"), "", false, func(*Version) error { return nil })
	wantError(t, err, lambda.ResourceConflict, "An update is in progress for resource: arn:aws:lambda:us-east-1:000000000001:function:hello")
	_, _, err = c.Update(t.Context(), id("hello"), "wrong", false, func(*Version) error { return nil })
	wantError(t, err, lambda.PreconditionFailed, "Call the GetFunction/GetAlias API")

	// It fails: the old version goes on serving, and the next update heals.
	finish(t, c, "hello", lambda.Latest, &Failure{"no such runtime", "InvalidRuntime"})
	if v := resolve(t, c, "hello", "").Version; v.Code != "c0de" {
		t.Fatalf("after a failed update %s serves", v.Code)
	}
	broken, _ := c.Function(id("hello"))
	if broken.Latest.State != lambda.Active || broken.Latest.Update != Failed || broken.Latest.UpdateReason != "no such runtime" {
		t.Fatalf("after a failed update: %+v", broken.Latest)
	}
	if _, _, err := c.Update(t.Context(), id("hello"), "", false, func(v *Version) error { v.Code = "c2de"; return nil }); err != nil {
		t.Fatal(err)
	}
	finish(t, c, "hello", lambda.Latest, nil)
	if v := resolve(t, c, "hello", "").Version; v.Code != "c2de" {
		t.Fatalf("after the update %s serves", v.Code)
	}
	if err := c.Delete(t.Context(), id("hello")); err != nil {
		t.Fatal(err)
	}
	_, err = c.Resolve(lambda.Ref{Account: account, Region: region, Function: "hello"})
	wantError(t, err, lambda.ResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000001:function:hello:$LATEST")
	wantError(t, c.Delete(t.Context(), id("hello")), lambda.ResourceNotFound, "function:hello")
	if left := c.keys(root); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestFailedCreationCanBeRepaired(t *testing.T) { overStores(t, testFailedCreationCanBeRepaired) }

func testFailedCreationCanBeRepaired(t *testing.T, newStore func(testing.TB) store.Catalog) {
	c := open(t, newStore(t))
	if _, _, err := c.Create(t.Context(), spec("f"), nil, false); err != nil {
		t.Fatal(err)
	}
	finish(t, c, "f", lambda.Latest, &Failure{"python3.13 is not installed", "InvalidRuntime"})
	_, err := c.Resolve(lambda.Ref{Account: account, Region: region, Function: "f"})
	wantError(t, err, lambda.ResourceConflict, "state: Failed. python3.13 is not installed")
	if _, _, err := c.Update(t.Context(), id("f"), "", false, func(v *Version) error { v.Runtime = "python3.11"; return nil }); err != nil {
		t.Fatal(err)
	}
	finish(t, c, "f", lambda.Latest, nil)
	if v := resolve(t, c, "f", "").Version; v.Runtime != "python3.11" || v.StateReason != "" {
		t.Fatalf("%+v", v)
	}
}

func TestFinishOfAnotherConfigurationIsIgnored(t *testing.T) {
	overStores(t, testFinishOfAnotherConfigurationIsIgnored)
}

func testFinishOfAnotherConfigurationIsIgnored(t *testing.T, newStore func(testing.TB) store.Catalog) {
	c := open(t, newStore(t))
	if _, _, err := c.Create(t.Context(), spec("f"), nil, false); err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(t.Context(), Work{id("f"), lambda.Latest}, "of a function deleted since", nil); err != nil {
		t.Fatal(err)
	}
	if f, _ := c.Function(id("f")); f.Latest.State != lambda.Pending || len(c.Pending(10)) != 1 {
		t.Fatalf("a stale preparation counted: %+v", f.Latest)
	}
}

func TestPublish(t *testing.T) { overStores(t, testPublish) }

func testPublish(t *testing.T, newStore func(testing.TB) store.Catalog) {
	c := open(t, newStore(t))
	create(t, c, "f")
	before, _ := c.Function(id("f"))
	text := "first"
	one, err := c.Publish(t.Context(), id("f"), "", "", &text)
	if err != nil {
		t.Fatal(err)
	}
	if one.Number != "1" || one.State != lambda.Active || one.Update != Successful || one.Description != "first" || one.ConfigID == before.Latest.ConfigID {
		t.Fatalf("version 1: %+v", one)
	}
	after, _ := c.Function(id("f"))
	if after.Latest.RevisionID == before.Latest.RevisionID || after.CodeBytes != 200 || after.Latest.Description != "" {
		t.Fatalf("$LATEST after publishing: %+v", after)
	}
	again, err := c.Publish(t.Context(), id("f"), "sha", after.Latest.RevisionID, nil)
	if err != nil || again.Number != "1" || again.RevisionID != one.RevisionID {
		t.Fatalf("publishing twice: %+v, %v", again, err)
	}
	_, err = c.Publish(t.Context(), id("f"), "other", "", nil)
	wantError(t, err, lambda.InvalidParameterValue, "CodeSHA256 (other) is different from current CodeSHA256 in $LATEST (sha). Please try again")
	if _, _, err := c.Update(t.Context(), id("f"), "", false, func(v *Version) error { v.Description = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	_, err = c.Publish(t.Context(), id("f"), "", "", nil)
	wantError(t, err, lambda.ResourceConflict, "update is in progress")
	finish(t, c, "f", lambda.Latest, nil)
	for n := 2; n <= 12; n++ { // so that numbers sort as numbers
		v, err := c.Publish(t.Context(), id("f"), "", "", nil)
		if err != nil || v.Number != strconv.Itoa(n) {
			t.Fatalf("version %d: %+v, %v", n, v, err)
		}
		if _, _, err := c.Update(t.Context(), id("f"), "", false, func(v *Version) error { v.MemoryMB++; return nil }); err != nil {
			t.Fatal(err)
		}
		finish(t, c, "f", lambda.Latest, nil)
	}
	f, _ := c.Function(id("f"))
	var numbers []string
	for after := ""; ; {
		list, next := c.Versions(f, after, 5)
		for _, v := range list {
			numbers = append(numbers, v.Number)
		}
		if after = next; next == "" {
			break
		}
	}
	if want := "$LATEST 1 2 3 4 5 6 7 8 9 10 11 12"; strings.Join(numbers, " ") != want {
		t.Fatalf("versions %v, want %s", numbers, want)
	}
	if err := c.DeleteVersion(t.Context(), id("f"), "12"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Publish(t.Context(), id("f"), "", "", nil); err != nil || v.Number != "13" {
		t.Fatalf("after the newest was deleted: %+v, %v", v, err)
	}
	if err := c.DeleteVersion(t.Context(), id("f"), "99"); err != nil {
		t.Fatalf("deleting an absent version: %v", err)
	}
}

func TestCreateAndPublish(t *testing.T) { overStores(t, testCreateAndPublish) }

func testCreateAndPublish(t *testing.T, newStore func(testing.TB) store.Catalog) {
	c := open(t, newStore(t))
	_, v, err := c.Create(t.Context(), spec("f"), nil, true)
	if err != nil || v.Number != "1" || v.State != lambda.Pending {
		t.Fatalf("%+v, %v", v, err)
	}
	if work := c.Pending(10); len(work) != 2 {
		t.Fatalf("pending %v", work)
	}
	for _, w := range c.Pending(10) {
		finish(t, c, "f", w.Number, nil)
	}
	if resolve(t, c, "f", "1").Version.Number != "1" || len(c.Pending(10)) != 0 {
		t.Fatal("version 1 is not ready")
	}
	if again, err := c.Publish(t.Context(), id("f"), "", "", nil); err != nil || again.Number != "1" {
		t.Fatalf("%+v, %v", again, err)
	}
}

func TestAliases(t *testing.T) { overStores(t, testAliases) }

func testAliases(t *testing.T, newStore func(testing.TB) store.Catalog) {
	c := open(t, newStore(t))
	create(t, c, "f")
	for range 2 {
		if _, err := c.Publish(t.Context(), id("f"), "", "", nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Update(t.Context(), id("f"), "", false, func(v *Version) error { v.MemoryMB++; return nil }); err != nil {
			t.Fatal(err)
		}
		finish(t, c, "f", lambda.Latest, nil)
	}
	a, err := c.CreateAlias(t.Context(), id("f"), Alias{Name: "prod", Version: "1", Weights: map[string]float64{"2": 0.25}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateAlias(t.Context(), id("f"), Alias{Name: "prod", Version: "1"})
	wantError(t, err, lambda.ResourceConflict, "Alias already exists: arn:aws:lambda:us-east-1:000000000001:function:f:prod")
	hits := map[string]int{}
	const draws = 20000
	for range draws {
		target := resolve(t, c, "f", "prod")
		if !strings.HasSuffix(target.InvokedARN, ":f:prod") {
			t.Fatal(target.InvokedARN)
		}
		hits[target.Version.Number]++
	}
	if share := float64(hits["2"]) / draws; math.Abs(share-0.25) > 0.02 || hits["1"]+hits["2"] != draws {
		t.Fatalf("draws: %v", hits)
	}
	wantError(t, c.DeleteVersion(t.Context(), id("f"), "2"), lambda.ResourceConflict, "[prod]")

	for _, bad := range []struct {
		a    Alias
		code lambda.Code
		text string
	}{
		{Alias{Name: "x", Version: "7"}, lambda.ResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000001:function:f:7"},
		{Alias{Name: "x", Version: "1", Weights: map[string]float64{"1": 0.5}}, lambda.InvalidParameterValue, "already included"},
		{Alias{Name: "x", Version: "1", Weights: map[string]float64{"2": 0.5, "3": 0.1}}, lambda.InvalidParameterValue, "greater than 1"},
		{Alias{Name: "x", Version: "$LATEST", Weights: map[string]float64{"2": 0.5}}, lambda.InvalidParameterValue, "$LATEST is not supported"},
		{Alias{Name: "x", Version: "1", Weights: map[string]float64{"9": 0.5}}, lambda.ResourceNotFound, ":f:9"},
	} {
		_, err := c.CreateAlias(t.Context(), id("f"), bad.a)
		wantError(t, err, bad.code, bad.text)
	}
	_, err = c.UpdateAlias(t.Context(), id("f"), "prod", "wrong", AliasEdit{})
	wantError(t, err, lambda.PreconditionFailed, "GetAlias")
	two, none := "2", map[string]float64{}
	b, err := c.UpdateAlias(t.Context(), id("f"), "prod", a.RevisionID, AliasEdit{Version: &two, Weights: &none})
	if err != nil || b.Version != "2" || b.RevisionID == a.RevisionID {
		t.Fatalf("%+v, %v", b, err)
	}
	if resolve(t, c, "f", "prod").Version.Number != "2" {
		t.Fatal("the alias did not move")
	}
	if _, err := c.CreateAlias(t.Context(), id("f"), Alias{Name: "beta", Version: "$LATEST"}); err != nil {
		t.Fatal(err)
	}
	if list, next := c.Aliases(id("f"), "2", "", 10); len(list) != 1 || next != "" {
		t.Fatalf("aliases of 2: %v, %q", list, next)
	}
	if list, next := c.Aliases(id("f"), "", "", 1); len(list) != 1 || list[0].Name != "beta" || next != "beta" {
		t.Fatalf("first page: %v, %q", list, next)
	}
	if list, next := c.Aliases(id("f"), "", "beta", 1); len(list) != 1 || list[0].Name != "prod" || next != "" {
		t.Fatalf("second page: %v, %q", list, next)
	}
	for range 2 {
		if err := c.DeleteAlias(t.Context(), id("f"), "prod"); err != nil {
			t.Fatal(err)
		}
	}
	_, err = c.Resolve(lambda.Ref{Account: account, Region: region, Function: "f", Qualifier: "prod"})
	wantError(t, err, lambda.ResourceNotFound, ":f:prod")
}

func TestPolicies(t *testing.T) { overStores(t, testPolicies) }

func testPolicies(t *testing.T, newStore func(testing.TB) store.Catalog) {
	c := open(t, newStore(t))
	create(t, c, "f")
	add := func(qualifier, revision, sid string) error {
		return c.AddStatement(t.Context(), id("f"), qualifier, revision, Statement{sid, json.RawMessage(`{"Sid":"` + sid + `"}`)})
	}
	wantError(t, add("42", "", "s"), lambda.ResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:000000000001:function:f:42")
	wantError(t, add("nope", "", "s"), lambda.ResourceNotFound, "Cannot find alias arn: arn:aws:lambda:us-east-1:000000000001:function:f:nope")
	wantError(t, add("with-$-in", "", "s"), lambda.ResourceNotFound, "Function not found")
	wantError(t, c.RemoveStatement(t.Context(), id("f"), "", "", "s"), lambda.ResourceNotFound, "No policy is associated")
	wantError(t, c.RemoveStatement(t.Context(), id("g"), "", "", "s"), lambda.ResourceNotFound, "No policy found for: arn")
	if err := add("", "", "s"); err != nil {
		t.Fatal(err)
	}
	wantError(t, add("", "", "s"), lambda.ResourceConflict, "The statement id (s) provided already exists.")
	wantError(t, add("", "wrong", "t"), lambda.PreconditionFailed, "Call the GetPolicy API")
	p, _ := c.Policy(id("f"), "")
	if err := add("", p.RevisionID, "t"); err != nil {
		t.Fatal(err)
	}
	p, _ = c.Policy(id("f"), "$LATEST")
	if want := `{"Version":"2012-10-17","Id":"default","Statement":[{"Sid":"s"},{"Sid":"t"}]}`; p.Text() != want {
		t.Fatalf("policy %s", p.Text())
	}
	wantError(t, c.RemoveStatement(t.Context(), id("f"), "", "", "u"), lambda.ResourceNotFound, "Statement u is not found in resource policy.")
	wantError(t, c.RemoveStatement(t.Context(), id("f"), "", "wrong", "t"), lambda.PreconditionFailed, "GetPolicy")
	for _, sid := range []string{"s", "t"} {
		if err := c.RemoveStatement(t.Context(), id("f"), "", "", sid); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := c.Policy(id("f"), ""); ok {
		t.Fatal("an empty policy is left")
	}
	big := Statement{"big", json.RawMessage(`{"Sid":"` + strings.Repeat("x", maxPolicy) + `"}`)}
	wantError(t, c.AddStatement(t.Context(), id("f"), "", "", big), lambda.PolicyLengthExceeded, "bigger than the limit (20480)")
}
