package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"berth/lambda"
)

// FuzzSigV4 holds our canonicalisation to the SDK's: whatever the SDK signs verifies after a trip over the wire, and does
// not verify once any part of it is changed.
func FuzzSigV4(f *testing.F) {
	for _, r := range goodRequests {
		u, err := url.Parse(r.url)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.method, u.Path, u.RawQuery, "  a   b ", []byte(r.body))
		f.Add(r.method, u.EscapedPath(), "q="+u.Path, "\ta \t b", []byte(r.body))
	}
	f.Add("POST", "/\x00%2F%\xff//", "a=%&b;c=1&=", "é  x", []byte{0})
	f.Fuzz(func(t *testing.T, method, path, query, header string, body []byte) {
		if method == "CONNECT" || strings.ContainsFunc(header, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			t.Skip() // not a request that net/http sends
		}
		req, err := http.NewRequest(method, "http://127.0.0.1:9000/", strings.NewReader(string(body)))
		if err != nil {
			t.Skip()
		}
		req.URL.Path, req.URL.RawQuery = "/"+strings.TrimPrefix(path, "/"), query
		req.Header.Set("X-Odd", header)
		req.Header.Add("X-Odd", "second")
		sum := sha256.Sum256(body)
		s := signing{req: req, key: testKey, service: "lambda", region: testRegion, hash: hex.EncodeToString(sum[:]), at: time.Now()}
		s.sign(t)
		got, gotBody := overWire(t, req)
		v := newVerifier()
		if _, err := v.Verify(got, gotBody); err != nil {
			t.Fatalf("%s %q %q: %v", method, got.RequestURI, header, err)
		}
		for name, tampered := range map[string]func(r *http.Request){
			"path":   func(r *http.Request) { r.RequestURI = "/x" + r.RequestURI },
			"query":  func(r *http.Request) { r.RequestURI += "?&extra" },
			"method": func(r *http.Request) { r.Method += "X" },
			"header": func(r *http.Request) { r.Header.Add("X-Odd", "third") },
		} {
			r := got.Clone(t.Context())
			tampered(r)
			if _, err := v.Verify(r, gotBody); !errors.Is(err, errMismatch) {
				t.Fatalf("tampered %s verifies: %v", name, err)
			}
		}
		if _, err := v.Verify(got, append(gotBody, 'x')); !errors.Is(err, errMismatch) {
			t.Fatalf("tampered body verifies: %v", err)
		}
	})
}

// FuzzAuthorization: hostile signatures neither panic nor verify, and fail with one of our codes.
func FuzzAuthorization(f *testing.F) {
	day := time.Now().UTC().Format("20060102")
	zero := strings.Repeat("0", 64)
	f.Add("AWS4-HMAC-SHA256 Credential="+testKey.ID+"/"+day+"/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature="+zero, "", time.Now().UTC().Format(isoTime))
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=;;,Signature=", "X-Amz-Signature=", "Mon, 02 Jan 2006 15:04:05 GMT")
	f.Add("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="+testKey.ID+"%2F"+day+"%2Fus-east-1%2Flambda%2Faws4_request&X-Amz-Date="+day+"T000000Z&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature="+zero, "")
	f.Add("AWS4-HMAC-SHA256 =,=,=,", "X-Amz-Signature=&X-Amz-Expires=-1", "99999999T999999Z")
	v, dev := newVerifier(), NewDevAuthenticator(testRegion)
	f.Fuzz(func(t *testing.T, authorization, query, date string) {
		r := &http.Request{Method: "GET", Host: "h", URL: &url.URL{Path: "/f", RawQuery: query}, Header: http.Header{}}
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		r.Header.Set("X-Amz-Date", date)
		_, err := v.Verify(r, nil)
		switch lambda.CodeOf(err) {
		case lambda.MissingAuthToken, lambda.IncompleteSignature, lambda.InvalidSignature, lambda.UnrecognizedClient:
		default:
			t.Fatalf("Verify: %v", err)
		}
		if id, err := dev.Verify(r, nil); err != nil || !isAccount(string(id.Account)) {
			t.Fatalf("dev: %+v, %v", id, err)
		}
	})
}
