package quick

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// verdict is what parse found.
type verdict int

const (
	incomplete verdict = iota
	notQuick
	quick
)

// request is one quick request.
type request struct {
	target string
	url    *url.URL
	host   string
	header http.Header
	body   []byte // in the connection's buffer
	last   bool   // "Connection: close"
}

const version = " HTTP/1.1"

// parse reads one request at the beginning of b, which holds what has come of at most size bytes, and returns how long it is. begins is how each quick
// one begins. Whatever it does not take for granted is not quick.
func parse(b []byte, begins string, isQuick func(string) bool) (r request, whole int, _ verdict) {
	if n := min(len(b), len(begins)); string(b[:n]) != begins[:n] {
		return r, 0, notQuick
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) == size {
			return r, 0, notQuick
		}
		return r, 0, incomplete
	}
	head := string(b[:end+2])
	line, rest, _ := strings.Cut(head, "\r\n")
	target, ok := strings.CutSuffix(line[len("POST "):], version)
	path, _, _ := strings.Cut(target, "?")
	if !ok || !visible(target) || !isQuick(path) {
		return r, 0, notQuick
	}
	r.target = target
	length, ok := r.fields(rest)
	if whole = end + 4 + length; !ok || whole > size {
		return r, 0, notQuick
	}
	if whole > len(b) {
		return r, 0, incomplete
	}
	var err error
	if r.url, err = url.ParseRequestURI(target); err != nil {
		return r, 0, notQuick
	}
	r.body = b[end+4 : whole]
	return r, whole, quick
}

// fields reads the header. Each line ends with CRLF.
func (r *request) fields(lines string) (length int, ok bool) {
	n := strings.Count(lines, "\n")
	values := make([]string, 0, n)
	r.header = make(http.Header, n)
	hosts, lengths := 0, 0
	for lines != "" {
		var line string
		line, lines, _ = strings.Cut(lines, "\r\n")
		name, value, found := strings.Cut(line, ":")
		value = trim(value)
		if !found || !token(name) || !text(value) {
			return 0, false
		}
		key := canonical(name)
		switch key {
		case "Host":
			if hosts++; hosts > 1 || !plainHost(value) {
				return 0, false
			}
			r.host = value
			continue
		case "Content-Length":
			if lengths++; lengths > 1 {
				return 0, false
			}
			if length, ok = digits(value); !ok {
				return 0, false
			}
		case "Connection":
			if r.last = strings.EqualFold(value, "close"); !r.last && !strings.EqualFold(value, "keep-alive") {
				return 0, false
			}
			if len(r.header[key]) > 0 {
				return 0, false
			}
		case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Pragma", "Proxy-Connection":
			return 0, false
		}
		if old := r.header[key]; old != nil {
			r.header[key] = append(old[:len(old):len(old)], value)
			continue
		}
		values = append(values, value)
		r.header[key] = values[len(values)-1:]
	}
	return length, hosts == 1
}

// http makes the request as net/http would.
func (r *request) http(ctx context.Context) *http.Request {
	req := new(http.Request).WithContext(ctx)
	req.Method, req.URL, req.RequestURI, req.Host = http.MethodPost, r.url, r.target, r.host
	req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/1.1", 1, 1
	req.Header, req.Close, req.ContentLength = r.header, r.last, int64(len(r.body))
	req.Body = http.NoBody
	if len(r.body) > 0 {
		req.Body = &body{r.body}
	}
	return req
}

// body is a request's body. It is valid until the handler returns.
type body struct{ left []byte }

func (b *body) Read(p []byte) (int, error) {
	if len(b.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

func (b *body) Close() error { return nil }

// known are the names that need no work: canonical and in small letters.
var known = func() map[string]string {
	names := map[string]string{}
	for _, name := range []string{"Host", "User-Agent", "Content-Length", "Content-Type", "Authorization", "X-Amz-Date", "X-Amz-Security-Token",
		"X-Amz-Content-Sha256", "X-Amz-Invocation-Type", "X-Amz-Log-Type", "X-Amz-Client-Context", "X-Amz-User-Agent", "Amz-Sdk-Invocation-Id",
		"Amz-Sdk-Request", "Accept-Encoding", "Accept", "Connection", "X-Amzn-Trace-Id"} {
		names[name], names[strings.ToLower(name)] = name, name
	}
	return names
}()

func canonical(name string) string {
	if key := known[name]; key != "" {
		return key
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

func digits(s string) (n int, ok bool) {
	if s == "" || len(s) > 9 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return n, true
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func text(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// plainHost reports whether a Host header is a name or an address as they usually look.
func plainHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !tokens[c] && c != ':' && c != '[' && c != ']' || strings.IndexByte("!#$%&'*+^`|~", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// trim removes spaces and tabs around s.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// tokens are the bytes of header names (RFC 9110, 5.6.2).
var tokens = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}()

func token(s string) bool {
	for i := range len(s) {
		if !tokens[s[i]] {
			return false
		}
	}
	return s != ""
}
