package apiserver

import (
	"cmp"
	"errors"
	"net/http"
	"strings"

	"berth/catalog"
	"berth/functionurl"
	"berth/lambda"
)

// iamAuth is the AuthType of URLs that want a signature.
const iamAuth = "AWS_IAM"

// admitURL finds out who calls a URL, whether they may, and reads the body. The caller is nil for a URL that asks for no signature. What
// may not pass is refused before its body is read, where that can be known.
func (s *Server) admitURL(c *call, u *catalog.URL) (*functionurl.Caller, error) {
	ref := u.Ref(s.cfg.Catalog.Region())
	if u.AuthType != iamAuth {
		if s.PermitURL(c.r, c.id, lambda.Caller{}, ref, u.AuthType) != nil { // why is in the log
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
	who, err := s.cfg.Authenticate(c.r, c.body)
	if err != nil {
		return nil, unsigned(err)
	}
	key, service := credential(c.r)
	if service != "" && service != "lambda" {
		return nil, lambda.Errorf(lambda.InvalidSignature, "Credential should be scoped to correct service: 'lambda'.")
	}
	if s.PermitURL(c.r, c.id, who, ref, u.AuthType) != nil {
		return nil, forbidden()
	}
	account := string(who.Account)
	return &functionurl.Caller{AccessKey: key, Account: account, ID: cmp.Or(who.User, account), ARN: who.ARN(), UserID: cmp.Or(who.User, account)}, nil
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

// logFailure logs what went wrong after an answer had begun.
func (s *Server) logFailure(c *call, err error) {
	var known *lambda.Error
	if !errors.As(err, &known) || known.Code == lambda.ServiceFailure {
		s.log.ErrorContext(c.r.Context(), "request failed after its answer had begun", "id", c.id, "account", c.account, "err", err)
	}
}
