package apiserver

import (
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/policy"
)

// invokeAction is what a caller must be allowed to invoke a function, at once or streamed.
const invokeAction = "lambda:InvokeFunction"

// question is what a gate asks: may the caller do this to that.
type question struct {
	action   string
	resource string
	owner    lambda.AccountID
	policy   *policy.Policy // the resource's, nil for none
	context  policy.Context // keys of this operation alone; nil for none
}

// invocable reads the name of a function that a caller wants to invoke, and asks whether it may. The usual call, of an
// account's own function with a key without a policy, costs nothing here.
func (s *Server) invocable(c *call, action, name, qualifier string) (lambda.Ref, error) {
	ref, err := lambda.ReadRef(name, qualifier, c.account, s.cfg.Catalog.Region())
	if err != nil {
		return ref, err
	}
	if s.unquestioned(c, ref.Account) {
		return ref, nil
	}
	return ref, s.ask(c, &question{action: action, resource: ref.ARN(), owner: ref.Account, policy: s.functionPolicy(ref)})
}

// unquestioned reports whether a caller may do everything to what an account owns, and nobody wants to read so in the log.
func (s *Server) unquestioned(c *call, owner lambda.AccountID) bool {
	return owner == c.account && !c.who.Restricted && !s.log.Enabled(c.r.Context(), slog.LevelDebug)
}

func (s *Server) functionPolicy(ref lambda.Ref) *policy.Policy {
	p, _ := s.cfg.Catalog.Policy(idOf(ref), ref.Qualifier)
	return p.Compiled()
}

// permitOwn asks for one of Berth's own actions on what belongs to the caller's account.
func (s *Server) permitOwn(c *call, action, resource string) error {
	if s.unquestioned(c, c.account) {
		return nil
	}
	return s.ask(c, &question{action: action, resource: resource, owner: c.account})
}

// Authorize asks whether a caller may do something to what its own account owns, for the other services on the same port. id
// is the request's. Error: AccessDenied.
func (s *Server) Authorize(r *http.Request, id string, who lambda.Caller, action, resource string) error {
	return s.permitOwn(&call{r: r, id: id, who: who, account: who.Account}, action, resource)
}

// PermitURL asks whether somebody may call a function by its URL: who is the zero Caller when the URL's authType is NONE, and
// who signed when it is AWS_IAM. ref has the qualifier that the URL is of. Error: AccessDenied; what the caller of a URL is told
// is less than its text.
func (s *Server) PermitURL(r *http.Request, id string, who lambda.Caller, ref lambda.Ref, authType string) error {
	c := &call{r: r, id: id, who: who, account: who.Account}
	if s.unquestioned(c, ref.Account) {
		return nil
	}
	return s.ask(c, &question{action: "lambda:InvokeFunctionUrl", resource: ref.ARN(), owner: ref.Account, policy: s.functionPolicy(ref),
		context: policy.Context{policy.FunctionURLType: {authType}, policy.ViaFunctionURL: {"true"}}})
}

// ownARN names something of Berth's own in the caller's account.
func (s *Server) ownARN(c *call, what string) string {
	return "arn:aws:berth:" + s.cfg.Catalog.Region() + ":" + string(c.account) + ":" + what
}

// permitLayer asks whether a caller may read a layer's version, or give it to a function.
func (s *Server) permitLayer(c *call, id catalog.LayerID, n int64) error {
	if s.unquestioned(c, id.Account) {
		return nil
	}
	q := question{action: "lambda:GetLayerVersion", resource: s.cfg.Catalog.LayerVersionARN(id, n), owner: id.Account}
	if p, err := s.cfg.Catalog.LayerPolicy(id, n); err == nil {
		q.policy = p.Compiled()
	}
	return s.ask(c, &q)
}

// ask has a question decided, logs the decision, and returns AccessDenied for a no.
func (s *Server) ask(c *call, q *question) error {
	r := policy.Request{Action: q.action, Resource: q.resource, Owner: string(q.owner), Policy: q.policy}
	if c.account != "" {
		r.Principal = policy.Principal{Account: string(c.account), ARN: c.who.ARN()}
	}
	if c.who.Restricted {
		r.Identity = policy.Of() // nothing, if the key has gone meanwhile
		if key, ok := s.cfg.Catalog.Key(c.who.Key); ok && key.Policy != nil {
			r.Identity = key.Policy
		}
	}
	r.Context = s.requestContext(c, q)
	d := policy.Decide(&r)
	s.logDecision(c, &r, d)
	if d.Allowed() {
		return nil
	}
	return &lambda.Error{Code: lambda.AccessDenied, Message: policy.Message(&r, d)}
}

// requestContext fills the condition keys that every request has, and the question's own.
func (s *Server) requestContext(c *call, q *question) policy.Context {
	now := time.Now().UTC()
	ctx := policy.Context{
		policy.PrincipalType:   {"Anonymous"},
		policy.ResourceAccount: {string(q.owner)},
		policy.RequestedRegion: {s.cfg.Catalog.Region()},
		policy.SecureTransport: {strconv.FormatBool(c.r.TLS != nil)},
		policy.CurrentTime:     {now.Format(time.RFC3339)},
		policy.EpochTime:       {strconv.FormatInt(now.Unix(), 10)},
	}
	if c.account != "" {
		ctx[policy.PrincipalType], ctx[policy.UserID] = []string{"Account"}, []string{c.who.UserID()}
		ctx[policy.PrincipalARN], ctx[policy.PrincipalAccount] = []string{c.who.ARN()}, []string{string(c.account)}
	}
	if c.who.User != "" {
		ctx[policy.PrincipalType], ctx[policy.UserName] = []string{"User"}, []string{c.who.User}
	}
	if host, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil {
		ctx[policy.SourceIP] = []string{host}
	}
	for key, values := range q.context {
		ctx[key] = values
	}
	return ctx
}

// maxLogged bounds a resource in a log line, in bytes.
const maxLogged = 512

// logDecision writes one line: refusals for operators to see, the rest for those who look for something.
func (s *Server) logDecision(c *call, r *policy.Request, d policy.Decision) {
	level, text := slog.LevelInfo, "access denied"
	if d.Allowed() {
		level, text = slog.LevelDebug, "access allowed"
	}
	if !s.log.Enabled(c.r.Context(), level) {
		return
	}
	resource := r.Resource
	if len(resource) > maxLogged {
		resource = resource[:maxLogged] + "…"
	}
	s.log.LogAttrs(c.r.Context(), level, text, slog.String("id", c.id), slog.String("account", string(c.account)),
		slog.String("caller", r.Principal.ARN), slog.String("key", c.who.Key), slog.String("action", r.Action),
		slog.String("resource", resource), slog.String("reason", d.Reason(r.Action)), slog.String("sid", d.Sid),
		slog.String("from", c.r.RemoteAddr))
}
