package lambda

import "time"

// TokenTag is the tag by which a function with tenant isolation asks for tenant tokens. Its value is the audience, whom the
// tokens are meant for; without a value that is the function's ARN.
const TokenTag = "berth:tenant-token"

// MaxTokenLife is how long a tenant token is valid at most.
const MaxTokenLife = 15 * time.Minute

// TokenClaims are what a tenant token says of the invocation that it goes with.
type TokenClaims struct {
	Audience    string
	RequestID   string
	Account     AccountID
	Function    string // name
	Version     string
	Tenant      string
	Environment EnvironmentID
	Life        time.Duration // how long it is valid, at most MaxTokenLife
}

// TokenKey is the public half of a key that signs tenant tokens.
type TokenKey struct {
	ID     string    // its thumbprint (RFC 7638)
	Public []byte    // Ed25519, 32 bytes
	Until  time.Time // no token that it signed is valid after this
}
