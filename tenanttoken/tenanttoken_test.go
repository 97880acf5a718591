package tenanttoken

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"berth/lambda"
)

type board struct {
	mu   sync.Mutex
	keys map[string]lambda.TokenKey
	away error
}

func (b *board) PublishTokenKey(_ context.Context, k lambda.TokenKey) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away == nil {
		b.keys[k.ID] = k
	}
	return b.away
}

func (b *board) RemoveTokenKey(_ context.Context, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away == nil {
		delete(b.keys, id)
	}
	return b.away
}

func (b *board) TokenKeys() (out []lambda.TokenKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.keys {
		out = append(out, k)
	}
	return out
}

func (b *board) set(away error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

func newBoard() *board { return &board{keys: map[string]lambda.TokenKey{}} }

var call = lambda.TokenClaims{Audience: "a", Tenant: "blue", Life: time.Hour}

// valid verifies a token by the published keys alone, and returns its key's id.
func valid(t *testing.T, b *board, token string) (id string, ok bool) {
	t.Helper()
	document, err := JWKS(b)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(document, &set); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	id = parsed.Headers[0].KeyID
	var c jwt.Claims
	keys := set.Key(id)
	return id, len(keys) == 1 && parsed.Claims(&keys[0], &c) == nil && c.Validate(jwt.Expected{Issuer: "i", Time: time.Now()}) == nil
}

// TestKeysRotateWithoutRefusingValidTokens signs every ten seconds for three days, and verifies each token just before it expires.
func TestKeysRotateWithoutRefusingValidTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		s := New(Config{Board: b, Issuer: "i", Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = s.Run(ctx) })
		used := map[string]bool{}
		var waiting []string
		for range 3 * 24 * 60 {
			token, err := s.Token(ctx, call)
			if err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting, token)
			id, ok := valid(t, b, token)
			used[id] = true
			if !ok {
				t.Fatal("a new token is not valid by the published keys")
			}
			time.Sleep(time.Minute)
			if len(waiting) == 14 { // signed 14 minutes ago
				if _, ok := valid(t, b, waiting[0]); !ok {
					t.Fatal("a token of 14 minutes is refused")
				}
				waiting = waiting[1:]
			}
		}
		if len(used) != 3 {
			t.Errorf("%d keys signed in three days, want 3", len(used))
		}
		if n := len(b.TokenKeys()); n > 3 {
			t.Errorf("%d keys are published after three days: the old ones were not removed", n)
		}
		last, err := s.Token(ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		running.Wait()
		time.Sleep(14 * time.Minute)
		if _, ok := valid(t, b, last); !ok {
			t.Error("after its signer has ended a token is refused that has not expired")
		}
		time.Sleep(10 * time.Minute)
		if document, _ := JWKS(b); string(document) != `{"keys":[]}` {
			t.Errorf("keys are shown of which no token is valid: %s", document)
		}
	})
}

func TestNothingIsSignedWithAnUnpublishedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		s := New(Config{Board: b, Issuer: "i", Log: slog.New(slog.DiscardHandler)})
		b.set(errors.New("away"))
		if _, err := s.Token(t.Context(), call); err == nil {
			t.Error("a token was signed although its key could not be published")
		}
		b.set(nil)
		first, err := s.Token(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = s.Run(ctx) })
		b.set(errors.New("away"))
		time.Sleep(30 * time.Hour) // the key is due, and cannot be replaced: it signs on
		token, err := s.Token(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := valid(t, b, first)
		if id, ok := valid(t, b, token); !ok || id != before {
			t.Error("without the engine the key does not sign on")
		}
		b.set(nil)
		time.Sleep(5 * time.Minute)
		if token, err = s.Token(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		if id, ok := valid(t, b, token); !ok || id == before {
			t.Error("when the engine is back the key is not replaced")
		}
		cancel()
		running.Wait()
	})
}

func TestATokenLivesForAQuarterOfAnHourAtMost(t *testing.T) {
	s := New(Config{Board: newBoard(), Issuer: "i"})
	token, err := s.Token(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var c jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&c); err != nil {
		t.Fatal(err)
	}
	if life := c.Expiry.Time().Sub(c.IssuedAt.Time()); life != lambda.MaxTokenLife {
		t.Errorf("asked for an hour, the token lives for %v", life)
	}
}

func BenchmarkToken(b *testing.B) {
	s := New(Config{Board: newBoard(), Issuer: "urn:berth"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Token(b.Context(), call); err != nil {
			b.Fatal(err)
		}
	}
}
