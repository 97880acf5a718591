package catalog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/lambda"
	"berth/store"
)

func TestReservedConcurrencyIsExact(t *testing.T) { overStores(t, testReservedConcurrencyIsExact) }

func testReservedConcurrencyIsExact(t *testing.T, newStore func(testing.TB) store.Catalog) {
	s := newStore(t)
	// Two processes reserve at once: what they are granted never adds up to more than the account has.
	servers := []*Catalog{open(t, s), open(t, s)}
	const functions, each = 12, 100
	for i := range functions {
		create(t, servers[0], fmt.Sprintf("f%d", i))
	}
	granted := make(chan bool, functions)
	var all sync.WaitGroup
	for i := range functions {
		all.Go(func() {
			c, n := servers[i%2], each
			for { // the other process's function may not be seen yet
				err := c.SetReserved(t.Context(), id(fmt.Sprintf("f%d", i)), &n)
				if lambda.CodeOf(err) == lambda.ResourceNotFound {
					continue
				}
				granted <- err == nil
				return
			}
		})
	}
	all.Wait()
	close(granted)
	sum := 0
	for ok := range granted {
		if ok {
			sum += each
		}
	}
	if sum != 900 {
		t.Fatalf("granted %d of 1,000, of which 100 must stay", sum)
	}
	n := 901
	wantError(t, servers[0].SetReserved(t.Context(), id("f0"), &n), lambda.InvalidParameterValue,
		"Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].")
	zero := 0
	if err := servers[0].SetReserved(t.Context(), id("f0"), &zero); err != nil {
		t.Fatal(err)
	}
	if target := resolve(t, servers[0], "f0", ""); target.Reserved != 0 || target.Pool.Function != "f0" {
		t.Fatalf("%+v", target)
	}
	for i := range functions {
		if err := servers[0].Delete(t.Context(), id(fmt.Sprintf("f%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if a := servers[0].Account(account); a.Reserved != 0 || a.Unreserved() != 1000 {
		t.Fatalf("after all are deleted: %+v", a)
	}
	wantError(t, servers[0].SetReserved(t.Context(), id("f0"), &n), lambda.ResourceNotFound, "function:f0:$LATEST")
}

func TestChangesFromTwoProcessesAllCount(t *testing.T) {
	overStores(t, testChangesFromTwoProcessesAllCount)
}

func testChangesFromTwoProcessesAllCount(t *testing.T, newStore func(testing.TB) store.Catalog) {
	s := newStore(t)
	servers := []*Catalog{open(t, s), open(t, s)}
	create(t, servers[0], "f")
	for _, ok := servers[1].Function(id("f")); !ok; _, ok = servers[1].Function(id("f")) {
		time.Sleep(time.Millisecond)
	}
	var all sync.WaitGroup
	for i, c := range servers {
		all.Go(func() {
			for n := range 20 {
				if err := c.Tag(t.Context(), id("f"), map[string]string{fmt.Sprintf("k%d-%d", i, n): "v"}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	c := open(t, s)
	if f, _ := c.Function(id("f")); len(f.Tags) != 40 {
		t.Fatalf("%d of 40 tags", len(f.Tags))
	}
	wantError(t, c.Tag(t.Context(), id("f"), map[string]string{"1": "", "2": "", "3": "", "4": "", "5": "", "6": "", "7": "", "8": "", "9": "", "10": "", "11": ""}, nil),
		lambda.InvalidParameterValue, "Number of tags exceeds")
}

func TestDeletionInBatchesSurvivesACrash(t *testing.T) {
	overStores(t, testDeletionInBatchesSurvivesACrash)
}

func testDeletionInBatchesSurvivesACrash(t *testing.T, newStore func(testing.TB) store.Catalog) {
	s := newStore(t)
	c := open(t, s)
	create(t, c, "f")
	n := 10
	if err := c.SetReserved(t.Context(), id("f"), &n); err != nil {
		t.Fatal(err)
	}
	for from := 0; from < 1200; from += 400 {
		var ops []store.Op
		for i := from; i < from+400; i++ {
			raw, _ := encode(&Alias{Name: fmt.Sprintf("a%d", i), Version: lambda.Latest})
			ops = append(ops, store.Create(id("f").alias(fmt.Sprintf("a%d", i)), raw))
		}
		if err := c.apply(t.Context(), ops); err != nil {
			t.Fatal(err)
		}
	}
	// The first half of a deletion, then a crash.
	missing := NotFound("f")
	if err := c.remove(t.Context(), id("f"), missing, c.children(id("f"))); !errors.Is(err, errTooMany) {
		t.Fatal(err)
	}
	_, err := c.change(t.Context(), id("f"), missing, func(ch *change) error {
		ch.Deleting = true
		ch.stage(store.Put(store.Key(id("f").pendings()+pendingRemoval), []byte("{}")))
		return ch.release(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	c = open(t, s)
	if _, ok := c.Function(id("f")); ok {
		t.Fatal("a function that is being deleted shows")
	}
	if list, _ := c.Functions(account, "", 10); len(list) != 0 {
		t.Fatal("a function that is being deleted is listed")
	}
	work := c.Pending(10)
	if len(work) != 1 || work[0].Number != "" {
		t.Fatalf("pending %v", work)
	}
	if err := c.Remove(t.Context(), work[0].ID); err != nil {
		t.Fatal(err)
	}
	if left := c.keys(functionPrefix); len(left) != 0 || len(c.keys(aliasPrefix))+len(c.keys(pendingPrefix)) != 0 {
		t.Fatalf("left behind: %v", left)
	}
	create(t, c, "f")
	if err := c.Delete(t.Context(), id("f")); err != nil {
		t.Fatal(err)
	}
}

func TestFirstKey(t *testing.T) { overStores(t, testFirstKey) }

func testFirstKey(t *testing.T, newStore func(testing.TB) store.Catalog) {
	s := newStore(t)
	c := open(t, s)
	key, created, err := c.FirstKey(t.Context())
	if err != nil || !created || len(key.ID) != 20 || len(key.Secret) != 40 || key.Account != FirstAccount {
		t.Fatalf("%v, %v, %v", key.ID, created, err)
	}
	c = open(t, s)
	again, created, err := c.FirstKey(t.Context())
	if err != nil || created || again != key {
		t.Fatalf("a second start: created %v, %v", created, err)
	}
	if found, ok := c.AccessKey(key.ID); !ok || found != key {
		t.Fatal("the key is not found")
	}
	if _, ok := c.AccessKey("AKIAXXXXXXXXXXXXXXXX"); ok {
		t.Fatal("a key that never was is found")
	}
}

func TestListsAreOrderedAndWhole(t *testing.T) { overStores(t, testListsAreOrderedAndWhole) }

func testListsAreOrderedAndWhole(t *testing.T, newStore func(testing.TB) store.Catalog) {
	c := open(t, newStore(t))
	want := []string{"B", "a", "a-b", "a0", "ab", "b"}
	for _, name := range want {
		create(t, c, name)
	}
	other := spec("other")
	other.Account = "000000000002"
	if _, _, err := c.Create(t.Context(), other, nil, false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), id("a"), "", "", nil); err != nil {
		t.Fatal(err)
	}
	var got []string
	for after := ""; ; {
		list, next := c.Functions(account, after, 2)
		for _, f := range list {
			got = append(got, f.Latest.Function)
		}
		if after = next; next == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if u := c.Usage(account); u.Functions != 6 || u.CodeBytes != 700 {
		t.Fatalf("%+v", u)
	}
}

func TestDamagedRecordIsNotOverwritten(t *testing.T) {
	overStores(t, testDamagedRecordIsNotOverwritten)
}

func testDamagedRecordIsNotOverwritten(t *testing.T, newStore func(testing.TB) store.Catalog) {
	s := newStore(t)
	if _, err := s.Apply(t.Context(), store.Put(id("f").head(), []byte("{damaged"))); err != nil {
		t.Fatal(err)
	}
	c := open(t, s)
	if err := c.Tag(t.Context(), id("f"), map[string]string{"a": "b"}, nil); err == nil || lambda.CodeOf(err) == lambda.ResourceNotFound {
		t.Fatalf("got %v", err)
	}
	if _, _, err := c.Create(t.Context(), spec("f"), nil, false); err == nil {
		t.Fatal("a damaged record was overwritten")
	}
}
