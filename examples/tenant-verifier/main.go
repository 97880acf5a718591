// Command tenant-verifier is a service of a provider who runs functions with tenant isolation: it gives a tenant's data only to
// calls of that tenant. A function shows the tenant token of its invocation:
//
//	GET /data/TENANT
//	Authorization: Bearer TOKEN
//
// The service knows nothing but where the public keys are, who signs, whose functions it serves, and what it is called itself:
//
//	tenant-verifier -jwks http://127.0.0.1:9000/.well-known/jwks.json -account 000000000001 -audience https://data.example.com
//
// The account matters: anybody who may make functions on the same server chooses the audience and the tenants of their own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

func main() {
	v := &Verifier{}
	addr := flag.String("addr", "127.0.0.1:9100", "where to listen")
	flag.StringVar(&v.JWKS, "jwks", "http://127.0.0.1:9000/.well-known/jwks.json", "URL of the public keys")
	flag.StringVar(&v.Issuer, "issuer", "urn:berth", "who signs the tokens")
	flag.StringVar(&v.Account, "account", "000000000001", "whose functions are served")
	flag.StringVar(&v.Audience, "audience", "", "what this service is called in tokens: the value of the function's tag berth:tenant-token")
	flag.Parse()
	server := &http.Server{Addr: *addr, Handler: v.protect(data), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// data answers with what belongs to a tenant.
func data(w http.ResponseWriter, tenant string) { fmt.Fprintf(w, "the data of %s\n", tenant) }

// protect gives a tenant's path only to calls with that tenant's token.
func (v *Verifier) protect(next func(http.ResponseWriter, string)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /data/{tenant}", func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		claims, err := v.Verify(r.Context(), token)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusUnauthorized)
		case claims.Tenant != r.PathValue("tenant"):
			http.Error(w, "the token is another tenant's", http.StatusForbidden)
		default:
			next(w, claims.Tenant)
		}
	})
	return mux
}

// Claims are what a tenant token says.
type Claims struct {
	jwt.Claims
	Account     string `json:"account"`
	Function    string `json:"function"`
	Version     string `json:"version"`
	Tenant      string `json:"tenant"`
	Environment string `json:"environment"`
}

// Verifier checks tenant tokens. It may be used by many goroutines.
type Verifier struct {
	JWKS, Issuer, Account, Audience string

	mu   sync.Mutex
	keys jose.JSONWebKeySet
	read time.Time
}

const (
	leeway    = time.Minute     // by how much clocks may differ
	keysAge   = 5 * time.Minute // how long the keys are kept
	keysPause = 5 * time.Second // between two readings, whatever tokens come
	maxKeys   = 1 << 20         // bytes
	maxToken  = 8 << 10         // bytes
)

// Verify returns what a token says, if it is signed by the issuer for a function of the account, meant for this service, and not
// expired.
func (v *Verifier) Verify(ctx context.Context, text string) (*Claims, error) {
	if len(text) > maxToken {
		return nil, errors.New("the token is too long")
	}
	// The algorithm is ours to say, not the token's.
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(token.Headers) != 1 {
		return nil, fmt.Errorf("not a token: %v", err)
	}
	key, err := v.key(ctx, token.Headers[0].KeyID)
	if err != nil {
		return nil, err
	}
	var c Claims
	if err := token.Claims(key, &c); err != nil {
		return nil, fmt.Errorf("the signature is not the issuer's: %w", err)
	}
	if c.Account != v.Account {
		return nil, errors.New("the token is of another account's function")
	}
	if c.Expiry == nil || c.Tenant == "" {
		return nil, errors.New("the token lacks a tenant or a time at which it expires")
	}
	err = c.ValidateWithLeeway(jwt.Expected{Issuer: v.Issuer, AnyAudience: jwt.Audience{v.Audience}, Time: time.Now()}, leeway)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// key finds a public key. Keys are read again when they are old, and when a token names one that is not known: a new one.
func (v *Verifier) key(ctx context.Context, id string) (*jose.JSONWebKey, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	age := time.Since(v.read)
	if age > keysAge || len(v.keys.Key(id)) == 0 && age > keysPause {
		if err := v.fetch(ctx); err != nil {
			return nil, err
		}
	}
	if found := v.keys.Key(id); id != "" && len(found) == 1 {
		return &found[0], nil
	}
	return nil, errors.New("the token is signed with a key that is not the issuer's")
}

func (v *Verifier) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.JWKS, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("reading the issuer's keys: %w", err)
	}
	defer resp.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxKeys)).Decode(&keys); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("reading the issuer's keys: status %d, %v", resp.StatusCode, err)
	}
	v.keys, v.read = keys, time.Now()
	return nil
}
