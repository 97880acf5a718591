package functionurl

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

const testID = "abcdefghijklmnopqrstuvwxyz234567"

func request(method, target, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.7:5555"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// eventOf returns the event as the official Go library reads it.
func eventOf(t *testing.T, c *Call) (e events.LambdaFunctionURLRequest, raw map[string]any) {
	t.Helper()
	text := c.Event()
	for _, into := range []any{&e, &raw} {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	return e, raw
}

func TestEvent(t *testing.T) {
	r := request("POST", "http://"+testID+".lambda-url.us-east-1.localhost:9000/my/p%C3%A4th?parameter1=value1&parameter1=value2&p2=a%20b+c&bad=%zz&=x&flag", "hello <you>",
		"Header1", "value1", "Header2", "a", "Header2", "b", "Cookie", "c1=1; c2=2", "Cookie", "c3=3;", "Content-Type", "text/plain; charset=utf-8", "User-Agent", "agent/1",
		"Connection", "close, X-Hop", "X-Hop", "1", "X-Forwarded-For", "6.6.6.6", "X-Forwarded-Proto", "https", "Forwarded", "for=6.6.6.6", "X-Amzn-Tls-Version", "TLSv9",
		"X-Amzn-Requestid", "mine", "Te", "trailers", "Authorization", "Bearer token")
	id, path, ok := Route(r)
	if !ok {
		t.Fatal("no URL")
	}
	e, raw := eventOf(t, &Call{Request: r, Body: []byte("hello <you>"), ID: id, Path: path, Account: "000000000001", RequestID: "req", TraceID: "Root=1", Time: time.UnixMilli(1583348638390)})
	want := events.LambdaFunctionURLRequest{
		Version: "2.0", RawPath: "/my/p%C3%A4th", RawQueryString: r.URL.RawQuery, Cookies: []string{"c1=1", "c2=2", "c3=3"},
		Headers: map[string]string{"header1": "value1", "header2": "a,b", "content-type": "text/plain; charset=utf-8", "content-length": "11", "user-agent": "agent/1",
			"host": testID + ".lambda-url.us-east-1.localhost:9000", "authorization": "Bearer token",
			"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "http", "x-amzn-trace-id": "Root=1"},
		QueryStringParameters: map[string]string{"parameter1": "value1,value2", "p2": "a b c", "bad": "%zz", "": "x", "flag": ""},
		RequestContext: events.LambdaFunctionURLRequestContext{
			AccountID: "anonymous", RequestID: "req", APIID: testID, DomainName: testID + ".lambda-url.us-east-1.localhost", DomainPrefix: testID,
			Time: "04/Mar/2020:19:03:58 +0000", TimeEpoch: 1583348638390,
			HTTP: events.LambdaFunctionURLRequestContextHTTPDescription{Method: "POST", Path: "/my/päth", Protocol: "HTTP/1.1", SourceIP: "192.0.2.7", UserAgent: "agent/1"},
		},
		Body: "hello <you>",
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got  %+v\nwant %+v", e, want)
	}
	if raw["routeKey"] != "$default" || raw["requestContext"].(map[string]any)["stage"] != "$default" || raw["requestContext"].(map[string]any)["routeKey"] != "$default" {
		t.Errorf("%v", raw)
	}
}

// What is not there is absent, not empty.
func TestSmallEvent(t *testing.T) {
	r := request("GET", "http://x/lambda-url/"+testID, "")
	id, path, ok := Route(r)
	if !ok || id != testID || path != "/" {
		t.Fatal(id, path, ok)
	}
	_, raw := eventOf(t, &Call{Request: r, ID: id, Path: path, Time: time.Now()})
	for _, name := range []string{"body", "cookies", "queryStringParameters"} {
		if v, there := raw[name]; there {
			t.Errorf("%s is %v", name, v)
		}
	}
	if raw["rawQueryString"] != "" || raw["isBase64Encoded"] != false {
		t.Errorf("%v", raw)
	}
}

func TestSignedEvent(t *testing.T) {
	r := request("GET", "http://x/", "", "Authorization", "AWS4-HMAC-SHA256 secret", "X-Amz-Date", "20260101T000000Z")
	e, raw := eventOf(t, &Call{Request: r, ID: testID, Path: "/", Account: "000000000001", Caller: &Caller{AccessKey: "AKIA", Account: "000000000002", ARN: "arn:aws:iam::000000000002:root"}})
	iam := e.RequestContext.Authorizer.IAM
	if e.RequestContext.AccountID != "000000000001" || iam.AccessKey != "AKIA" || iam.AccountID != "000000000002" || iam.UserARN != "arn:aws:iam::000000000002:root" {
		t.Errorf("%+v", e.RequestContext)
	}
	if _, there := raw["headers"].(map[string]any)["authorization"]; there {
		t.Error("the function sees the signature")
	}
}

func TestBodies(t *testing.T) {
	for _, c := range []struct {
		contentType, body string
		base64            bool
	}{
		{"text/plain", "text", false}, {"application/json", "{}", false}, {"application/json; charset=utf-8", `"ü"`, false}, {"TEXT/HTML", "x", false},
		{"application/problem+json", "{}", false}, {"image/svg+xml", "<svg/>", false}, {"application/javascript", "1", false},
		{"", "text", true}, {"application/x-www-form-urlencoded", "a=b", true}, {"image/png", "\x89PNG", true}, {"text/plain", "\xff\xfe", true},
		{"multipart/form-data; boundary=x", "--x", true}, {"application/octet-stream", "abc", true},
	} {
		e, _ := eventOf(t, &Call{Request: request("POST", "http://x/", "", "Content-Type", c.contentType), Body: []byte(c.body), ID: testID, Path: "/"})
		if e.IsBase64Encoded != c.base64 || !c.base64 && e.Body != c.body {
			t.Errorf("%q %q: %t %q", c.contentType, c.body, e.IsBase64Encoded, e.Body)
		}
	}
}

func TestRoute(t *testing.T) {
	for target, want := range map[string]string{
		"http://" + testID + ".lambda-url.us-east-1.localhost/a/b?c":                 "/a/b",
		"http://" + strings.ToUpper(testID) + ".LAMBDA-URL.us-east-1.example.com:1/": "/",
		"http://" + testID + ".lambda-url.us-east-1.localhost/lambda-url/" + testID:  "/lambda-url/" + testID,
		"http://" + testID + ".lambda-url.us-east-1.localhost/2015-03-31/functions/": "/2015-03-31/functions/",
		"http://localhost:9000/lambda-url/" + testID + "/x%2Fy/":                     "/x%2Fy/",
		"http://localhost:9000/lambda-url/" + testID:                                 "/",
		"http://localhost:9000/lambda-url/" + testID + "x":                           "",
		"http://localhost:9000/lambda-url/" + testID[1:]:                             "",
		"http://localhost:9000/lambda-url/" + strings.ToUpper(testID) + "/":          "",
		"http://localhost:9000/lambda-url/":                                          "",
		"http://localhost:9000/lambda%2Durl/" + testID + "/":                         "",
		"http://localhost:9000/2015-03-31/functions/f/invocations":                   "",
		"http://" + testID[1:] + ".lambda-url.us-east-1.localhost/":                  "",
		"http://" + strings.Repeat("_", 32) + ".lambda-url.us-east-1.localhost/":     "",
		"http://" + testID + ".lambda-url./":                                         "",
	} {
		id, path, ok := Route(request("GET", target, ""))
		if ok != (want != "") || ok && (id != testID || path != want) {
			t.Errorf("%s: %q %q %t", target, id, path, ok)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add("/a%20b", "x=1&x=2;3", "a=b; c", "Connection", "x-y", []byte("body"), "text/plain")
	f.Fuzz(func(t *testing.T, path, rawQuery, cookie, name, value string, body []byte, contentType string) {
		r := request("POST", "http://x/", "")
		r.URL.RawQuery = rawQuery
		r.Header.Set("Cookie", cookie)
		r.Header.Set("Content-Type", contentType)
		r.Header.Add(name, value)
		text := (&Call{Request: r, Body: body, ID: testID, Path: path, TraceID: "t"}).Event()
		var e events.LambdaFunctionURLRequest
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if e.Headers["x-forwarded-for"] != "192.0.2.7" || e.RequestContext.HTTP.SourceIP != "192.0.2.7" {
			t.Errorf("a client told the function where it comes from: %s", text)
		}
	})
}
