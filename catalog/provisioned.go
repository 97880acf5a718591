package catalog

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"

	"berth/lambda"
	"berth/store"
)

// Provisioned concurrency belongs to a version or to an alias. The messages are validated texts of
// test_provisioned_concurrency_exceptions and test_lambda_provisioned_lifecycle.

// Provision sets the provisioned concurrency of a version or alias. Errors: ResourceNotFound, InvalidParameterValue for
// $LATEST and for more than the function's reservation or the account has, ResourceConflict when the same version is
// provisioned both by its number and by an alias.
func (c *Catalog) Provision(ctx context.Context, id ID, qualifier string, count int) (*Provisioned, error) {
	p := &Provisioned{Qualifier: qualifier, Count: count, Modified: time.Now()}
	missing := c.qualifierMissing(id, qualifier)
	_, err := c.change(ctx, id, missing, func(ch *change) error {
		v, err := c.provisionable(id, qualifier)
		if err != nil {
			return err
		}
		if err := c.checkProvisionedTwice(id, qualifier, v.Number); err != nil {
			return err
		}
		sum := ch.Function.Provisioned + count
		if old, ok := find[Provisioned](c, id.provision(qualifier)); ok {
			sum -= old.Count
		}
		if ch.Reserved != nil && sum > *ch.Reserved {
			return invalid("Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
		}
		if err := ch.hold(c, ch.Reserved, sum); err != nil {
			return err
		}
		// The version has a new revision afterwards, as recorded in test_lambda_provisioned_concurrency_moves_with_alias.
		next := *v
		next.RevisionID = uuid.NewString()
		return errors.Join(ch.put(id.version(v.Number), &next), ch.put(id.provision(qualifier), p))
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// provisionable finds the published version that a qualifier names.
func (c *Catalog) provisionable(id ID, qualifier string) (*Version, error) {
	number := qualifier
	if !lambda.IsVersionNumber(qualifier) {
		a, ok := find[Alias](c, id.alias(qualifier))
		if !ok {
			return nil, c.qualifierMissing(id, qualifier)
		}
		number = a.Version
	}
	if number == lambda.Latest {
		return nil, unpublished()
	}
	v, ok := find[Version](c, id.version(number))
	if !ok {
		return nil, c.qualifierMissing(id, qualifier)
	}
	return v, nil
}

// qualifierMissing says that there is no such version or alias, or no such function.
func (c *Catalog) qualifierMissing(id ID, qualifier string) error {
	if lambda.IsVersionNumber(qualifier) {
		return NotFound(c.arn(id, qualifier))
	}
	return aliasNotFound(c.arn(id, qualifier))
}

func unpublished() error {
	return invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
}

// checkProvisionedTwice refuses to provision a version both by number and by alias.
func (c *Catalog) checkProvisionedTwice(id ID, qualifier, number string) error {
	if qualifier != number {
		if _, taken := find[Provisioned](c, id.provision(number)); taken {
			return lambda.Errorf(lambda.ResourceConflict, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
		}
		return nil
	}
	for _, name := range c.aliasesOf(id, number) {
		if _, taken := find[Provisioned](c, id.provision(name)); taken {
			return lambda.Errorf(lambda.ResourceConflict, "Version is pointed by a Provisioned Concurrency alias")
		}
	}
	return nil
}

// checkProvisionedMove checks what Provision would, for a provisioned alias that is about to change.
func (c *Catalog) checkProvisionedMove(id ID, a *Alias) error {
	if _, provisioned := find[Provisioned](c, id.provision(a.Name)); !provisioned {
		return nil
	}
	if a.Version == lambda.Latest {
		return unpublished()
	}
	for number := range a.Weights {
		if err := c.checkProvisionedTwice(id, a.Name, number); err != nil {
			return err
		}
	}
	return c.checkProvisionedTwice(id, a.Name, a.Version)
}

// CheckQualifier finds out whether a version or alias exists. Error: ResourceNotFound.
func (c *Catalog) CheckQualifier(id ID, qualifier string) error {
	if _, ok := c.Function(id); !ok {
		return c.qualifierMissing(id, qualifier)
	}
	_, err := c.provisionable(id, qualifier)
	if lambda.CodeOf(err) == lambda.InvalidParameterValue { // an alias of $LATEST: it exists, and nothing is provisioned for it
		return nil
	}
	return err
}

// Unprovision removes the provisioned concurrency of a version or alias; where there is none that is not an error. Error:
// ResourceNotFound.
func (c *Catalog) Unprovision(ctx context.Context, id ID, qualifier string) error {
	_, err := c.change(ctx, id, c.qualifierMissing(id, qualifier), func(ch *change) error {
		if err := c.CheckQualifier(id, qualifier); err != nil {
			return err
		}
		return ch.unprovision(c, qualifier)
	})
	return err
}

func (ch *change) unprovision(c *Catalog, qualifier string) error {
	old, ok := find[Provisioned](c, ch.id.provision(qualifier))
	if !ok {
		return nil
	}
	ch.stage(store.Delete(ch.id.provision(qualifier), store.Any))
	return ch.hold(c, ch.Reserved, ch.Function.Provisioned-old.Count)
}

// Provisioned returns the provisioned concurrency of a version or alias.
func (c *Catalog) Provisioned(id ID, qualifier string) (*Provisioned, bool) {
	return find[Provisioned](c, id.provision(qualifier))
}

// ProvisionedOf returns up to n provisioned versions and aliases of a function by qualifier, from the one after the
// qualifier after on. next is the value of after for the next page, "" at the end.
func (c *Catalog) ProvisionedOf(id ID, after string, n int) (list []*Provisioned, next string) {
	list, more := page[Provisioned](c, id.provisions(), after, n)
	if more && len(list) > 0 {
		next = list[len(list)-1].Qualifier
	}
	return list, next
}

// Provision is one provisioned concurrency of any account, with the versions that it is for now.
type Provision struct {
	ID
	Provisioned
	Pool    lambda.PoolID
	Targets []ProvisionTarget // one; two for an alias with weights
}

// ProvisionTarget is a version and how many environments of it are to be kept.
type ProvisionTarget struct {
	Version *lambda.Version
	Count   int
}

// Provisions returns all provisioned concurrency of all accounts.
func (c *Catalog) Provisions() []Provision {
	var all []Provision
	for _, k := range c.keys(provisionedPrefix) {
		parts := strings.Split(strings.TrimPrefix(string(k), provisionedPrefix), "/")
		if len(parts) != 3 {
			continue
		}
		if p, ok := c.ProvisionOf(ID{lambda.AccountID(parts[0]), parts[1]}, parts[2]); ok {
			all = append(all, p)
		}
	}
	return all
}

// ProvisionOf returns one provisioned concurrency with its targets.
func (c *Catalog) ProvisionOf(id ID, qualifier string) (Provision, bool) {
	f, ok := c.Function(id)
	if !ok {
		return Provision{}, false
	}
	config, ok := find[Provisioned](c, id.provision(qualifier))
	if !ok {
		return Provision{}, false
	}
	p := Provision{ID: id, Provisioned: *config, Pool: lambda.PoolID{Account: id.Account}}
	if f.Reserved != nil {
		p.Pool.Function = id.Name
	}
	for _, t := range c.split(id, config) {
		if v, ok := find[Version](c, id.version(t.number)); ok && t.count > 0 {
			p.Targets = append(p.Targets, ProvisionTarget{Version: &v.Version, Count: t.count})
		}
	}
	return p, true
}

type portion struct {
	number string
	count  int
}

// split divides what is provisioned for an alias among its versions by their weights, so that the sum stays.
func (c *Catalog) split(id ID, p *Provisioned) []portion {
	if lambda.IsVersionNumber(p.Qualifier) {
		return []portion{{p.Qualifier, p.Count}}
	}
	a, ok := find[Alias](c, id.alias(p.Qualifier))
	if !ok {
		return nil
	}
	main := portion{a.Version, p.Count}
	for number, weight := range a.Weights { // at most one
		other := int(math.Round(weight * float64(p.Count)))
		main.count -= other
		return []portion{main, {number, other}}
	}
	return []portion{main}
}
