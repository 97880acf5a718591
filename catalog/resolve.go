package catalog

import (
	"math/rand/v2"

	"berth/lambda"
)

// Resolve finds the version that an invocation of ref runs. It reads the mirror only: no I/O, and one allocation per key
// looked up. An alias with weights draws anew at each call. Errors: ResourceNotFound; ResourceConflict when the version is
// not Active.
func (c *Catalog) Resolve(ref lambda.Ref) (Target, error) {
	id := ID{ref.Account, ref.Function}
	f, ok := find[Function](c, id.head())
	if !ok || f.Deleting || ref.Region != c.region {
		return Target{}, invokeNotFound(ref)
	}
	t := Target{Pool: lambda.PoolID{Account: ref.Account}, Reserved: -1, Provisioned: f.Provisioned > 0}
	if f.Reserved != nil {
		t.Pool.Function, t.Reserved = f.Latest.Function, *f.Reserved
	}
	switch {
	case ref.Qualifier == "":
		t.Version, t.InvokedARN = f.current(), f.arn
	case ref.Qualifier == lambda.Latest:
		t.Version, t.InvokedARN = f.current(), f.arn+":"+lambda.Latest
	default:
		if !c.resolveQualifier(id, f, ref.Qualifier, &t) {
			return Target{}, invokeNotFound(ref)
		}
	}
	if t.Version.State != lambda.Active {
		return Target{}, notActive(t.Version.State, t.Version.StateReason)
	}
	if t.Version.PerTenant {
		t.TokenAudience = f.tokenAudience()
	}
	return t, nil
}

func (f *Function) tokenAudience() string {
	audience, wanted := f.Tags[lambda.TokenTag]
	if wanted && audience == "" {
		return f.arn
	}
	return audience
}

// resolveQualifier fills t for a version number or an alias.
func (c *Catalog) resolveQualifier(id ID, f *Function, qualifier string, t *Target) bool {
	number := qualifier
	if !lambda.IsVersionNumber(qualifier) {
		a, ok := find[Alias](c, id.alias(qualifier))
		if !ok {
			return false
		}
		number = a.draw()
	}
	t.InvokedARN = f.arn + ":" + qualifier
	if number == lambda.Latest {
		t.Version = f.current()
		return true
	}
	v, ok := find[Version](c, id.version(number))
	if !ok {
		return false
	}
	t.Version = &v.Version
	return true
}

// draw picks the version of one call.
func (a *Alias) draw() string {
	for number, weight := range a.Weights { // at most one
		if rand.Float64() < weight {
			return number
		}
	}
	return a.Version
}

// invokeNotFound names $LATEST where the caller wrote no qualifier, as recorded in 2025.
func invokeNotFound(ref lambda.Ref) error {
	if ref.Qualifier == "" {
		ref.Qualifier = lambda.Latest
	}
	return NotFound(ref.ARN())
}
