package apiserver

import (
	"encoding/json"
	"net/http"

	"berth/lambda"
)

// accountPath shows (GET) and sets (PUT) the limits of the caller's own account, which the Lambda API can only show.
// Requests are signed as those of the Lambda API are.
const accountPath = ownPrefix + "v1/account"

// maxAccountRequest bounds the body of a request to accountPath, in bytes.
const maxAccountRequest = 4096

// accountDocument is what accountPath answers.
type accountDocument struct {
	Account     lambda.AccountID `json:"account"`
	Concurrency int              `json:"concurrency"` // executions at once, of all functions together
	Reserved    int              `json:"reserved"`    // of these, for functions with reserved concurrency
	Provisioned int              `json:"provisioned"` // of these, provisioned for functions without
	Unreserved  int              `json:"unreserved"`  // the rest
}

// serveAccount answers accountPath.
func (s *Server) serveAccount(c *call) error {
	if err := s.refuseUnsigned(c); err != nil {
		return err
	}
	body, size, err := readBody(c.r, maxAccountRequest)
	if err != nil {
		return err
	}
	if size > maxAccountRequest {
		return lambda.Errorf(lambda.RequestEntityTooLarge, "Request must be smaller than %d bytes", maxAccountRequest)
	}
	if err = s.identify(c, body); err != nil {
		return err
	}
	account := s.cfg.Catalog.Account(c.account)
	switch c.r.Method {
	case http.MethodGet:
		if err := s.permitOwn(c, "berth:GetAccount", s.ownARN(c, "account")); err != nil {
			return err
		}
	case http.MethodPut:
		if err := s.permitOwn(c, "berth:PutAccount", s.ownARN(c, "account")); err != nil {
			return err
		}
		var in struct {
			Concurrency *int `json:"concurrency"`
		}
		if err := json.Unmarshal(body, &in); err != nil || in.Concurrency == nil {
			return lambda.Errorf(lambda.SerializationFailure, `expected {"concurrency":N}, N a whole number`)
		}
		if account, err = s.cfg.Catalog.SetConcurrency(c.r.Context(), c.account, *in.Concurrency); err != nil {
			return err
		}
		s.log.Info("account limit set", "account", c.account, "concurrency", account.Concurrency)
	default:
		return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist; use GET or PUT.", c.r.Method, c.r.URL.Path)
	}
	c.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(c.w).Encode(accountDocument{
		Account: c.account, Concurrency: account.Concurrency, Reserved: account.Reserved,
		Provisioned: account.Provisioned, Unreserved: account.Unreserved(),
	})
}
