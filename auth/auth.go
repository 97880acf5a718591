// Package auth verifies who signed a request (AWS Signature Version 4).
//
// Only what the signature covers may be believed, also without TLS: the method, path, query, body, host and every X-Amz-*
// header. A request with an X-Amz-* header outside the signature is refused, and so is an unsigned body.
package auth

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"berth/lambda"
)

// Keys finds access keys. Implementations are fast (a map look-up) and safe for concurrent use.
type Keys interface {
	AccessKey(id string) (lambda.AccessKey, bool)
}

// Identity is who signed a request, and for where.
type Identity struct {
	lambda.Caller
	Region  string // always the configured one
	Service string // of the credential scope: "lambda", "logs", …
}

// Config configures a Verifier.
type Config struct {
	Keys     Keys
	Region   string   // the only region that credentials may be scoped to
	Services []string // the services that credentials may be scoped to; nil is DefaultServices
}

// DefaultServices are the services whose credentials Berth takes.
var DefaultServices = []string{"lambda", "logs", "sts"}

// Verifier verifies SigV4 signatures. Safe for concurrent use.
type Verifier struct {
	cfg     Config
	keys    keyCache
	buffers sync.Pool // of *[]byte
}

// NewVerifier returns a Verifier for cfg.
func NewVerifier(cfg Config) *Verifier {
	if cfg.Services == nil {
		cfg.Services = DefaultServices
	}
	return &Verifier{cfg: cfg}
}

// Verify returns who signed r, by its Authorization header or its presigned query. body is the request's whole body.
// It reads r as it came over the wire (RequestURI), so it may run after a mux.
//
// Errors are *lambda.Error with AWS's texts: MissingAuthToken (403) without any signature, IncompleteSignature (400) for
// one that cannot be parsed, UnrecognizedClient (403) for an unknown key, InvalidSignature (403) for all the rest.
func (v *Verifier) Verify(r *http.Request, body []byte) (Identity, error) {
	sig, err := parse(r)
	if err != nil {
		return Identity{}, err
	}
	if err := v.checkScope(&sig); err != nil {
		return Identity{}, err
	}
	if err := checkTime(&sig, time.Now()); err != nil {
		return Identity{}, err
	}
	if err := checkSigned(r, &sig); err != nil {
		return Identity{}, err
	}
	key, known := v.cfg.Keys.AccessKey(sig.keyID)
	if !known {
		return Identity{}, lambda.Errorf(lambda.UnrecognizedClient, "The security token included in the request is invalid.")
	}
	if err := v.checkSignature(r, &sig, key, body); err != nil {
		return Identity{}, err
	}
	who := lambda.Caller{Account: key.Account, Key: key.ID, User: key.User, Restricted: key.Restricted}
	return Identity{Caller: who, Region: sig.region, Service: sig.service}, nil
}

func (v *Verifier) checkScope(sig *signature) error {
	if sig.region != v.cfg.Region {
		return lambda.Errorf(lambda.InvalidSignature, "Credential should be scoped to a valid region, not '%s'. This server is in '%s'.",
			sig.region, v.cfg.Region)
	}
	if !slices.Contains(v.cfg.Services, sig.service) {
		return lambda.Errorf(lambda.InvalidSignature, "Credential should be scoped to correct service: '%s'.", v.cfg.Services[0])
	}
	return nil
}
