package catalog

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"berth/lambda"
	"berth/store/memory"
)

// published makes an Active function with n versions.
func published(t testing.TB, c *Catalog, name string, n int) {
	t.Helper()
	create(t, c, name)
	for i := range n {
		text := fmt.Sprint(i)
		if i > 0 { // another configuration
			if _, _, err := c.Update(t.Context(), id(name), "", false, func(v *Version) error { v.Handler = text; return nil }); err != nil {
				t.Fatal(err)
			}
			finish(t, c, name, lambda.Latest, nil)
		}
		if _, err := c.Publish(t.Context(), id(name), "", "", &text); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAWeightedAliasSplitsWhatIsProvisioned(t *testing.T) {
	c := open(t, memory.NewCatalog())
	published(t, c, "f", 2)
	for weight, want := range map[float64][2]int{0: {5, 0}, 0.1: {4, 1}, 0.5: {2, 3}, 1: {0, 5}} {
		name := fmt.Sprintf("a%d", int(weight*10))
		if _, err := c.CreateAlias(t.Context(), id("f"), Alias{Name: name, Version: "1", Weights: map[string]float64{"2": weight}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Provision(t.Context(), id("f"), name, 5); err != nil {
			t.Fatal(err)
		}
		p, ok := c.ProvisionOf(id("f"), name)
		got := map[string]int{}
		for _, target := range p.Targets {
			got[target.Version.Number] = target.Count
		}
		if !ok || got["1"] != want[0] || got["2"] != want[1] {
			t.Errorf("weight %v: %v, want %v", weight, got, want)
		}
	}
	if n := len(c.Provisions()); n != 4 {
		t.Errorf("%d provisions, want 4", n)
	}
	page, next := c.ProvisionedOf(id("f"), "", 3)
	rest, end := c.ProvisionedOf(id("f"), next, 3)
	if len(page) != 3 || len(rest) != 1 || end != "" {
		t.Errorf("pages of %d and %d, then %q", len(page), len(rest), end)
	}
}

func TestTheSumsOfAnAccountHoldUnderRaces(t *testing.T) {
	c := open(t, memory.NewCatalog())
	names := []string{"a", "b", "c"}
	for _, n := range names {
		published(t, c, n, 2)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 40 {
				name, n := names[rand.IntN(len(names))], rand.IntN(500)
				number := fmt.Sprint(1 + rand.IntN(2))
				switch rand.IntN(4) {
				case 0:
					_ = c.SetReserved(t.Context(), id(name), &n)
				case 1:
					_ = c.SetReserved(t.Context(), id(name), nil)
				case 2:
					_, _ = c.Provision(t.Context(), id(name), number, 1+n)
				default:
					_ = c.Unprovision(t.Context(), id(name), number)
				}
			}
		})
	}
	wg.Wait()
	reserved, provisioned := 0, 0
	for _, name := range names {
		f, _ := c.Function(id(name))
		sum := 0
		list, _ := c.ProvisionedOf(id(name), "", 10)
		for _, p := range list {
			sum += p.Count
		}
		if sum != f.Provisioned || f.Reserved != nil && sum > *f.Reserved {
			t.Errorf("%s: %d provisioned, its head says %d, reserved %v", name, sum, f.Provisioned, f.Reserved)
		}
		if f.Reserved != nil {
			reserved += *f.Reserved
		} else {
			provisioned += sum
		}
	}
	a := c.Account(account)
	if a.Reserved != reserved || a.Provisioned != provisioned || a.Unreserved() < minUnreserved {
		t.Errorf("account %+v, the functions hold %d and %d", a, reserved, provisioned)
	}
	for _, name := range names {
		if err := c.Delete(t.Context(), id(name)); err != nil {
			t.Error(err)
		}
	}
	if a := c.Account(account); a.Unreserved() != defaultConcurrency || len(c.Provisions()) != 0 {
		t.Errorf("after all are deleted: %+v, %d provisions", a, len(c.Provisions()))
	}
}

func TestVersionsAndAliasesTakeTheirProvisionedConcurrencyAlong(t *testing.T) {
	c := open(t, memory.NewCatalog())
	published(t, c, "f", 2)
	if _, err := c.CreateAlias(t.Context(), id("f"), Alias{Name: "live", Version: "2"}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"1", "live"} {
		if _, err := c.Provision(t.Context(), id("f"), q, 10); err != nil {
			t.Fatal(err)
		}
	}
	edit := func(version string) error {
		_, err := c.UpdateAlias(t.Context(), id("f"), "live", "", AliasEdit{Version: &version})
		return err
	}
	wantError(t, edit("1"), lambda.ResourceConflict, "already Provisioned version")
	wantError(t, edit(lambda.Latest), lambda.InvalidParameterValue, "unpublished function versions")
	if err := c.DeleteVersion(t.Context(), id("f"), "1"); err != nil {
		t.Fatal(err)
	}
	if a := c.Account(account); a.Provisioned != 10 {
		t.Errorf("after the version was deleted: %+v", a)
	}
	if err := c.DeleteAlias(t.Context(), id("f"), "live"); err != nil {
		t.Fatal(err)
	}
	if a := c.Account(account); a.Provisioned != 0 || len(c.Provisions()) != 0 {
		t.Errorf("after the alias was deleted: %+v", a)
	}
}
