package catalog

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"berth/lambda"
	"berth/policy"
	"berth/store"
)

// maxPolicy is the largest resource policy, in bytes of its text (developer guide).
const maxPolicy = 20480

// Policy returns the policy of a function (qualifier ""), version or alias.
func (c *Catalog) Policy(id ID, qualifier string) (*Policy, bool) {
	if _, ok := c.Function(id); !ok {
		return nil, false
	}
	return find[Policy](c, id.policy(qualifier))
}

// Text returns the policy document as GetPolicy shows it.
func (p *Policy) Text() string {
	var b strings.Builder
	b.WriteString(`{"Version":"2012-10-17","Id":"default","Statement":[`)
	for i, s := range p.Statements {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(s.JSON)
	}
	b.WriteString(`]}`)
	return b.String()
}

// Compiled returns the policy as policy.Decide reads it, nil if there is none.
func (p *Policy) Compiled() *policy.Policy {
	if p == nil {
		return nil
	}
	return p.compiled
}

// compile reads the statements. One that cannot be read allows nothing: it names a principal that nobody here can be. All
// statements are Allows (the API makes no others), so nothing that should be denied slips through.
func (p *Policy) compile() {
	var read []*policy.Statement
	for _, s := range p.Statements {
		if one, err := policy.ParseStatement(s.JSON); err == nil {
			read = append(read, one)
		}
	}
	p.compiled = policy.Of(read...)
}

// AddStatement adds a statement to the policy of a function (qualifier ""), version or alias. revisionID "" matches any;
// for a first statement it may also be that of the resource. Errors: ResourceNotFound, PreconditionFailed,
// ResourceConflict for a statement id in use, PolicyLengthExceeded.
func (c *Catalog) AddStatement(ctx context.Context, id ID, qualifier, revisionID string, s Statement) error {
	_, err := c.change(ctx, id, NotFound(c.arn(id, "")), func(ch *change) error {
		resourceRevision, err := c.policyResource(ch.Function, qualifier)
		if err != nil {
			return err
		}
		var next Policy
		accepted := []string{"", resourceRevision}
		if p, ok := find[Policy](c, id.policy(qualifier)); ok {
			next.Statements = slices.Clone(p.Statements)
			accepted[1] = p.RevisionID
		}
		if !slices.Contains(accepted, revisionID) {
			return wrongPolicyRevision()
		}
		next.RevisionID = uuid.NewString()
		if err := next.add(s); err != nil {
			return err
		}
		return ch.put(id.policy(qualifier), &next)
	})
	return err
}

// RemoveStatement removes a statement. Errors: ResourceNotFound, PreconditionFailed.
func (c *Catalog) RemoveStatement(ctx context.Context, id ID, qualifier, revisionID, sid string) error {
	missing := lambda.Errorf(lambda.ResourceNotFound, "No policy found for: %s", c.arn(id, ""))
	_, err := c.change(ctx, id, missing, func(ch *change) error {
		if _, err := c.policyResource(ch.Function, qualifier); err != nil {
			return err
		}
		p, ok := find[Policy](c, id.policy(qualifier))
		if !ok {
			return lambda.Errorf(lambda.ResourceNotFound, "No policy is associated with the given resource.")
		}
		i := p.index(sid)
		if i < 0 {
			return lambda.Errorf(lambda.ResourceNotFound, "Statement %s is not found in resource policy.", sid)
		}
		if revisionID != "" && revisionID != p.RevisionID {
			return wrongPolicyRevision()
		}
		if len(p.Statements) == 1 {
			ch.stage(store.Delete(id.policy(qualifier), store.Any))
			return nil
		}
		next := Policy{RevisionID: uuid.NewString(), Statements: slices.Delete(slices.Clone(p.Statements), i, i+1)}
		return ch.put(id.policy(qualifier), &next)
	})
	return err
}

// add appends a statement. Errors: ResourceConflict for a statement id in use, PolicyLengthExceeded.
func (p *Policy) add(s Statement) error {
	if p.index(s.SID) >= 0 {
		return lambda.Errorf(lambda.ResourceConflict,
			"The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", s.SID)
	}
	p.Statements = append(p.Statements, s)
	if size := len(p.Text()); size > maxPolicy {
		return lambda.Errorf(lambda.PolicyLengthExceeded, "The final policy size (%d) is bigger than the limit (%d).", size, maxPolicy)
	}
	return nil
}

func (p *Policy) index(sid string) int {
	return slices.IndexFunc(p.Statements, func(s Statement) bool { return s.SID == sid })
}

// policyResource checks that what a policy is for exists, and returns its revision id.
func (c *Catalog) policyResource(f *Function, qualifier string) (revisionID string, err error) {
	id := f.ID()
	switch {
	case qualifier == "" || qualifier == lambda.Latest:
		return f.Latest.RevisionID, nil
	case lambda.IsVersionNumber(qualifier):
		if v, ok := find[Version](c, id.version(qualifier)); ok {
			return v.RevisionID, nil
		}
		return "", NotFound(c.arn(id, qualifier))
	case strings.Contains(qualifier, "$"): // no alias can have such a name
		return "", NotFound(c.arn(id, qualifier))
	}
	if a, ok := find[Alias](c, id.alias(qualifier)); ok {
		return a.RevisionID, nil
	}
	return "", aliasNotFound(c.arn(id, qualifier))
}
