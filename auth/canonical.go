package auth

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// appendCanonical appends the canonical request of r. It is what aws-sdk-go-v2's signer/v4 builds, made without its
// garbage; FuzzSigV4 holds the two together. Not ok: r has something that cannot have been signed.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
func appendCanonical(b []byte, r *http.Request, sig *signature, payloadHash *[2 * 32]byte) (_ []byte, ok bool) {
	path, query := wireTarget(r)
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendEscaped(b, path, true) // the path is escaped as it stands, so an escaped one is escaped twice
	b = append(b, '\n')
	if b, ok = appendQuery(b, query, sig.presigned); !ok {
		return b, false
	}
	b = append(b, '\n')
	for rest, more := sig.headers, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, ";")
		if b, ok = appendHeader(b, r, name); !ok {
			return b, false
		}
	}
	b = append(b, '\n')
	b = append(b, sig.headers...)
	b = append(b, '\n')
	return append(b, payloadHash[:]...), true
}

// wireTarget returns path and query as they came over the wire, or as r.URL has them for a request that never did.
func wireTarget(r *http.Request) (path, query string) {
	if strings.HasPrefix(r.RequestURI, "/") {
		path, query, _ = strings.Cut(r.RequestURI, "?")
		return path, query
	}
	path = r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	return path, r.URL.RawQuery
}

const upperHex = "0123456789ABCDEF"

// appendEscaped percent-encodes everything but the unreserved characters of RFC 3986 (and '/' where it separates).
func appendEscaped(b []byte, s string, slash bool) []byte {
	for i := range len(s) {
		if c := s[i]; unreserved(c) || c == '/' && slash {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
}

// appendQuery appends the parameters, decoded and encoded anew, in the order of their encoded forms.
func appendQuery(b []byte, query string, presigned bool) ([]byte, bool) {
	if query == "" {
		return b, true
	}
	type pair struct{ key, value string }
	var few [8]pair
	pairs := few[:0]
	var scratch []byte
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		key, err1 := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil || strings.Contains(part, ";") {
			return b, false
		}
		if presigned && key == "X-Amz-Signature" {
			continue
		}
		scratch = appendEscaped(scratch[:0], key, false)
		n := len(scratch)
		scratch = appendEscaped(scratch, value, false)
		pairs = append(pairs, pair{string(scratch[:n]), string(scratch[n:])})
	}
	slices.SortFunc(pairs, func(x, y pair) int {
		if c := strings.Compare(x.key, y.key); c != 0 {
			return c
		}
		return strings.Compare(x.value, y.value)
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.key...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b, true
}

// appendHeader appends "name:values\n". Not ok: the header is absent.
func appendHeader(b []byte, r *http.Request, name string) ([]byte, bool) {
	b = append(b, name...)
	b = append(b, ':')
	var key [64]byte
	values := r.Header[string(canonicalKey(key[:0], name))]
	switch {
	case name == "host": // net/http moves it out of the header
		return append(appendTrimmed(b, r.Host), '\n'), true
	case name == "content-length" && len(values) == 0 && r.ContentLength >= 0:
		b = strconv.AppendInt(b, r.ContentLength, 10)
	case len(values) == 0:
		return b, false
	}
	for i, value := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, value)
	}
	return append(b, '\n'), true
}

// canonicalKey spells a lower-case header name as net/http does ("X-Amz-Date").
func canonicalKey(b []byte, name string) []byte {
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
		upper = c == '-'
	}
	return b
}

// appendTrimmed appends a header value without outer spaces and with inner runs of spaces made one.
func appendTrimmed(b []byte, value string) []byte {
	value = strings.TrimSpace(value)
	for i := range len(value) {
		if value[i] == ' ' && i > 0 && value[i-1] == ' ' {
			continue
		}
		b = append(b, value[i])
	}
	return b
}

// hexOf writes a digest as lower-case hexadecimal.
func hexOf(sum [32]byte) (out [2 * 32]byte) {
	hex.Encode(out[:], sum[:])
	return out
}
