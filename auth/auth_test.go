package auth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"berth/lambda"
)

const testRegion = "us-east-1"

var testKey = lambda.AccessKey{ID: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Account: "000000000001"}

// oneKey knows one key.
type oneKey lambda.AccessKey

func (k oneKey) AccessKey(id string) (lambda.AccessKey, bool) {
	if id != k.ID {
		return lambda.AccessKey{}, false
	}
	return lambda.AccessKey(k), true
}

func newVerifier() *Verifier { return NewVerifier(Config{Keys: oneKey(testKey), Region: testRegion}) }

// signed builds a request, signs it with the SDK's signer and brings it over a wire.
func signed(t testing.TB, method, url, body string, change func(*signing)) (*http.Request, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	s := signing{req: req, key: testKey, service: "lambda", region: testRegion, at: time.Now()}
	sum := sha256.Sum256([]byte(body))
	s.hash = hex.EncodeToString(sum[:])
	if change != nil {
		change(&s)
	}
	s.sign(t)
	if s.after != nil {
		s.after(req)
	}
	return overWire(t, req)
}

type signing struct {
	req                   *http.Request
	key                   lambda.AccessKey
	service, region, hash string
	at                    time.Time
	after                 func(*http.Request) // tampers
}

func (s *signing) sign(t testing.TB) {
	t.Helper()
	creds := aws.Credentials{AccessKeyID: s.key.ID, SecretAccessKey: s.key.Secret}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, s.req, s.hash, s.service, s.region, s.at); err != nil {
		t.Fatal(err)
	}
}

// overWire writes a client's request and reads it as a server does.
func overWire(t testing.TB, req *http.Request) (*http.Request, []byte) {
	t.Helper()
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatalf("read request: %v", err)
	}
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got, body
}

var goodRequests = []struct{ name, method, url, body string }{
	{"plain", "GET", "http://127.0.0.1:9000/2015-03-31/functions/", ""},
	{"invoke", "POST", "http://127.0.0.1:9000/2015-03-31/functions/hello/invocations", `{"a":1}`},
	{"arn, escaped once", "POST", "http://localhost/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000001%3Afunction%3Ax%3A%24LATEST/invocations", "x"},
	{"arn, unescaped", "GET", "http://localhost:80/2017-03-31/tags/arn:aws:lambda:us-east-1:1:function:x", ""},
	{"slash in a segment", "GET", "http://h/a%2Fb%2fc/d", ""},
	{"spaces and unicode", "GET", "http://h/a%20b/%C3%A4%E2%82%AC", ""},
	{"double slash and dots", "GET", "http://h/a//b/./c/../d", ""},
	{"no path", "GET", "http://h", ""},
	{"query", "GET", "http://h/f?Qualifier=%24LATEST&FunctionVersion=ALL", ""},
	{"query order", "GET", "http://h/f?b=2&a=3&a=1&B=0&a-b=1&a/b=2&a=", ""},
	{"query without value", "GET", "http://h/f?acl&z=", ""},
	{"query with plus, space and unicode", "GET", "http://h/f?q=a+b%20c%2Bd&%C3%A4=%3D%26%2F~*", ""},
	{"tag keys", "DELETE", "http://h/2017-03-31/tags/x?tagKeys=a&tagKeys=B&tagKeys=a%20b", ""},
	{"ipv6 with port", "GET", "http://[::1]:9000/f", ""},
}

func TestVerifyTakesWhatTheSDKSigns(t *testing.T) {
	v := newVerifier()
	for _, tt := range goodRequests {
		t.Run(tt.name, func(t *testing.T) {
			req, body := signed(t, tt.method, tt.url, tt.body, func(s *signing) {
				s.req.Header["X-Odd"] = []string{"  a   b ", "c"}
				s.req.Header.Set("X-Amz-Client-Context", "e30=")
				s.after = func(r *http.Request) { r.Header.Set("X-Amz-User-Agent", "aws-sdk-php") }
				s.req.Header.Set("Content-Type", "application/json;  charset=utf-8")
			})
			id, err := v.Verify(req, body)
			if want := (Identity{lambda.Caller{Account: testKey.Account, Key: testKey.ID}, testRegion, "lambda"}); err != nil || id != want {
				t.Fatalf("Verify = %+v, %v; want %+v", id, err, want)
			}
		})
	}
}

func TestVerifyTakesPresigned(t *testing.T) {
	for _, expires := range []string{"", "900"} {
		req, _ := http.NewRequest("GET", "http://h:1/f?Qualifier=%241&X-Amz-Expires="+expires, nil)
		if expires == "" {
			req.URL.RawQuery = "Qualifier=%241"
		}
		empty := sha256.Sum256(nil)
		uri, header, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey.ID, SecretAccessKey: testKey.Secret},
			req, hex.EncodeToString(empty[:]), "lambda", testRegion, time.Now().Add(-time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		again, _ := http.NewRequest("GET", uri, nil)
		again.Header = header
		got, body := overWire(t, again)
		if id, err := newVerifier().Verify(got, body); err != nil || id.Account != testKey.Account {
			t.Errorf("expires %q: Verify = %+v, %v", expires, id, err)
		}
		if _, err := newVerifier().Verify(got, []byte("other")); lambda.CodeOf(err) != lambda.InvalidSignature {
			t.Errorf("expires %q, other body: %v", expires, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	set := func(name, value string) func(*signing) {
		return func(s *signing) { s.after = func(r *http.Request) { r.Header.Set(name, value) } }
	}
	auth := func(edit func(string) string) func(*signing) {
		return func(s *signing) {
			s.after = func(r *http.Request) { r.Header.Set("Authorization", edit(r.Header.Get("Authorization"))) }
		}
	}
	replace := func(old, new string) func(*signing) {
		return auth(func(s string) string { return strings.Replace(s, old, new, 1) })
	}
	tests := []struct {
		name    string
		change  func(*signing)
		code    lambda.Code
		message string // part of it
	}{
		{"no signature", func(s *signing) { s.after = func(r *http.Request) { r.Header.Del("Authorization") } }, lambda.MissingAuthToken, "Missing Authentication Token"},
		{"other scheme", auth(func(string) string { return "Bearer secret" }), lambda.IncompleteSignature, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. (Hashed with SHA-256"},
		{"no pairs", auth(func(string) string { return "AWS4-HMAC-SHA256 Credential" }), lambda.IncompleteSignature, "key=value"},
		{"no signature part", auth(func(s string) string { return s[:strings.Index(s, ", Signature")] }), lambda.IncompleteSignature, "requires 'Signature' parameter"},
		{"repeated part", auth(func(s string) string { return s + ", Signature=00" }), lambda.IncompleteSignature, "repeated"},
		{"too long", auth(func(s string) string { return s + strings.Repeat(" ", maxAuthorization) + "x" }), lambda.IncompleteSignature, "at most"},
		{"upper-case signature", auth(func(s string) string { return s[:len(s)-64] + strings.Repeat("A", 64) }), lambda.IncompleteSignature, "64 lower-case"},
		{"credential short", replace("/lambda", ""), lambda.IncompleteSignature, "exactly 5 slash-delimited elements"},
		{"terminator", replace("aws4_request", "aws5_request"), lambda.InvalidSignature, "valid terminator"},
		{"unsorted headers", replace("SignedHeaders=", "SignedHeaders=z;"), lambda.IncompleteSignature, "ascending"},
		{"absent header signed", replace("x-amz-date", "x-amz-date;x-none"), lambda.InvalidSignature, "does not match"},
		{"date twice", func(s *signing) {
			s.after = func(r *http.Request) { r.Header.Add("X-Amz-Date", r.Header.Get("X-Amz-Date")) }
		}, lambda.IncompleteSignature, "'X-Amz-Date' or a 'Date' header"},
		{"date garbled", set("X-Amz-Date", "now"), lambda.IncompleteSignature, "ISO-8601"},
		{"other day", set("X-Amz-Date", "20200101T000000Z"), lambda.InvalidSignature, "Date in Credential scope does not match"},
		{"other region", func(s *signing) { s.region = "eu-west-1" }, lambda.InvalidSignature, "valid region, not 'eu-west-1'"},
		{"other service", func(s *signing) { s.service = "s3" }, lambda.InvalidSignature, "correct service: 'lambda'"},
		{"unknown key", func(s *signing) { s.key.ID = "AKIAOTHER" }, lambda.UnrecognizedClient, "The security token included in the request is invalid."},
		{"wrong secret", func(s *signing) { s.key.Secret = "x" }, lambda.InvalidSignature, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"},
		{"header added", set("X-Amz-Tenant-Id", "other"), lambda.InvalidSignature, "'X-Amz-Tenant-Id' must be a 'SignedHeader'"},
		{"header changed", set("Content-Type", "text/plain"), lambda.InvalidSignature, "does not match"},
		{"path changed", func(s *signing) { s.after = func(r *http.Request) { r.URL.Path += "x" } }, lambda.InvalidSignature, "does not match"},
		{"query changed", func(s *signing) { s.after = func(r *http.Request) { r.URL.RawQuery = "Qualifier=2" } }, lambda.InvalidSignature, "does not match"},
		{"query undecodable", func(s *signing) { s.after = func(r *http.Request) { r.URL.RawQuery += "&x=%zz" } }, lambda.InvalidSignature, "does not match"},
		{"method changed", func(s *signing) { s.after = func(r *http.Request) { r.Method = "PUT" } }, lambda.InvalidSignature, "does not match"},
		{"host changed", func(s *signing) { s.after = func(r *http.Request) { r.Host = "other" } }, lambda.InvalidSignature, "does not match"},
		{"unsigned payload", func(s *signing) { s.hash = "UNSIGNED-PAYLOAD"; s.req.Header.Set("X-Amz-Content-Sha256", s.hash) }, lambda.InvalidSignature, "unsigned and streaming"},
		{"hash of another body", func(s *signing) {
			s.hash = strings.Repeat("0", 64)
			s.req.Header.Set("X-Amz-Content-Sha256", s.hash)
		}, lambda.InvalidSignature, "SHA-256 of the body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, body := signed(t, "POST", "http://h:9000/f?Qualifier=1", "body", func(s *signing) {
				s.req.Header.Set("Content-Type", "application/json")
				tt.change(s)
			})
			_, err := newVerifier().Verify(req, body)
			var e *lambda.Error
			if !errors.As(err, &e) || e.Code != tt.code || !strings.Contains(e.Message, tt.message) {
				t.Fatalf("got %v; want %s: …%s…", err, tt.code, tt.message)
			}
			if strings.Contains(e.Message, "secret") {
				t.Errorf("the message repeats the header: %s", e.Message)
			}
		})
	}
	req, _ := signed(t, "POST", "http://h/f", "body", nil)
	if _, err := newVerifier().Verify(req, []byte("other")); !errors.Is(err, errMismatch) {
		t.Errorf("other body: %v", err)
	}
}

func TestClockSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)))
		for _, tt := range []struct {
			offset  time.Duration
			message string
		}{
			{-5 * time.Minute, ""}, {5 * time.Minute, ""},
			{-301 * time.Second, "Signature expired: 20261123T115459Z is now earlier than 20261123T115500Z (20261123T120000Z - 5 min.)"},
			{301 * time.Second, "Signature not yet current: 20261123T120501Z is still later than 20261123T120500Z (20261123T120000Z + 5 min.)"},
		} {
			req, body := signed(t, "GET", "http://h/f", "", func(s *signing) { s.at = time.Now().Add(tt.offset) })
			_, err := newVerifier().Verify(req, body)
			if tt.message == "" && err != nil || tt.message != "" && (err == nil || !strings.HasSuffix(err.Error(), tt.message)) {
				t.Errorf("%v: %v; want %q", tt.offset, err, tt.message)
			}
		}
	})
}

// TestDateHeader: a signer may leave X-Amz-Date out and sign Date.
func TestDateHeader(t *testing.T) {
	now := time.Now().UTC()
	req, _ := http.NewRequest("GET", "http://h/f", nil)
	req.Header.Set("Date", now.Format(http.TimeFormat))
	payload := hexOf(sha256.Sum256(nil))
	sig := signature{keyID: testKey.ID, date: now.Format("20060102"), region: testRegion, service: "lambda", headers: "date;host", stamp: now.Format(isoTime)}
	canonical, _ := appendCanonical(nil, req, &sig, &payload)
	digest := hexOf(sha256.Sum256(canonical))
	scope := strings.Join([]string{sig.date, testRegion, "lambda", terminator}, "/")
	key := derive(testKey.Secret, &sig)
	mac := hexOf(sum(key[:], []byte(algorithm+"\n"+sig.stamp+"\n"+scope+"\n"+string(digest[:]))))
	req.Header.Set("Authorization", algorithm+" Credential="+testKey.ID+"/"+scope+",SignedHeaders=date;host,Signature="+string(mac[:]))
	if _, err := newVerifier().Verify(overWire(t, req)); err != nil {
		t.Fatal(err)
	}
}

func TestKeyCacheFollowsASecretAndStaysBounded(t *testing.T) {
	var c keyCache
	sig := signature{keyID: "a", date: "20260101", region: "r", service: "s"}
	first := c.get(lambda.AccessKey{ID: "a", Secret: "one"}, &sig)
	if second := c.get(lambda.AccessKey{ID: "a", Secret: "two"}, &sig); second == first {
		t.Error("a changed secret kept its old signing key")
	}
	for i := range maxDerivedKeys + 10 {
		sig.keyID = strconv.Itoa(i)
		c.get(lambda.AccessKey{Secret: "s"}, &sig)
	}
	if n := len(c.keys); n == 0 || n > maxDerivedKeys {
		t.Errorf("%d keys are cached, want at most %d", n, maxDerivedKeys)
	}
}

func TestDevAuthenticator(t *testing.T) {
	d := NewDevAuthenticator("eu-north-1")
	for _, tt := range []struct {
		header, query string
		want          Identity
	}{
		{"", "", Identity{lambda.Caller{Account: DevAccount, Key: ""}, "eu-north-1", "lambda"}},
		{"garbage", "", Identity{lambda.Caller{Account: DevAccount, Key: ""}, "eu-north-1", "lambda"}},
		{"AWS4-HMAC-SHA256 Credential=test/20200101/xx/logs/aws4_request, SignedHeaders=h, Signature=0", "", Identity{lambda.Caller{Account: DevAccount, Key: "test"}, "eu-north-1", "logs"}},
		{"AWS4-HMAC-SHA256 Credential=000000000042/20200101/xx/lambda/aws4_request, SignedHeaders=h, Signature=0", "", Identity{lambda.Caller{Account: "000000000042", Key: "000000000042"}, "eu-north-1", "lambda"}},
		{"", "X-Amz-Credential=111122223333%2F20200101%2Fx%2Flambda%2Faws4_request", Identity{lambda.Caller{Account: "111122223333", Key: "111122223333"}, "eu-north-1", "lambda"}},
	} {
		req, _ := http.NewRequest("GET", "http://h/?"+tt.query, nil)
		if tt.header != "" {
			req.Header.Set("Authorization", tt.header)
		}
		if id, err := d.Verify(req, nil); err != nil || id != tt.want {
			t.Errorf("%q %q: %+v, %v; want %+v", tt.header, tt.query, id, err, tt.want)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	v := newVerifier()
	req, body := signed(b, "POST", "http://127.0.0.1:9000/2015-03-31/functions/hello/invocations?Qualifier=%24LATEST", `{"name":"world"}`, func(s *signing) {
		s.req.Header.Set("Amz-Sdk-Invocation-Id", "5f2a1c3e-0000-4000-8000-000000000000")
		s.req.Header.Set("Amz-Sdk-Request", "attempt=1; max=3")
		s.req.Header.Set("X-Amz-Invocation-Type", "RequestResponse")
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(req, body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSDKSigner is what recomputing with the SDK's signer itself would cost.
func BenchmarkSDKSigner(b *testing.B) {
	req, _ := signed(b, "POST", "http://127.0.0.1:9000/2015-03-31/functions/hello/invocations?Qualifier=%24LATEST", `{"name":"world"}`, nil)
	s := v4.NewSigner()
	creds := aws.Credentials{AccessKeyID: testKey.ID, SecretAccessKey: testKey.Secret}
	hash := strings.Repeat("0", 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.SignHTTP(b.Context(), creds, req, hash, "lambda", testRegion, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

// TestVerifyGarbage holds the warm path to its budget. The race detector makes pools forget, which costs two more.
func TestVerifyGarbage(t *testing.T) {
	v := newVerifier()
	for url, budget := range map[string]float64{
		"http://127.0.0.1:9000/2015-03-31/functions/hello/invocations":                     2,
		"http://127.0.0.1:9000/2015-03-31/functions/hello/invocations?Qualifier=%24LATEST": 7,
	} {
		req, body := signed(t, "POST", url, `{"name":"world"}`, nil)
		if got := testing.AllocsPerRun(100, func() {
			if _, err := v.Verify(req, body); err != nil {
				t.Fatal(err)
			}
		}); got > budget {
			t.Errorf("%s: %.0f allocations, budget %.0f", url, got, budget)
		}
	}
}
