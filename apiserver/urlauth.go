package apiserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"berth/catalog"
	"berth/functionurl"
	"berth/lambda"
)

// Access is what somebody wants to do with a function.
type Access struct {
	Principal  string            // ARN of who signed the request; "" for nobody
	Account    lambda.AccountID  // of the principal; "" for nobody
	Action     string            // "lambda:InvokeFunctionUrl"
	Resource   lambda.Ref        // the function, with the qualifier whose policy counts
	Conditions map[string]string // condition keys of the request: "lambda:FunctionUrlAuthType"
}

// Authorizer decides whether an access is allowed. It is fast (no I/O) and safe for concurrent use.
type Authorizer interface {
	Allows(a *Access) bool
}

const (
	invokeURLAction = "lambda:InvokeFunctionUrl"
	authTypeKey     = "lambda:FunctionUrlAuthType"
	viaURLKey       = "lambda:InvokedViaFunctionUrl"
	iamAuth         = "AWS_IAM"
)

// admitURL finds out who calls a URL, whether they may, and reads the body. The caller is nil for a URL that asks for no signature. What
// may not pass is refused before its body is read, where that can be known.
func (s *Server) admitURL(c *call, u *catalog.URL) (*functionurl.Caller, error) {
	access := &Access{Action: invokeURLAction, Resource: u.Ref(s.cfg.Catalog.Region()), Conditions: map[string]string{authTypeKey: u.AuthType, viaURLKey: "true"}}
	if u.AuthType != iamAuth {
		if !s.cfg.Authorizer.Allows(access) {
			return nil, forbidden()
		}
		return nil, s.readURLBody(c)
	}
	if len(c.r.Header["Authorization"]) == 0 && !strings.Contains(c.r.URL.RawQuery, "X-Amz-Signature=") {
		if _, err := s.cfg.Authenticate(c.r, nil); err != nil { // it may take unsigned requests, in development
			return nil, unsigned(err)
		}
	}
	if err := s.readURLBody(c); err != nil {
		return nil, err
	}
	account, err := s.cfg.Authenticate(c.r, c.body)
	if err != nil {
		return nil, unsigned(err)
	}
	key, service := credential(c.r)
	if service != "" && service != "lambda" {
		return nil, lambda.Errorf(lambda.InvalidSignature, "Credential should be scoped to correct service: 'lambda'.")
	}
	access.Account, access.Principal = account, "arn:aws:iam::"+string(account)+":root"
	if !s.cfg.Authorizer.Allows(access) {
		return nil, forbidden()
	}
	// Access keys are their account's here: there are no users below it.
	return &functionurl.Caller{AccessKey: key, Account: string(account), ID: string(account), ARN: access.Principal, UserID: string(account)}, nil
}

func forbidden() error { return lambda.Errorf(lambda.AccessDenied, forbiddenByURL) }

// unsigned says Forbidden to who has not signed at all, and to others what is wrong with their signature.
func unsigned(err error) error {
	if lambda.CodeOf(err) == lambda.MissingAuthToken {
		return forbidden()
	}
	return err
}

func (s *Server) readURLBody(c *call) error {
	body, size, err := readBody(c.r, lambda.MaxPayload)
	if err != nil {
		return err
	}
	if size > lambda.MaxPayload {
		return lambda.Errorf(lambda.RequestTooLarge, "The request's body has %d bytes or more; the limit is %d.", size, lambda.MaxPayload)
	}
	c.body = body
	return nil
}

// credential returns the access key and service that a verified signature names; "" without one.
func credential(r *http.Request) (key, service string) {
	_, text, found := strings.Cut(first(r.Header, "Authorization"), "Credential=")
	if !found {
		text = r.URL.Query().Get("X-Amz-Credential")
	}
	text, _, _ = strings.Cut(text, ",")
	if parts := strings.Split(text, "/"); len(parts) == 5 {
		return parts[0], parts[3]
	}
	return "", ""
}

// resourcePolicies is the Authorizer that knows resource policies only: an account may do what it likes with its own functions, all
// others what the function's policy allows.
type resourcePolicies struct{ catalog *catalog.Catalog }

func (p resourcePolicies) Allows(a *Access) bool {
	if a.Account != "" && a.Account == a.Resource.Account {
		return true
	}
	policy, ok := p.catalog.Policy(idOf(a.Resource), a.Resource.Qualifier)
	if !ok {
		return false
	}
	return slices.ContainsFunc(policy.Statements, func(s catalog.Statement) bool { return allows(s.JSON, a) })
}

// allows reports whether a statement, as addPermission writes them, covers an access. What it does not understand allows nothing.
func allows(text json.RawMessage, a *Access) bool {
	var s struct {
		Effect, Action, Resource string
		Principal                any
		Condition                condition
	}
	if err := json.Unmarshal(text, &s); err != nil || s.Effect != "Allow" {
		return false
	}
	if s.Action != a.Action && s.Action != "lambda:*" && s.Action != "*" || s.Resource != a.Resource.ARN() {
		return false
	}
	switch p := s.Principal.(type) {
	case string:
		if p != "*" {
			return false
		}
	case map[string]any:
		if who, ok := p["AWS"].(string); !ok || a.Principal == "" || who != "*" && who != a.Principal && who != string(a.Account) {
			return false
		}
	default:
		return false
	}
	if len(s.Condition.ArnLike) > 0 { // the request has no source ARN
		return false
	}
	return holds(s.Condition.StringEquals, a) && holds(s.Condition.Bool, a)
}

func holds(wanted map[string]string, a *Access) bool {
	for key, value := range wanted {
		if given, ok := a.Conditions[key]; !ok || given != value {
			return false
		}
	}
	return true
}

// logFailure logs what went wrong after an answer had begun.
func (s *Server) logFailure(c *call, err error) {
	var known *lambda.Error
	if !errors.As(err, &known) || known.Code == lambda.ServiceFailure {
		s.log.ErrorContext(c.r.Context(), "request failed after its answer had begun", "id", c.id, "account", c.account, "err", err)
	}
}
