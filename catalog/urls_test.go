package catalog

import (
	"fmt"
	"strings"
	"testing"

	"berth/lambda"
	"berth/store/memory"
)

// A URL ends with its function or alias, also where so much belongs to the function that it takes several batches to delete.
func TestURLsEnd(t *testing.T) {
	c, ctx := open(t, memory.NewCatalog()), t.Context()
	create(t, c, "f")
	var ids []string
	add := func(qualifier string) {
		t.Helper()
		if qualifier != "" {
			if _, err := c.CreateAlias(ctx, id("f"), Alias{Name: qualifier, Version: lambda.Latest}); err != nil {
				t.Fatal(err)
			}
		}
		u, err := c.CreateURL(ctx, id("f"), URL{Qualifier: qualifier, AuthType: "NONE"})
		if err != nil {
			t.Fatal(err)
		}
		if len(u.ID) != URLIDLength || strings.Trim(u.ID, urlDigits) != "" {
			t.Fatalf("id %q", u.ID)
		}
		if found, ok := c.URLByID(u.ID); !ok || found.Qualifier != qualifier || found.Function != "f" {
			t.Fatalf("%s: %+v, %t", u.ID, found, ok)
		}
		ids = append(ids, u.ID)
	}
	add("")
	for i := range 260 { // an alias, its URL and the URL's id each: 780 records
		add(fmt.Sprintf("alias-%d", i))
	}
	seen := 0
	for after := ""; ; {
		list, next := c.URLs(id("f"), after, 50)
		seen += len(list)
		if after = next; next == "" {
			break
		}
	}
	if seen != len(ids) {
		t.Errorf("listed %d of %d", seen, len(ids))
	}
	if err := c.Delete(ctx, id("f")); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{urlPrefix, urlIDPrefix} {
		if left := c.keys(prefix); len(left) > 0 {
			t.Errorf("%d records are left under %s", len(left), prefix)
		}
	}
	create(t, c, "f")
	for _, old := range ids {
		if _, ok := c.URLByID(old); ok {
			t.Fatal("a URL of a deleted function leads to a new one")
		}
	}
}
