package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync"
	"time"

	"berth/lambda"
)

// maxSkew is how far a request's time may be from ours, as on AWS.
const maxSkew = 5 * time.Minute

// checkTime refuses a signature made too long ago or too far ahead.
func checkTime(sig *signature, now time.Time) error {
	now = now.UTC().Truncate(time.Second)
	if sig.presigned && sig.expires > 0 {
		if end := sig.time.Add(sig.expires); end.Before(now) {
			return lambda.Errorf(lambda.InvalidSignature, "Signature expired: %s is now earlier than %s", end.Format(isoTime), now.Format(isoTime))
		}
	} else if oldest := now.Add(-maxSkew); sig.time.Before(oldest) {
		return lambda.Errorf(lambda.InvalidSignature, "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			sig.stamp, oldest.Format(isoTime), now.Format(isoTime))
	}
	if newest := now.Add(maxSkew); sig.time.After(newest) {
		return lambda.Errorf(lambda.InvalidSignature, "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			sig.stamp, newest.Format(isoTime), now.Format(isoTime))
	}
	return nil
}

// checkSigned refuses a request whose meaning could be changed outside the signature: the host and all X-Amz-* headers
// must be signed. X-Amzn-Trace-Id is not one of them (proxies write it), and X-Amz-User-Agent means nothing (some SDKs do
// not sign it).
func checkSigned(r *http.Request, sig *signature) error {
	if !signs(sig.headers, "host") {
		return lambda.Errorf(lambda.InvalidSignature, "'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") && name != "X-Amz-User-Agent" && !signs(sig.headers, name) {
			return lambda.Errorf(lambda.InvalidSignature, "'%.128s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	return nil
}

// signs reports whether the list of lower-case names has name, whatever its case.
func signs(list, name string) bool {
	for more := true; more; {
		var signed string
		signed, list, more = strings.Cut(list, ";")
		if strings.EqualFold(signed, name) {
			return true
		}
	}
	return false
}

var errMismatch = &lambda.Error{Code: lambda.InvalidSignature, Message: "The request signature we calculated does not match the " +
	"signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}

// A buffer holds a canonical request while it is hashed; a large one is left to the collector.
const (
	usualBuffer     = 2 << 10
	maxPooledBuffer = 64 << 10
)

// checkSignature recomputes the signature over what came and compares it in constant time.
func (v *Verifier) checkSignature(r *http.Request, sig *signature, key lambda.AccessKey, body []byte) error {
	payload := hexOf(sha256.Sum256(body))
	if declared, given := r.Header["X-Amz-Content-Sha256"]; given {
		if len(declared) != 1 || declared[0] != string(payload[:]) {
			return lambda.Errorf(lambda.InvalidSignature, "The x-amz-content-sha256 header must be the lower-case hexadecimal SHA-256 "+
				"of the body; unsigned and streaming payloads are not accepted.")
		}
	}
	pooled, _ := v.buffers.Get().(*[]byte)
	if pooled == nil {
		b := make([]byte, 0, usualBuffer)
		pooled = &b
	}
	canonical, ok := appendCanonical((*pooled)[:0], r, sig, &payload)
	digest := hexOf(sha256.Sum256(canonical))
	if cap(canonical) <= maxPooledBuffer {
		*pooled = canonical
	}
	defer v.buffers.Put(pooled)
	if !ok {
		return errMismatch
	}
	text := canonical[:0]
	for _, s := range [...]string{algorithm, "\n", sig.stamp, "\n", sig.date, "/", sig.region, "/", sig.service, "/", terminator, "\n"} {
		text = append(text, s...)
	}
	text = append(text, digest[:]...)
	signing := v.keys.get(key, sig)
	if mac := sum(signing[:], text); subtle.ConstantTimeCompare(mac[:], sig.mac[:]) != 1 {
		return errMismatch
	}
	return nil
}

// sum is HMAC-SHA256 (RFC 2104) of a key of at most one block, which crypto/hmac cannot make without garbage. The data is hashed in
// place if it fits beside the key, which what is signed always does.
func sum(key, data []byte) [sha256.Size]byte {
	var block [sha256.BlockSize + usualText]byte
	inner := append(padded(block[:0], key, 0x36), data...)
	var outer [sha256.BlockSize + sha256.Size]byte
	digest := sha256.Sum256(inner)
	return sha256.Sum256(append(padded(outer[:0], key, 0x5c), digest[:]...))
}

// usualText is how long a string to sign usually is at most, in bytes.
const usualText = 256

// padded appends a block with key, each byte changed by pad; a longer key is hashed first.
func padded(b, key []byte, pad byte) []byte {
	if len(key) > sha256.BlockSize {
		digest := sha256.Sum256(key)
		key = digest[:]
	}
	for i := range sha256.BlockSize {
		if i < len(key) {
			b = append(b, key[i]^pad)
		} else {
			b = append(b, pad)
		}
	}
	return b
}

// keyCache remembers derived signing keys: deriving costs four HMACs. The zero value is ready.
type keyCache struct {
	mu   sync.RWMutex
	keys map[keyScope]derivedKey
}

type keyScope struct{ id, date, region, service string }

type derivedKey struct {
	secret string // the key derived from; a changed secret is derived anew
	key    [sha256.Size]byte
}

// maxDerivedKeys bounds the cache; a full one is emptied, which costs each key one derivation.
const maxDerivedKeys = 4096

func (c *keyCache) get(key lambda.AccessKey, sig *signature) [sha256.Size]byte {
	scope := keyScope{sig.keyID, sig.date, sig.region, sig.service}
	c.mu.RLock()
	derived, found := c.keys[scope]
	c.mu.RUnlock()
	if found && derived.secret == key.Secret {
		return derived.key
	}
	derived = derivedKey{secret: key.Secret, key: derive(key.Secret, sig)}
	for _, s := range [...]*string{&scope.id, &scope.date, &scope.region, &scope.service} {
		*s = strings.Clone(*s) // they are parts of a request's header, which must not be kept alive
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxDerivedKeys {
		c.keys = make(map[keyScope]derivedKey)
	}
	c.keys[scope] = derived
	return derived.key
}

// derive makes the signing key of one day, region and service.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html, "Derive a signing key".
func derive(secret string, sig *signature) [sha256.Size]byte {
	k := sum([]byte("AWS4"+secret), []byte(sig.date))
	k = sum(k[:], []byte(sig.region))
	k = sum(k[:], []byte(sig.service))
	return sum(k[:], []byte(terminator))
}
