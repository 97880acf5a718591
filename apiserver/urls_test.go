package apiserver_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/lambda"
)

// signedOpen sends a request that the fixture's key signed, and leaves the body to the caller. host "" is the target's.
func (f *fixture) signedOpen(t *testing.T, method, target, host, body string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	sum := sha256.Sum256([]byte(body))
	key := aws.Credentials{AccessKeyID: f.key.ID, SecretAccessKey: f.key.Secret}
	if err := v4.NewSigner().SignHTTP(context.Background(), key, r, hex.EncodeToString(sum[:]), "lambda", region, time.Now()); err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// signed is signedOpen for answers that are read at once; the body can be read again.
func (f *fixture) signed(t *testing.T, method, target, host, body string, headers ...string) *http.Response {
	t.Helper()
	return whole(t, f.signedOpen(t, method, target, host, body, headers...))
}

func whole(t *testing.T, res *http.Response) *http.Response {
	t.Helper()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	res.Body = io.NopCloser(strings.NewReader(string(text)))
	return res
}

func text(res *http.Response) string {
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// withURL gives function f a URL that anyone may call, and returns its host.
func (f *fixture) withURL(t *testing.T, in sdk.CreateFunctionUrlConfigInput) (host string) {
	t.Helper()
	in.FunctionName = aws.String("f")
	if in.AuthType == "" {
		in.AuthType = types.FunctionUrlAuthTypeNone
		f.permitURL(t, in.Qualifier)
	}
	out, err := f.client.CreateFunctionUrlConfig(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(aws.ToString(out.FunctionUrl))
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func (f *fixture) permitURL(t *testing.T, qualifier *string) {
	t.Helper()
	_, err := f.client.AddPermission(t.Context(), &sdk.AddPermissionInput{FunctionName: aws.String("f"), Qualifier: qualifier, StatementId: aws.String("url"),
		Action: aws.String("lambda:InvokeFunctionUrl"), Principal: aws.String("*"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone})
	if err != nil {
		t.Fatal(err)
	}
}

// get calls a URL without a signature.
func (f *fixture) get(t *testing.T, method, host, path, body string, headers ...string) *http.Response {
	t.Helper()
	res, err := http.DefaultClient.Do(f.request(t, method, host, path, body, headers...))
	if err != nil {
		t.Fatal(err)
	}
	return whole(t, res)
}

func (f *fixture) request(t *testing.T, method, host, path, body string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestURLConfigs(t *testing.T) {
	f, ctx, name := start(t), t.Context(), aws.String("f")
	f.create(t, "f")
	if _, err := f.client.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: name, Name: aws.String("live"), FunctionVersion: aws.String("$LATEST")}); err != nil {
		t.Fatal(err)
	}
	cors := &types.Cors{AllowOrigins: []string{"https://a.example"}, AllowMethods: []string{"GET"}, MaxAge: aws.Int32(5), AllowCredentials: aws.Bool(false)}
	made, err := f.client.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{FunctionName: name, AuthType: "NONE", Cors: cors})
	if err != nil || made.Cors == nil || aws.ToInt32(made.Cors.MaxAge) != 5 || made.Cors.AllowCredentials == nil || made.Cors.ExposeHeaders != nil {
		t.Fatalf("%+v %v", made, err)
	}
	u, err := url.Parse(aws.ToString(made.FunctionUrl))
	if _, port, _ := strings.Cut(f.URL[7:], ":"); err != nil || u.Scheme != "http" || u.Path != "/" || u.Port() != port || !strings.HasSuffix(u.Hostname(), ".lambda-url.us-east-1.localhost") ||
		len(strings.Split(u.Host, ".")[0]) != 32 {
		t.Fatalf("%s %v", u, err)
	}
	if _, err := f.client.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{FunctionName: name, AuthType: "AWS_IAM", Qualifier: aws.String("live"), InvokeMode: "RESPONSE_STREAM"}); err != nil {
		t.Fatal(err)
	}
	updated, err := f.client.UpdateFunctionUrlConfig(ctx, &sdk.UpdateFunctionUrlConfigInput{FunctionName: name, InvokeMode: "RESPONSE_STREAM"})
	if err != nil || updated.AuthType != "NONE" || updated.InvokeMode != "RESPONSE_STREAM" || updated.Cors == nil || aws.ToString(updated.FunctionUrl) != u.String() {
		t.Fatalf("%+v %v", updated, err)
	}
	updated, err = f.client.UpdateFunctionUrlConfig(ctx, &sdk.UpdateFunctionUrlConfigInput{FunctionName: name, Cors: &types.Cors{}})
	if err != nil || updated.Cors == nil || updated.Cors.MaxAge != nil || updated.InvokeMode != "RESPONSE_STREAM" {
		t.Fatalf("%+v %v", updated, err)
	}
	var arns []string
	pages := sdk.NewListFunctionUrlConfigsPaginator(f.client, &sdk.ListFunctionUrlConfigsInput{FunctionName: name, MaxItems: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.FunctionUrlConfigs {
			arns = append(arns, aws.ToString(c.FunctionArn))
		}
	}
	if len(arns) != 2 || arns[0] != prefix+"f" || arns[1] != prefix+"f:live" {
		t.Errorf("%v", arns)
	}
	_, err = f.client.ListFunctionUrlConfigs(ctx, &sdk.ListFunctionUrlConfigsInput{FunctionName: aws.String("g")})
	wantCode(t, err, lambda.ResourceNotFound, "Function does not exist")
}

// A URL ends with what it belongs to, and its id is never another's.
func TestURLsEnd(t *testing.T) {
	f, ctx, name := start(t), t.Context(), aws.String("f")
	f.create(t, "f")
	alias := aws.String("live")
	newAlias := func() {
		if _, err := f.client.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: name, Name: alias, FunctionVersion: aws.String("$LATEST")}); err != nil {
			t.Fatal(err)
		}
	}
	status := func(host string) int { return f.get(t, "GET", host, "/", "").StatusCode }
	newAlias()
	first := f.withURL(t, sdk.CreateFunctionUrlConfigInput{Qualifier: alias})
	if got := status(first); got != 200 {
		t.Fatalf("a new URL answers %d", got)
	}
	if _, err := f.client.DeleteAlias(ctx, &sdk.DeleteAliasInput{FunctionName: name, Name: alias}); err != nil {
		t.Fatal(err)
	}
	newAlias()
	_, err := f.client.GetFunctionUrlConfig(ctx, &sdk.GetFunctionUrlConfigInput{FunctionName: name, Qualifier: alias})
	wantCode(t, err, lambda.ResourceNotFound, "The resource you requested does not exist.")
	second := f.withURL(t, sdk.CreateFunctionUrlConfigInput{Qualifier: alias})
	if second == first || status(first) != 403 || status(second) != 200 {
		t.Fatalf("%s %s", first, second)
	}
	if _, err := f.client.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: name}); err != nil {
		t.Fatal(err)
	}
	f.create(t, "f")
	if got := status(second); got != 403 {
		t.Errorf("the URL of a deleted function answers %d", got)
	}
	third := f.withURL(t, sdk.CreateFunctionUrlConfigInput{})
	if _, err := f.client.DeleteFunctionUrlConfig(ctx, &sdk.DeleteFunctionUrlConfigInput{FunctionName: name}); err != nil {
		t.Fatal(err)
	}
	if res := f.get(t, "GET", third, "/", ""); res.StatusCode != 403 || text(res) != `{"Message":null}` || res.Header.Get("x-amzn-ErrorType") != "AccessDeniedException" || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("a deleted URL: %s %v", res.Status, res.Header)
	}
}

func TestURLCalls(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	host := f.withURL(t, sdk.CreateFunctionUrlConfigInput{})
	id := host[:32]
	var event map[string]any
	f.runs(func(in *lambda.Invocation) (*lambda.Outcome, error) {
		if err := json.Unmarshal(in.Payload, &event); err != nil || in.RequestID == "" || in.Stream != nil {
			t.Errorf("%v %s", err, in.Payload)
		}
		return &lambda.Outcome{Version: lambda.Latest, Payload: []byte(`{"statusCode":201,"headers":{"X-Own":"1"},"cookies":["a=b"],"body":"made"}`)}, nil
	})
	for _, c := range []struct{ host, path, want string }{{host, "/a%2Fb/?q=1", "/a%2Fb/"}, {"", "/lambda-url/" + id + "/a%2Fb/?q=1", "/a%2Fb/"}, {host, "/2015-03-31/functions/", "/2015-03-31/functions/"}} {
		res := f.get(t, "PATCH", c.host, c.path, "text", "Content-Type", "text/plain", "X-Amz-Target", "Logs_20140328.FilterLogEvents", "X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793")
		if res.StatusCode != 201 || res.Header.Get("X-Own") != "1" || res.Header.Get("Set-Cookie") != "a=b" || text(res) != "made" {
			t.Errorf("%s: %s %v", c.path, res.Status, res.Header)
		}
		rc := event["requestContext"].(map[string]any)
		if event["rawPath"] != c.want || event["body"] != "text" || rc["requestId"] != res.Header.Get("x-amzn-RequestId") || rc["apiId"] != id ||
			res.Header.Get("x-amzn-trace-id") != "Root=1-5759e988-bd862e3fe1be46a994272793" || rc["http"].(map[string]any)["method"] != "PATCH" {
			t.Errorf("%s: %v", c.path, event)
		}
	}
	if res := f.get(t, "HEAD", host, "/", ""); res.StatusCode != 201 || res.ContentLength != 4 {
		t.Errorf("HEAD: %s, %d", res.Status, res.ContentLength)
	}
	outcome := func(payload, functionError string, err error) *http.Response {
		f.runs(func(*lambda.Invocation) (*lambda.Outcome, error) {
			return &lambda.Outcome{Version: lambda.Latest, Payload: []byte(payload), FunctionError: functionError}, err
		})
		return f.get(t, "GET", host, "/", "")
	}
	for _, res := range []*http.Response{outcome(`{"errorMessage":"secret"}`, "Unhandled", nil), outcome(`{"statusCode":1}`, "", nil)} {
		if body := text(res); res.StatusCode != 502 || body != "Internal Server Error" {
			t.Errorf("a function that failed: %s %s", res.Status, body)
		}
	}
	if res := outcome(`{"statusCode":204,"body":"none"}`, "", nil); res.StatusCode != 204 || text(res) != "" {
		t.Errorf("204: %s", res.Status)
	}
	if res := outcome("", "", &lambda.Error{Code: lambda.TooManyRequests, Message: "Rate Exceeded.", Reason: lambda.ReasonReservedConcurrency}); res.StatusCode != 429 {
		t.Errorf("throttled: %s", res.Status)
	}
	f.runs(func(*lambda.Invocation) (*lambda.Outcome, error) { return &lambda.Outcome{Payload: []byte("1")}, nil })
	for size, want := range map[int]int{lambda.MaxPayload + 1: 413, lambda.MaxPayload / 4 * 3: 413, lambda.MaxPayload / 5 * 3: 200} { // what is no text counts 4/3
		if res := f.get(t, "POST", host, "/", strings.Repeat("x", size), "Content-Type", "image/png"); res.StatusCode != want {
			t.Errorf("a body of %d bytes: %s %s", size, res.Status, text(res))
		}
	}
}

func TestURLAuthorization(t *testing.T) {
	f, ctx := start(t), t.Context()
	f.create(t, "f")
	host := f.withURL(t, sdk.CreateFunctionUrlConfigInput{AuthType: "NONE"})
	forbidden := func(what string, res *http.Response) {
		t.Helper()
		if body := text(res); res.StatusCode != 403 || body != `{"Message":"Forbidden"}` || res.Header.Get("x-amzn-ErrorType") != "AccessDeniedException" {
			t.Errorf("%s: %s %s %v", what, res.Status, body, res.Header)
		}
	}
	add := func(sid string, in sdk.AddPermissionInput) {
		in.FunctionName, in.StatementId = aws.String("f"), aws.String(sid)
		if in.Action == nil {
			in.Action = aws.String("lambda:InvokeFunctionUrl")
		}
		if _, err := f.client.AddPermission(ctx, &in); err != nil {
			t.Fatal(err)
		}
	}
	add("other-action", sdk.AddPermissionInput{Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("*")})
	add("other-auth", sdk.AddPermissionInput{Principal: aws.String("*"), FunctionUrlAuthType: "AWS_IAM"})
	add("other-principal", sdk.AddPermissionInput{Principal: aws.String("000000000001"), FunctionUrlAuthType: "NONE"})
	add("other-source", sdk.AddPermissionInput{Principal: aws.String("*"), FunctionUrlAuthType: "NONE", SourceAccount: aws.String("000000000001")})
	forbidden("no permission", f.get(t, "GET", host, "/", ""))
	f.permitURL(t, nil)
	if res := f.get(t, "GET", host, "/", ""); res.StatusCode != 200 {
		t.Errorf("permitted: %s", res.Status)
	}
	if _, err := f.client.UpdateFunctionUrlConfig(ctx, &sdk.UpdateFunctionUrlConfigInput{FunctionName: aws.String("f"), AuthType: "AWS_IAM"}); err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	f.runs(func(in *lambda.Invocation) (*lambda.Outcome, error) {
		return &lambda.Outcome{Payload: []byte("1")}, json.Unmarshal(in.Payload, &event)
	})
	forbidden("unsigned", f.get(t, "GET", host, "/", ""))
	if res := f.signed(t, "POST", f.URL+"/x%20y?a=b", host, "body"); res.StatusCode != 200 {
		t.Errorf("signed: %s %s", res.Status, text(res))
	}
	iam := event["requestContext"].(map[string]any)["authorizer"].(map[string]any)["iam"].(map[string]any)
	if iam["accessKey"] != f.key.ID || iam["accountId"] != "000000000001" || iam["userArn"] != "arn:aws:iam::000000000001:root" {
		t.Errorf("%v", iam)
	}
	if res := f.signed(t, "GET", f.URL+"/lambda-url/"+host[:32]+"/", "", ""); res.StatusCode != 200 {
		t.Errorf("signed, by path: %s %s", res.Status, text(res))
	}
	r := f.request(t, "POST", host, "/", "other", "Authorization", "AWS4-HMAC-SHA256 Credential="+f.key.ID+"/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature="+strings.Repeat("0", 64), "X-Amz-Date", "20260101T000000Z")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if res = whole(t, res); res.StatusCode != 403 || res.Header.Get("x-amzn-ErrorType") != "InvalidSignatureException" {
		t.Errorf("a wrong signature: %s %v", res.Status, res.Header)
	}
}

func TestURLCORS(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	host := f.withURL(t, sdk.CreateFunctionUrlConfigInput{Cors: &types.Cors{AllowOrigins: []string{"https://a.example"}, AllowMethods: []string{"PUT"}, ExposeHeaders: []string{"x-own"}}})
	calls := 0
	f.runs(func(*lambda.Invocation) (*lambda.Outcome, error) {
		calls++
		return &lambda.Outcome{Payload: []byte(`{"statusCode":200,"headers":{"access-control-allow-origin":"*","vary":"x-own"}}`)}, nil
	})
	res := f.get(t, "OPTIONS", host, "/", "", "Origin", "https://a.example", "Access-Control-Request-Method", "PUT")
	if res.StatusCode != 200 || res.Header.Get("Access-Control-Allow-Methods") != "PUT" || res.Header.Get("Access-Control-Allow-Origin") != "https://a.example" || calls != 0 {
		t.Errorf("preflight: %s %v, %d calls", res.Status, res.Header, calls)
	}
	res = f.get(t, "GET", host, "/", "", "Origin", "https://a.example")
	if got := res.Header["Access-Control-Allow-Origin"]; len(got) != 1 || got[0] != "https://a.example" || res.Header.Get("Access-Control-Expose-Headers") != "x-own" || len(res.Header["Vary"]) != 2 {
		t.Errorf("%v", res.Header)
	}
	if res = f.get(t, "OPTIONS", host, "/", ""); res.StatusCode != 200 || calls != 2 {
		t.Errorf("an OPTIONS request that is no preflight is the function's: %s, %d calls", res.Status, calls)
	}
}

func TestURLStreams(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	host := f.withURL(t, sdk.CreateFunctionUrlConfigInput{InvokeMode: "RESPONSE_STREAM"})
	const integration = "application/vnd.awslambda.http-integration-response"
	end := strings.Repeat("\x00", 8)
	for name, c := range map[string]struct {
		contentType string
		parts       []string
		outcome     lambda.Outcome
		status      int
		header      string // Content-Type
		body        string // "!" before: and then the connection breaks
	}{
		"plain":            {"text/event-stream", []string{"a", "b"}, lambda.Outcome{Streamed: true}, 200, "text/event-stream", "ab"},
		"prelude":          {integration, []string{`{"statusCode":418,`, `"headers":{"content-type":"text/css"}}` + end + "c", "d"}, lambda.Outcome{Streamed: true}, 418, "text/css", "cd"},
		"no body":          {integration, []string{`{"statusCode":302,"headers":{"location":"/x"}}` + end}, lambda.Outcome{Streamed: true}, 302, "application/octet-stream", ""},
		"half a prelude":   {integration, []string{`{"statusCode":200}`}, lambda.Outcome{Streamed: true}, 502, "application/json", "Internal Server Error"},
		"a wrong prelude":  {integration, []string{"x" + end}, lambda.Outcome{Streamed: true}, 502, "application/json", "Internal Server Error"},
		"not streamed":     {"", nil, lambda.Outcome{Payload: []byte(`{"statusCode":201,"body":"x"}`)}, 200, "application/json", `{"statusCode":201,"body":"x"}`},
		"fails at once":    {"", nil, lambda.Outcome{FunctionError: "Unhandled", Payload: []byte("{}")}, 502, "application/json", "Internal Server Error"},
		"fails in prelude": {integration, []string{"{"}, lambda.Outcome{Streamed: true, FunctionError: "Unhandled"}, 502, "application/json", "Internal Server Error"},
		"fails later":      {"text/html", []string{"part"}, lambda.Outcome{Streamed: true, FunctionError: "Unhandled"}, 200, "text/html", "!part"},
	} {
		f.runs(func(in *lambda.Invocation) (*lambda.Outcome, error) {
			if c.outcome.Streamed {
				_ = in.Stream.Begin(c.contentType)
				for _, p := range c.parts {
					if _, err := in.Stream.Write([]byte(p)); err != nil {
						break
					}
				}
			}
			return &c.outcome, nil
		})
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := client.Do(f.request(t, "GET", host, "/", ""))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		want, breaks := strings.CutPrefix(c.body, "!")
		if res.StatusCode != c.status || res.Header.Get("Content-Type") != c.header || string(got) != want || (err != nil) != breaks {
			t.Errorf("%s: %s %s %q %v", name, res.Status, res.Header.Get("Content-Type"), got, err)
		}
	}
}
