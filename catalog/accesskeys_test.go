package catalog

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"berth/lambda"
	"berth/policy"
	"berth/store"
	"berth/store/memory"
)

const readOnly = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"lambda:Get*","Resource":"*"}]}`

func TestKeysOfAccounts(t *testing.T) { overStores(t, testKeysOfAccounts) }

func testKeysOfAccounts(t *testing.T, newStore func(testing.TB) store.Catalog) {
	s := newStore(t)
	c := open(t, s)
	ctx := t.Context()
	first, _, err := c.FirstKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ann, err := c.CreateKey(ctx, FirstAccount, "ann", readOnly)
	if err != nil || !ann.Restricted || ann.Policy == nil || ann.Created.IsZero() {
		t.Fatalf("%+v, %v", ann, err)
	}
	c = open(t, s) // what is stored, read anew
	again, ok := c.Key(ann.ID)
	if !ok || again.AccessKey != ann.AccessKey || string(again.Text) != readOnly || !again.Created.Equal(ann.Created) {
		t.Fatalf("read back %+v", again)
	}
	if d := policy.Decide(&policy.Request{Principal: policy.Principal{Account: string(FirstAccount)}, Owner: string(FirstAccount), Identity: again.Policy,
		Action: "lambda:InvokeFunction", Resource: "*"}); d.Allowed() {
		t.Error("the stored policy allows what it does not")
	}
	// A server that starts takes no key of a user, or with a policy, for the first account's own.
	root, err := c.CreateKey(ctx, FirstAccount, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if k, created, err := c.FirstKey(ctx); err != nil || created || k != first {
		t.Errorf("the first key is %s, %v, %v; want %s", k.ID, created, err, first.ID)
	}
	if err := c.DeleteKey(ctx, first.ID); err != nil {
		t.Errorf("another root key is there: %v", err)
	}
	wantError(t, c.DeleteKey(ctx, root.ID), lambda.ResourceConflict, "last that may do everything")
	if err := c.DeleteKey(ctx, ann.ID); err != nil {
		t.Error(err)
	}
	wantError(t, c.DeleteKey(ctx, ann.ID), lambda.ResourceNotFound, "no access key")
	if list := c.Keys(FirstAccount); len(list) != 1 || list[0].ID != root.ID {
		t.Errorf("%d keys are left", len(list))
	}

	_, err = c.CreateKey(ctx, "000000000009", "", "")
	wantError(t, err, lambda.ResourceNotFound, "There is no account")
	_, err = c.CreateKey(ctx, FirstAccount, strings.Repeat("a", 65), "")
	wantError(t, err, lambda.InvalidParameterValue, "name of a user")
	_, err = c.CreateKey(ctx, FirstAccount, "a", `{}`)
	wantError(t, err, lambda.MalformedPolicy, "no Statement")
}

// TestUnreadablePolicyOpensNothing: a key whose policy this server cannot read is no key.
func TestUnreadablePolicyOpensNothing(t *testing.T) {
	s := memory.NewCatalog()
	if _, err := s.Apply(t.Context(), store.Create(keyPrefix+"AKIAODD", []byte(`{"secret":"hush","account":"000000000001","policy":{"Statement":{"New":1}}}`)),
		store.Create(keyPrefix+"AKIABAD", []byte(`{"secret":"hush",`))); err != nil {
		t.Fatal(err)
	}
	c := open(t, s)
	for _, id := range []string{"AKIAODD", "AKIABAD"} {
		if _, ok := c.AccessKey(id); ok {
			t.Errorf("%s is taken for a key", id)
		}
		if _, _, err := get[Key](c, store.Key(keyPrefix+id)); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestAccountsComeAndGo(t *testing.T) { overStores(t, testAccountsComeAndGo) }

func testAccountsComeAndGo(t *testing.T, newStore func(testing.TB) store.Catalog) {
	c := open(t, newStore(t))
	ctx := t.Context()
	random, err := c.CreateAccount(ctx, "")
	if err != nil || len(random) != accountDigits || strings.Trim(string(random), digits) != "" {
		t.Fatalf("%q, %v", random, err)
	}
	for bad, text := range map[lambda.AccountID]string{"1": "has 12 digits", "00000000000x": "has 12 digits"} {
		_, err := c.CreateAccount(ctx, bad)
		wantError(t, err, lambda.InvalidParameterValue, text)
	}
	if _, err := c.CreateAccount(ctx, account); err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateAccount(ctx, account)
	wantError(t, err, lambda.ResourceConflict, "exists already")
	key, err := c.CreateKey(ctx, account, "", "")
	if err != nil {
		t.Fatal(err)
	}
	other := spec("f")
	other.Account = random
	if _, _, err := c.Create(ctx, other, nil, false); err != nil {
		t.Fatal(err)
	}
	wantError(t, c.DeleteAccount(ctx, random), lambda.ResourceConflict, "functions (1)")
	if err := c.Delete(ctx, ID{random, "f"}); err != nil {
		t.Fatal(err)
	}
	wantError(t, c.DeleteAccount(ctx, FirstAccount), lambda.ResourceConflict, "stays")
	spare, err := c.CreateKey(ctx, random, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteAccount(ctx, random); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.AccessKey(spare.ID); ok {
		t.Error("a key outlived its account")
	}
	if _, ok := c.AccessKey(key.ID); !ok {
		t.Error("a key of another account went along")
	}
	wantError(t, c.DeleteAccount(ctx, random), lambda.ResourceNotFound, "no account")
}

// TestKeyOrAccountStays: a key made while its account is deleted exists only if the account does.
func TestKeyOrAccountStays(t *testing.T) {
	c := open(t, memory.NewCatalog())
	for range 50 {
		a, err := c.CreateAccount(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		var key *Key
		var made, gone error
		var both sync.WaitGroup
		both.Go(func() { key, made = c.CreateKey(t.Context(), a, "", "") })
		both.Go(func() { gone = c.DeleteAccount(t.Context(), a) })
		both.Wait()
		if gone != nil || made != nil && lambda.CodeOf(made) != lambda.ResourceNotFound {
			t.Fatal(errors.Join(made, gone))
		}
		if made == nil {
			if _, ok := c.AccessKey(key.ID); ok {
				t.Fatal("a key outlived its account")
			}
		}
	}
}

// TestForeignStatements: a stored statement that cannot be read allows nothing, and the others count.
func TestForeignStatements(t *testing.T) {
	p := &Policy{Statements: []Statement{
		{SID: "odd", JSON: []byte(`{"Sid":"odd","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::x:user/*"},"Action":"*","Resource":"*"}`)},
		{SID: "s", JSON: []byte(`{"Sid":"s","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunctionUrl","Resource":"*","Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}}`)},
	}}
	p.compile()
	r := policy.Request{Action: "lambda:InvokeFunctionUrl", Resource: "arn", Owner: "1", Policy: p.Compiled(), Context: policy.Context{policy.FunctionURLType: {"NONE"}}}
	if d := policy.Decide(&r); !d.Allowed() || d.Sid != "s" {
		t.Errorf("%+v", d)
	}
	if r.Action = "lambda:InvokeFunction"; policy.Decide(&r).Allowed() {
		t.Error("a statement that cannot be read allows")
	}
	if (*Policy)(nil).Compiled() != nil {
		t.Error("no policy is one")
	}
}
