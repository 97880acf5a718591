package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"berth/lambda"
	"berth/tenanttoken"
)

// board keeps published keys.
type board struct {
	mu   sync.Mutex
	keys map[string]lambda.TokenKey
}

func (b *board) PublishTokenKey(_ context.Context, k lambda.TokenKey) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys == nil {
		b.keys = map[string]lambda.TokenKey{}
	}
	b.keys[k.ID] = k
	return nil
}

func (b *board) RemoveTokenKey(_ context.Context, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.keys, id)
	return nil
}

func (b *board) TokenKeys() (out []lambda.TokenKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.keys {
		out = append(out, k)
	}
	return out
}

const (
	issuer   = "urn:berth"
	audience = "https://data.example.com"
)

func signer(b *board) *tenanttoken.Signer {
	return tenanttoken.New(tenanttoken.Config{Board: b, Issuer: issuer, Log: slog.New(slog.DiscardHandler)})
}

func token(t *testing.T, s *tenanttoken.Signer, edit func(*lambda.TokenClaims)) string {
	t.Helper()
	c := lambda.TokenClaims{Audience: audience, RequestID: "r1", Account: "000000000001", Function: "f", Version: "1", Tenant: "blue",
		Environment: "e1", Life: time.Minute}
	if edit != nil {
		edit(&c)
	}
	text, err := s.Token(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// forge signs the claims of a token with another key under the id of the right one.
func forge(t *testing.T, text string) string {
	t.Helper()
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: parsed.Headers[0].KeyID}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := parsed.UnsafeClaimsWithoutVerification(&c); err != nil {
		t.Fatal(err)
	}
	out, err := jwt.Signed(s).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unsigned says that it needs no signature.
func unsigned(text string) string {
	parts := strings.Split(text, ".")
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
}

// altered is another tenant's claims under the signature of these.
func altered(t *testing.T, text string) string {
	t.Helper()
	parts := strings.Split(text, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	claims = bytes.Replace(claims, []byte(`"tenant":"green"`), []byte(`"tenant":"blue"`), 1)
	return parts[0] + "." + base64.RawURLEncoding.EncodeToString(claims) + "." + parts[2]
}

// TestF6_AVerifierThatKnowsOnlyThePublicKeys checks tokens in Go and in Python, by what the server publishes.
func TestF6_AVerifierThatKnowsOnlyThePublicKeys(t *testing.T) {
	var b board
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		document, err := tenanttoken.JWKS(&b)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(document)
	}))
	defer keys.Close()
	s := signer(&b)
	good := token(t, s, nil)
	green := token(t, s, func(c *lambda.TokenClaims) { c.Tenant = "green" })
	second := signer(&b) // another process with a key of its own
	tokens := []struct {
		name, text string
		status     int
	}{
		{"of the tenant", good, http.StatusOK},
		{"of the tenant, from another process", token(t, second, nil), http.StatusOK},
		{"of another tenant", green, http.StatusForbidden},
		{"expired", token(t, s, func(c *lambda.TokenClaims) { c.Life = -2 * time.Minute }), http.StatusUnauthorized},
		{"for another audience", token(t, s, func(c *lambda.TokenClaims) { c.Audience = "https://other.example.com" }), http.StatusUnauthorized},
		{"of another account", token(t, s, func(c *lambda.TokenClaims) { c.Account = "000000000002" }), http.StatusUnauthorized},
		{"of another issuer", token(t, tenanttoken.New(tenanttoken.Config{Board: &b, Issuer: "urn:other"}), nil), http.StatusUnauthorized},
		{"signed with another key", forge(t, good), http.StatusUnauthorized},
		{"signed with an unpublished key", token(t, signer(&board{}), nil), http.StatusUnauthorized},
		{"altered", altered(t, green), http.StatusUnauthorized},
		{"unsigned", unsigned(good), http.StatusUnauthorized},
		{"cut", good[:len(good)-4], http.StatusUnauthorized},
		{"none", "", http.StatusUnauthorized},
	}
	python := "python3"
	if err := exec.Command(python, "-c", "import cryptography").Run(); err != nil {
		t.Log("python3 with the package cryptography is not here: its verifier is not tested")
		python = ""
	}
	v := &Verifier{JWKS: keys.URL, Issuer: issuer, Account: "000000000001", Audience: audience}
	for _, c := range tokens {
		r := httptest.NewRequest(http.MethodGet, "/data/blue", nil)
		r.Header.Set("Authorization", "Bearer "+c.text)
		w := httptest.NewRecorder()
		v.protect(data).ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("Go, a token %s: status %d, want %d: %s", c.name, w.Code, c.status, w.Body)
		}
		if python == "" {
			continue
		}
		out, err := exec.Command(python, "verify.py", "--jwks", keys.URL, "--account", v.Account, "--audience", audience, "--tenant", "blue", "--", c.text).CombinedOutput()
		if (err == nil) != (c.status == http.StatusOK) || err != nil && !strings.HasPrefix(string(out), "refused: ") {
			t.Errorf("Python, a token %s: %v %s", c.name, err, out)
		}
	}
	claims, err := v.Verify(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := json.Marshal(claims); !strings.Contains(string(got), `"account":"000000000001","function":"f","version":"1","tenant":"blue","environment":"e1"`) {
		t.Errorf("claims %s", got)
	}
}
