// Package auth verifies who signed a request (AWS Signature Version 4).
package auth

import (
	"errors"
	"net/http"

	"berth/lambda"
)

// Keys finds access keys. Implementations are fast (a map look-up) and safe for concurrent use.
type Keys interface {
	AccessKey(id string) (lambda.AccessKey, bool)
}

// Identity is who signed a request, and for where.
type Identity struct {
	Account lambda.AccountID
	KeyID   string // "" if unsigned (development mode only)
	Region  string // of the credential scope; always the configured one
	Service string // of the credential scope: "lambda", "logs", …
}

// Config configures a Verifier.
type Config struct {
	Keys     Keys
	Region   string   // the only region that credentials may be scoped to
	Services []string // the services that credentials may be scoped to; nil is {"lambda", "logs", "sts"}
}

// Verifier verifies SigV4 signatures. Safe for concurrent use.
type Verifier struct{}

// NewVerifier returns a Verifier for cfg.
func NewVerifier(cfg Config) *Verifier { return &Verifier{} }

// Verify returns who signed r. body is the request's whole body. Errors are *lambda.Error with AWS's codes and texts
// (MissingAuthToken, IncompleteSignature, InvalidSignature, UnrecognizedClient).
func (v *Verifier) Verify(r *http.Request, body []byte) (Identity, error) {
	return Identity{}, errors.New("not built yet")
}

// DevAuthenticator accepts every request: for development on a loopback address only.
type DevAuthenticator struct{ region string }

// NewDevAuthenticator returns an authenticator that takes any signature or none.
func NewDevAuthenticator(region string) *DevAuthenticator { return &DevAuthenticator{region} }

// Verify never fails: an access key id of twelve digits is the account, everything else account 123456789012.
func (d *DevAuthenticator) Verify(r *http.Request, body []byte) (Identity, error) {
	return Identity{}, nil
}

// NewKey makes a fresh access key for an account from the system's random source.
func NewKey(account lambda.AccountID) (lambda.AccessKey, error) { return lambda.AccessKey{}, nil }
