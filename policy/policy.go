// Package policy decides what AWS's policy documents allow. It does no I/O, reads no clock and keeps nothing: who asks puts
// everything that a decision rests on into a Request.
//
// # Contract
//
// Decide says yes or no, and why:
//
//	d := policy.Decide(&policy.Request{
//		Principal: policy.Principal{Account: "000000000002", ARN: "arn:aws:iam::000000000002:user/ann"},
//		Identity:  identity,  // what the access key may do; nil: everything, as the root of an account
//		Action:    "lambda:InvokeFunction",
//		Resource:  "arn:aws:lambda:us-east-1:000000000001:function:f:live",
//		Owner:     "000000000001",
//		Policy:    resource, // the resource's own; nil: it has none
//		Context:   policy.Context{policy.SourceIP: {"10.0.0.7"}},
//	})
//
// The rules are those of IAM (User Guide, "Policy evaluation logic"):
//
//   - A Deny that matches ends it. Otherwise there must be an Allow; without one the answer is no.
//   - Within an account either policy is enough. A resource policy that names the account (its number or root) is not: it
//     leaves the decision to the account's identity policies. One that names the user, or "*", is.
//   - Between accounts both must allow.
//   - Nobody in particular (the zero Principal) and services (Principal.Service) have no identity policy: the resource
//     policy alone decides, and only "*" is nobody's principal.
//
// Resources are matched as written, qualifier included: a policy for …:function:f does not cover …:function:f:1. The caller
// builds Resource from what it will act on, never from the text of a request beside it.
//
// A function URL without authentication asks with the zero Principal, the policy of the URL's function or alias, and the
// context {FunctionURLAuthType: {"NONE"}}; one with AWS_IAM asks with the signer, its identity policy and {"AWS_IAM"}.
//
// Decide is safe for concurrent use, allocates only for policy variables, and takes time that is bounded by the product of
// the sizes of policy and request, which have limits.
package policy

// Limits.
const (
	MaxIdentity = 6144    // characters of an identity policy without white space (IAM quotas, managed policy)
	maxText     = 131072  // characters of a document with white space (IAM API, policyDocumentType)
	maxResource = 2048    // characters of a resource that is asked for; a longer one is never allowed
	maxValue    = 8 << 10 // bytes of a value in a request's context; a longer one is never allowed
	maxDepth    = 6       // nesting of a document: its lists of condition values
)

// Policy is a parsed policy document. It is immutable. A nil *Policy has no statements.
type Policy struct{ statements []*Statement }

// Of makes a policy of statements.
func Of(statements ...*Statement) *Policy { return &Policy{statements} }

// Statement is one parsed statement.
type Statement struct {
	sid        string
	deny       bool
	principals *principals // nil in identity policies
	actions    patterns
	resources  patterns
	conditions []condition
}

// patterns is a list of patterns, or all that none of them matches (NotAction, NotResource).
type patterns struct {
	list []pattern
	not  bool
}

// principals is whom a statement of a resource policy is about.
type principals struct {
	all      bool     // "*": everybody, also nobody in particular
	accounts []string // numbers: everybody in them whose identity policy allows it
	arns     []string // users, roles, sessions: exact
	services []string
}

// grip says how a statement's Principal takes hold of who asks.
type grip int

const (
	not      grip = iota // it is about others
	byAcount             // through the account
	direct               // by name, or as one of all
)

func (p *principals) match(who *Principal) grip {
	switch {
	case p == nil || p.all:
		return direct
	case contains(p.services, who.Service) || contains(p.arns, who.ARN):
		return direct
	case contains(p.accounts, who.Account):
		return byAcount
	}
	return not
}

// contains reports whether a list has s; "" is in none.
func contains(list []string, s string) bool {
	if s == "" {
		return false
	}
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}
