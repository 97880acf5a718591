package policy

import "strings"

// Principal is who asks. The zero value is nobody in particular: an anonymous call.
type Principal struct {
	Account string // twelve digits, "" for anonymous calls and services
	ARN     string // "arn:aws:iam::ACCOUNT:root" or "arn:aws:iam::ACCOUNT:user/NAME"
	Service string // "events.amazonaws.com"; everything else is "" then
}

// Request is one question. See the package's comment.
type Request struct {
	Principal Principal
	Identity  *Policy // nil for a principal with an account: everything is allowed
	Action    string  // "lambda:InvokeFunction"
	Resource  string  // an ARN, or "*" for actions that are about no resource
	Owner     string  // the account that the resource belongs to
	Policy    *Policy // of the resource
	Context   Context
}

// Context holds the values of condition keys, by their names in lower case. A key that is not there is absent.
type Context map[string][]string

// Cause is what a decision rests on.
type Cause int

// The causes. Those from DenyIdentity on refuse.
const (
	AllowIdentity Cause = iota + 1
	AllowResource
	DenyIdentity // an explicit Deny
	DenyResource
	NoIdentity // nothing allows it
	NoResource
)

// Decision is the answer to a Request. The zero value refuses.
type Decision struct {
	Cause Cause
	Sid   string // of the statement that decided, "" if none did or it has none
}

// Allowed reports whether the answer is yes.
func (d Decision) Allowed() bool { return d.Cause == AllowIdentity || d.Cause == AllowResource }

// Reason says why not, in IAM's words, and "" for a yes.
func (d Decision) Reason(action string) string {
	switch d.Cause {
	case AllowIdentity, AllowResource:
		return ""
	case DenyIdentity:
		return "with an explicit deny in an identity-based policy"
	case DenyResource:
		return "with an explicit deny in a resource-based policy"
	case NoResource:
		return "because no resource-based policy allows the " + action + " action"
	}
	return "because no identity-based policy allows the " + action + " action"
}

// Message is the text of the AccessDeniedException that tells of a refusal (IAM User Guide, "Troubleshoot access denied
// error messages").
func Message(r *Request, d Decision) string {
	who := r.Principal.ARN
	if who == "" {
		who = r.Principal.Service
	}
	if who == "" {
		who = "anonymous"
	}
	resource := r.Resource
	if len(resource) > maxResource {
		resource = strings.ToValidUTF8(resource[:maxResource], "") + "…"
	}
	return "User: " + who + " is not authorized to perform: " + r.Action + " on resource: " + resource + " " + d.Reason(r.Action)
}

// Decide answers a request.
func Decide(r *Request) Decision {
	if !r.bounded() {
		return Decision{Cause: NoIdentity}
	}
	byIdentity, byResource := verdict{}, r.Policy.judge(r)
	named := r.Principal.Account != ""
	switch {
	case !named:
	case r.Identity == nil:
		byIdentity.allow = direct
	default:
		byIdentity = r.Identity.judge(r)
	}
	same := named && r.Principal.Account == r.Owner
	switch {
	case byIdentity.denied:
		return Decision{DenyIdentity, byIdentity.sid}
	case byResource.denied:
		return Decision{DenyResource, byResource.sid}
	case same && byIdentity.allow != not:
		return Decision{AllowIdentity, byIdentity.sid}
	case same && byResource.allow == direct:
		return Decision{AllowResource, byResource.sid}
	case named && byIdentity.allow == not:
		return Decision{Cause: NoIdentity}
	case byResource.allow == not:
		return Decision{Cause: NoResource}
	}
	return Decision{AllowResource, byResource.sid}
}

// bounded reports whether matching takes a bounded time. What is too long is refused as a whole: to pass over a statement
// could pass over a Deny.
func (r *Request) bounded() bool {
	for _, values := range r.Context {
		for _, v := range values {
			if len(v) > maxValue {
				return false
			}
		}
	}
	return len(r.Resource) <= maxResource && len(r.Action) <= maxValue
}

// verdict is what one policy says.
type verdict struct {
	denied bool
	allow  grip // the strongest of the statements that allow
	sid    string
}

// judge asks one policy.
func (p *Policy) judge(r *Request) (v verdict) {
	if p == nil {
		return v
	}
	for _, s := range p.statements {
		how := s.principals.match(&r.Principal)
		if how == not || !s.deny && how <= v.allow || !s.covers(r) {
			continue
		}
		if s.deny {
			return verdict{denied: true, sid: s.sid}
		}
		v.allow, v.sid = how, s.sid
	}
	return v
}

// covers reports whether action, resource and conditions of a statement match.
func (s *Statement) covers(r *Request) bool {
	if !s.actions.match(r.Action, globFold, r.Context) || !s.resources.match(r.Resource, matchARN, r.Context) {
		return false
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(r.Context) {
			return false
		}
	}
	return true
}

func (p *patterns) match(value string, matches func(pattern, value string) bool, ctx Context) bool {
	for i := range p.list {
		text, ok := p.list[i].expand(ctx)
		if !ok { // a variable has no value: never "all but this"
			if p.not {
				return false
			}
			continue
		}
		if matches(text, value) {
			return !p.not
		}
	}
	return p.not
}
