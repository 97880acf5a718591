package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"berth/lambda"
)

// Limits on what is parsed before anything is verified.
const (
	maxAuthorization = 8 << 10 // bytes of the header, or of the presigned query
	maxSignedHeaders = 64
	maxKeyID         = 128 // lambda.AccessKey
	maxPresign       = 7 * 24 * time.Hour
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	isoTime    = "20060102T150405Z"
)

// signature is a parsed, unverified signature.
type signature struct {
	keyID, date, region, service string // the credential's parts
	headers                      string // SignedHeaders as written: lower case, ascending, ';' between
	mac                          [sha256.Size]byte
	stamp                        string // the signing time as isoTime
	time                         time.Time
	presigned                    bool
	expires                      time.Duration // presigned only; 0 is the usual clock skew
}

// parse reads the signature from the Authorization header or else from the query.
func parse(r *http.Request) (signature, error) {
	switch values := r.Header["Authorization"]; {
	case len(values) == 1:
		return parseHeader(r, values[0])
	case len(values) > 1:
		return signature{}, incomplete("The request must have exactly one Authorization header.")
	case strings.Contains(r.URL.RawQuery, "X-Amz-Signature="):
		return parseQuery(r)
	}
	return signature{}, lambda.Errorf(lambda.MissingAuthToken, "Missing Authentication Token")
}

func parseHeader(r *http.Request, header string) (signature, error) {
	if len(header) > maxAuthorization {
		return signature{}, incomplete("The Authorization header must be at most " + strconv.Itoa(maxAuthorization) + " bytes.")
	}
	var sig signature
	var credential, mac string
	scheme, rest, _ := strings.Cut(header, " ")
	if scheme != algorithm {
		rest = ""
	}
	for rest != "" {
		var pair string
		pair, rest, _ = strings.Cut(rest, ",")
		name, value, found := strings.Cut(strings.Trim(pair, " "), "=")
		if !found || value == "" {
			return sig, incomplete("The Authorization header must be '" + algorithm + "' and key=value pairs separated by commas." + digestOf(header))
		}
		var into *string
		switch name {
		case "Credential":
			into = &credential
		case "SignedHeaders":
			into = &sig.headers
		case "Signature":
			into = &mac
		}
		if into == nil || *into != "" {
			return sig, incomplete("The Authorization header has an unknown or repeated parameter." + digestOf(header))
		}
		*into = value
	}
	stamp := first(r.Header, "X-Amz-Date")
	if stamp == "" {
		stamp = fromHTTPDate(first(r.Header, "Date"))
	}
	if missing := missingParts(credential, mac, sig.headers, stamp); missing != "" {
		return sig, incomplete(missing + digestOf(header))
	}
	return sig, sig.fill(credential, mac, stamp)
}

// missingParts words what is absent as AWS does.
func missingParts(credential, mac, headers, stamp string) string {
	var b strings.Builder
	for _, part := range [...]struct{ name, value string }{
		{"Credential", credential}, {"Signature", mac}, {"SignedHeaders", headers},
	} {
		if part.value == "" {
			b.WriteString("Authorization header requires '" + part.name + "' parameter. ")
		}
	}
	if stamp == "" {
		b.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
	}
	return strings.TrimSuffix(b.String(), " ")
}

func parseQuery(r *http.Request) (signature, error) {
	if len(r.URL.RawQuery) > maxAuthorization {
		return signature{}, incomplete("A presigned query must be at most " + strconv.Itoa(maxAuthorization) + " bytes.")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return signature{}, incomplete("The query cannot be decoded.")
	}
	get := func(name string) string {
		if v := query[name]; len(v) == 1 {
			return v[0]
		}
		return ""
	}
	for _, name := range [...]string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Date", "X-Amz-Signature"} {
		if get(name) == "" {
			return signature{}, incomplete("AWS query-string parameters must include '" + name + "' exactly once.")
		}
	}
	if get("X-Amz-Algorithm") != algorithm {
		return signature{}, incomplete("X-Amz-Algorithm must be '" + algorithm + "'.")
	}
	sig := signature{headers: get("X-Amz-SignedHeaders"), presigned: true}
	if text, given := query["X-Amz-Expires"]; given {
		seconds, err := strconv.Atoi(text[0])
		if len(text) != 1 || err != nil || seconds < 1 || seconds > int(maxPresign/time.Second) {
			return signature{}, incomplete("X-Amz-Expires must be a number of seconds from 1 to " + strconv.Itoa(int(maxPresign/time.Second)) + ".")
		}
		sig.expires = time.Duration(seconds) * time.Second
	}
	return sig, sig.fill(get("X-Amz-Credential"), get("X-Amz-Signature"), get("X-Amz-Date"))
}

// fill parses the parts that both forms share.
func (sig *signature) fill(credential, mac, stamp string) error {
	var parts [5]string
	more := true
	for i := range parts {
		if !more {
			return errCredential
		}
		parts[i], credential, more = strings.Cut(credential, "/")
	}
	if more || !plain(parts[0]) || !plain(parts[2]) || !plain(parts[3]) {
		return errCredential
	}
	sig.keyID, sig.date, sig.region, sig.service = parts[0], parts[1], parts[2], parts[3]
	term := parts[4]
	if term != terminator {
		return lambda.Errorf(lambda.InvalidSignature, "Credential should be scoped with a valid terminator: '%s'.", terminator)
	}
	if !decodeMAC(&sig.mac, mac) {
		return incomplete("Signature must be 64 lower-case hexadecimal digits.")
	}
	if !validHeaderList(sig.headers) {
		return incomplete("SignedHeaders must be lower-case header names in ascending order, separated by ';'.")
	}
	var err error
	if sig.time, err = time.Parse(isoTime, stamp); err != nil {
		return incomplete("Date must be in ISO-8601 'basic format', e.g. 20261123T062037Z. See http://en.wikipedia.org/wiki/ISO_8601")
	}
	sig.stamp = stamp
	if sig.date != stamp[:len("20060102")] {
		return lambda.Errorf(lambda.InvalidSignature,
			"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%.32q' != '%s', from '%s'.",
			sig.date, stamp[:len("20060102")], stamp)
	}
	return nil
}

var errCredential = incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")

// plain reports whether s is one segment of a credential: [A-Za-z0-9_-]{1,128}.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) <= maxKeyID
}

func decodeMAC(into *[sha256.Size]byte, s string) bool {
	if len(s) != 2*sha256.Size {
		return false
	}
	for i := range into {
		hi, lo := unhex(s[2*i]), unhex(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		into[i] = hi<<4 | lo
	}
	return true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// validHeaderList reports whether s is a strictly ascending list of lower-case tokens, at most maxSignedHeaders of them.
func validHeaderList(s string) bool {
	previous, n := "", 0
	for rest, more := s, true; more; n++ {
		var name string
		name, rest, more = strings.Cut(rest, ";")
		if name <= previous || n == maxSignedHeaders {
			return false
		}
		for i := range len(name) {
			if c := name[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-_.!#$%&'*+^`|~", c) >= 0) {
				return false
			}
		}
		previous = name
	}
	return true
}

// fromHTTPDate brings a Date header to isoTime; "" if it is not a date.
func fromHTTPDate(s string) string {
	if _, err := time.Parse(isoTime, s); err == nil {
		return s
	}
	if t, err := http.ParseTime(s); err == nil {
		return t.UTC().Format(isoTime)
	}
	return ""
}

func first(h http.Header, canonicalName string) string {
	if v := h[canonicalName]; len(v) == 1 {
		return v[0]
	}
	return ""
}

func incomplete(message string) error {
	return &lambda.Error{Code: lambda.IncompleteSignature, Message: message}
}

// digestOf shows which header was meant without repeating what may be a secret, in AWS's own way.
func digestOf(header string) string {
	sum := sha256.Sum256([]byte(header))
	return " (Hashed with SHA-256 and encoded with Base64) Authorization=" + base64.StdEncoding.EncodeToString(sum[:])
}
