// Package tenanttoken makes the tokens that say which tenant an invocation is of: JSON Web Tokens (RFC 7519), signed with Ed25519
// (RFC 8037). A function shows its token to the provider's own services, which know the public keys from a JSON Web Key Set.
//
// Each process that signs has a key of its own. The private half is made in its memory and never leaves it: it is in no file, no
// catalog and no message, and workers, where tenants' code runs, have none at all. The public half is published before the
// first token is signed with it, and stays published for as long as a token can be valid.
package tenanttoken

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"berth/lambda"
)

// Board is where public keys are published, for every process.
type Board interface {
	// PublishTokenKey adds a key, or changes its Until; when it returns nil the key is durable.
	PublishTokenKey(ctx context.Context, k lambda.TokenKey) error
	RemoveTokenKey(ctx context.Context, id string) error
	// TokenKeys returns all that are published.
	TokenKeys() []lambda.TokenKey
}

// Times of keys.
const (
	// DefaultRotation is for how long one key signs before the next one takes its place.
	DefaultRotation = 24 * time.Hour
	// lead is how long a new key is published before it signs, so that verifiers that read the set meanwhile know it.
	lead = time.Minute
	// slack is by how much the clocks of verifiers may differ.
	slack        = 5 * time.Minute
	publishLimit = 10 * time.Second
	tick         = 10 * time.Second
)

// Config of a Signer.
type Config struct {
	Board    Board
	Issuer   string        // the claim "iss"
	Rotation time.Duration // 0 is DefaultRotation
	Log      *slog.Logger
}

// Signer signs tokens. It makes no key until it is asked for the first token.
type Signer struct {
	cfg Config
	key atomic.Pointer[key] // that signs now
	mu  sync.Mutex          // making the first key
}

// key is a private key that is published.
type key struct {
	public lambda.TokenKey
	signer jose.Signer
	made   time.Time
	// last is when it may sign for the last time: twice the rotation, as the engine may be away when it is to be replaced.
	last time.Time
}

// New makes a Signer.
func New(cfg Config) *Signer {
	if cfg.Rotation == 0 {
		cfg.Rotation = DefaultRotation
	}
	return &Signer{cfg: cfg}
}

// claims is a token's content.
type claims struct {
	jwt.Claims
	Account     lambda.AccountID     `json:"account"`
	Function    string               `json:"function"`
	Version     string               `json:"version"`
	Tenant      string               `json:"tenant"`
	Environment lambda.EnvironmentID `json:"environment"`
}

// Token signs one. Error: when there is no key yet and none can be published.
func (s *Signer) Token(ctx context.Context, c lambda.TokenClaims) (string, error) {
	now := time.Now()
	k := s.key.Load()
	if k == nil || now.After(k.last) {
		var err error
		if k, err = s.first(ctx, now); err != nil {
			return "", fmt.Errorf("a tenant token's key could not be published: %w", err)
		}
	}
	return jwt.Signed(k.signer).Claims(claims{
		Claims: jwt.Claims{
			Issuer: s.cfg.Issuer, Audience: jwt.Audience{c.Audience}, ID: c.RequestID, IssuedAt: jwt.NewNumericDate(now),
			Expiry: jwt.NewNumericDate(now.Add(min(c.Life, lambda.MaxTokenLife))),
		},
		Account: c.Account, Function: c.Function, Version: c.Version, Tenant: c.Tenant, Environment: c.Environment,
	}).Serialize()
}

// first makes the key when there is none that may sign.
func (s *Signer) first(ctx context.Context, now time.Time) (*key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.key.Load(); k != nil && !now.After(k.last) {
		return k, nil
	}
	k, err := s.make(ctx, now)
	if err != nil {
		return nil, err
	}
	s.key.Store(k)
	return k, nil
}

// make makes a key and publishes its public half.
func (s *Signer) make(ctx context.Context, now time.Time) (*key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	k := &key{made: now, last: now.Add(2 * s.cfg.Rotation)}
	k.public = lambda.TokenKey{
		ID: base64.RawURLEncoding.EncodeToString(id), Public: public, Until: k.last.Add(lambda.MaxTokenLife + slack),
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	k.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: k.public.ID}}, options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	if err := s.cfg.Board.PublishTokenKey(ctx, k.public); err != nil {
		return nil, err
	}
	return k, nil
}

// Run replaces the key in time and removes those of which no token is valid any more, until ctx ends. Then it has its own
// key forgotten as soon as its last token has expired.
func (s *Signer) Run(ctx context.Context) error {
	ticker := time.NewTicker(min(tick, s.cfg.Rotation/10))
	defer ticker.Stop()
	var next *key
	for {
		select {
		case <-ctx.Done():
			s.retire(next)
			return nil
		case now := <-ticker.C:
			next = s.rotate(ctx, now, next)
			s.sweep(ctx, now)
		}
	}
}

// rotate publishes the next key when the present one is old, and has it sign a while later.
func (s *Signer) rotate(ctx context.Context, now time.Time, next *key) *key {
	k := s.key.Load()
	switch {
	case k == nil:
	case next != nil && now.Sub(next.made) >= min(lead, s.cfg.Rotation/10):
		s.key.Store(next)
		return nil
	case next == nil && now.Sub(k.made) >= s.cfg.Rotation:
		made, err := s.make(ctx, now)
		if err != nil {
			s.cfg.Log.Warn("the key of tenant tokens could not be replaced; it is tried again", "error", err)
			return nil
		}
		return made
	}
	return next
}

// sweep removes what nobody needs.
func (s *Signer) sweep(ctx context.Context, now time.Time) {
	if s.key.Load() == nil {
		return
	}
	for _, k := range s.cfg.Board.TokenKeys() {
		if now.After(k.Until) {
			if err := s.cfg.Board.RemoveTokenKey(ctx, k.ID); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("an old key of tenant tokens could not be removed; it is tried again", "key", k.ID, "error", err)
			}
		}
	}
}

// retire publishes when this process's last tokens expire. Without it its keys would be shown for longer.
func (s *Signer) retire(next *key) {
	ctx, cancel := context.WithTimeout(context.Background(), publishLimit)
	defer cancel()
	until := time.Now().Add(lambda.MaxTokenLife + slack)
	for _, k := range []*key{s.key.Load(), next} {
		if k == nil || k.public.Until.Before(until) {
			continue
		}
		public := k.public
		public.Until = until
		if err := s.cfg.Board.PublishTokenKey(ctx, public); err != nil {
			s.cfg.Log.Info("the public key of tenant tokens stays published until it expires", "key", public.ID, "until", k.public.Until, "error", err)
		}
	}
}

// JWKS is the published keys as a JSON Web Key Set (RFC 7517).
func JWKS(b Board) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	now := time.Now()
	for _, k := range b.TokenKeys() {
		if now.After(k.Until) || len(k.Public) != ed25519.PublicKeySize {
			continue
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: ed25519.PublicKey(k.Public), KeyID: k.ID, Algorithm: string(jose.EdDSA), Use: "sig",
		})
	}
	return json.Marshal(set)
}
