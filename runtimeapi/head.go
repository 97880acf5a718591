package runtimeapi

import (
	"bytes"
	"net/http"
)

// head is the head of one HTTP request. Its slices lie in the connection's buffer and are valid until the next read.
type head struct {
	raw            []byte // all of it
	method, target []byte
	length         int64 // of the body; chunkedLength if it comes in chunks
	expects        bool  // the client waits for "100 Continue" before it sends the body
	last           bool  // the connection ends after this request
	contentType    []byte
	errorType      []byte
	mode           []byte
}

const (
	chunkedLength = -1
	maxHeaders    = 128 // fields of one request, and of one trailer
	maxTarget     = 4 << 10
)

var (
	lineEnd = []byte("\r\n")
	headEnd = []byte("\r\n\r\n")
)

// parseHead reads the head of a request (RFC 9112), the empty line at its end included. It is strict where leniency has
// made parsers disagree: no bare line feeds, folded lines, spaces before colons, repeated or contradictory lengths, or codings
// other than "chunked". status is 0, or how to refuse the request; the connection cannot be used on then.
func parseHead(b []byte) (h head, status int) {
	line, rest, _ := bytes.Cut(b, lineEnd)
	minor, status := h.parseRequestLine(line)
	if status != 0 {
		return h, status
	}
	h.raw, h.last = b, minor == 0
	f := fields{lengthless: true}
	for n := 0; ; n++ {
		line, rest, _ = bytes.Cut(rest, lineEnd)
		if len(line) == 0 {
			break
		}
		if n == maxHeaders {
			return h, http.StatusRequestHeaderFieldsTooLarge
		}
		name, value, ok := parseField(line)
		if !ok {
			return h, http.StatusBadRequest
		}
		if status := h.field(&f, name, value); status != 0 {
			return h, status
		}
	}
	switch {
	case f.hosts != 1 && minor == 1, f.hosts > 1, f.chunked && !f.lengthless, f.chunked && minor == 0:
		return h, http.StatusBadRequest
	case f.chunked:
		h.length = chunkedLength
	}
	return h, 0
}

// fields is what parseHead must remember from one header field to the next.
type fields struct {
	hosts      int
	chunked    bool
	lengthless bool
}

func (h *head) parseRequestLine(line []byte) (minor byte, status int) {
	var version []byte
	var ok1, ok2 bool
	h.method, line, ok1 = bytes.Cut(line, []byte{' '})
	h.target, version, ok2 = bytes.Cut(line, []byte{' '})
	switch {
	case !ok1 || !ok2 || !isToken(h.method) || len(h.target) == 0 || h.target[0] != '/' || !isVisible(h.target):
		return 0, http.StatusBadRequest
	case len(h.target) > maxTarget:
		return 0, http.StatusRequestURITooLong
	case string(version) == "HTTP/1.1":
		return 1, 0
	case string(version) == "HTTP/1.0":
		return 0, 0
	case len(version) != len("HTTP/1.1") || !bytes.HasPrefix(version, []byte("HTTP/")):
		return 0, http.StatusBadRequest
	}
	return 0, http.StatusHTTPVersionNotSupported
}

// field takes in one header field.
func (h *head) field(f *fields, name, value []byte) (status int) {
	switch {
	case isNamed(name, "host"):
		f.hosts++
	case isNamed(name, "content-length"):
		n, ok := parseLength(value)
		if !ok || !f.lengthless {
			return http.StatusBadRequest
		}
		h.length, f.lengthless = n, false
	case isNamed(name, "transfer-encoding"):
		switch {
		case f.chunked:
			return http.StatusBadRequest
		case !isNamed(value, "chunked"):
			return http.StatusNotImplemented
		}
		f.chunked = true
	case isNamed(name, "connection"):
		h.last = h.last || hasOption(value, "close")
	case isNamed(name, "expect"):
		if !isNamed(value, "100-continue") {
			return http.StatusExpectationFailed
		}
		h.expects = true
	case isNamed(name, "content-type"):
		h.contentType = value
	case isNamed(name, "lambda-runtime-function-error-type"):
		h.errorType = value
	case isNamed(name, "lambda-runtime-function-response-mode"):
		h.mode = value
	}
	return 0
}

// parseField cuts one line of a head or trailer into name and value.
func parseField(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte{':'})
	if !ok || !isToken(name) {
		return nil, nil, false
	}
	value = bytes.Trim(value, " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, false
		}
	}
	return name, value, true
}

// parseLength reads a Content-Length: digits only, at most 15 of them.
func parseLength(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// hasOption reports whether a comma-separated list has an option, whatever its case.
func hasOption(list []byte, option string) bool {
	for part := range bytes.SplitSeq(list, []byte{','}) {
		if isNamed(bytes.Trim(part, " \t"), option) {
			return true
		}
	}
	return false
}

// isNamed compares b with a name in lower case.
func isNamed(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func isVisible(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// tokenBytes are the bytes of which methods and header names are made (RFC 9110, 5.6.2).
var tokenBytes = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenBytes[c] {
			return false
		}
	}
	return len(b) > 0
}
