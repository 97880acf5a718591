package apiserver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/apimodel"
	"berth/apiserver"
	"berth/catalog"
	"berth/code"
	"berth/lambda"
	"berth/store/memory"
)

func TestInvokeKinds(t *testing.T) {
	f, ctx := start(t), t.Context()
	f.create(t, "f")
	out, err := f.client.Invoke(ctx, &sdk.InvokeInput{FunctionName: aws.String("f")})
	if err != nil || out.StatusCode != 200 || string(out.Payload) != "{}" || out.FunctionError != nil || out.LogResult != nil {
		t.Fatalf("empty payload: %+v, %v", out, err)
	}
	out, err = f.client.Invoke(ctx, &sdk.InvokeInput{FunctionName: aws.String("f"), InvocationType: types.InvocationTypeDryRun})
	if err != nil || out.StatusCode != 204 || len(out.Payload) != 0 || out.ExecutedVersion != nil {
		t.Fatalf("DryRun: %+v, %v", out, err)
	}
	ran := make(chan *lambda.Invocation, 1)
	f.set(func(s *stub) {
		s.invoke = func(_ context.Context, _ lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error) {
			ran <- in
			return &lambda.Outcome{Payload: []byte("null"), Version: "3", FunctionError: "Unhandled"}, nil
		}
	})
	out, err = f.client.Invoke(ctx, &sdk.InvokeInput{FunctionName: aws.String("f"), InvocationType: types.InvocationTypeEvent, Payload: []byte("[1]")})
	if err != nil || out.StatusCode != 202 || len(out.Payload) != 0 {
		t.Fatalf("Event: %+v, %v", out, err)
	}
	if in := <-ran; string(in.Payload) != "[1]" || in.RequestID == "" || !strings.HasPrefix(in.TraceID, "Root=1-") {
		t.Fatalf("Event ran with %+v", in)
	}
	client := base64.StdEncoding.EncodeToString([]byte(`{"client":{}}`))
	out, err = f.client.Invoke(ctx, &sdk.InvokeInput{FunctionName: aws.String("f"), ClientContext: &client})
	if err != nil || aws.ToString(out.FunctionError) != "Unhandled" || aws.ToString(out.ExecutedVersion) != "3" {
		t.Fatalf("%+v, %v", out, err)
	}
	if in := <-ran; in.ClientContext != `{"client":{}}` {
		t.Fatalf("client context %q", in.ClientContext)
	}
}

func TestInvokeRefusals(t *testing.T) {
	f, ctx := start(t), t.Context()
	f.create(t, "f")
	invoke := func(in sdk.InvokeInput) error {
		if in.FunctionName == nil {
			in.FunctionName = aws.String("f")
		}
		_, err := f.client.Invoke(ctx, &in)
		return err
	}
	wantCode(t, invoke(sdk.InvokeInput{FunctionName: aws.String("g")}), lambda.ResourceNotFound, "Function not found: "+prefix+"g:$LATEST")
	wantCode(t, invoke(sdk.InvokeInput{FunctionName: aws.String("g"), InvocationType: types.InvocationTypeEvent}), lambda.ResourceNotFound, "g:$LATEST")
	wantCode(t, invoke(sdk.InvokeInput{Qualifier: aws.String("nope")}), lambda.ResourceNotFound, "Function not found: "+prefix+"f:nope")
	wantCode(t, invoke(sdk.InvokeInput{FunctionName: aws.String("*")}), lambda.Validation, "Value '*' at 'functionName' failed to satisfy constraint")
	wantCode(t, invoke(sdk.InvokeInput{InvocationType: "Sometimes"}), lambda.Validation, "Member must satisfy enum value set: [Event, RequestResponse, DryRun]")
	wantCode(t, invoke(sdk.InvokeInput{LogType: "Head"}), lambda.Validation, "[None, Tail]")
	wantCode(t, invoke(sdk.InvokeInput{ClientContext: aws.String("%%%")}), lambda.InvalidRequestContent, "valid Base64-encoded JSON object")
	wantCode(t, invoke(sdk.InvokeInput{ClientContext: aws.String(strings.Repeat("A", 3584))}), lambda.InvalidRequestContent, "3583")
	wantCode(t, invoke(sdk.InvokeInput{TenantId: aws.String("t"), InvocationType: types.InvocationTypeDryRun}), lambda.InvalidParameterValue, "not enabled with tenancy")
	wantCode(t, invoke(sdk.InvokeInput{TenantId: aws.String("a*b")}), lambda.Validation, "Value 'a*b' at 'tenantId' failed to satisfy constraint")
	wantCode(t, invoke(sdk.InvokeInput{TenantId: aws.String(strings.Repeat("x", 257))}), lambda.Validation, "Member must have length less than or equal to 256")
	wantCode(t, invoke(sdk.InvokeInput{Payload: bytes.Repeat([]byte("1"), lambda.MaxPayload+1)}), lambda.RequestTooLarge,
		"6291557 byte payload is too large for the RequestResponse invocation type (limit 6291556 bytes)")
	wantCode(t, invoke(sdk.InvokeInput{Payload: bytes.Repeat([]byte("1"), lambda.MaxAsync+1), InvocationType: types.InvocationTypeEvent}), lambda.RequestTooLarge,
		"262145 byte payload is too large for the Event invocation type (limit 262144 bytes)")
	f.set(func(s *stub) {
		s.invoke = func(context.Context, lambda.Ref, *lambda.Invocation) (*lambda.Outcome, error) {
			return nil, &lambda.Error{Code: lambda.TooManyRequests, Message: "Rate Exceeded.", Reason: lambda.ReasonReservedConcurrency, RetryAfter: time.Second}
		}
	})
	var throttled *types.TooManyRequestsException
	if err := invoke(sdk.InvokeInput{}); !errors.As(err, &throttled) || string(throttled.Reason) != lambda.ReasonReservedConcurrency || aws.ToString(throttled.RetryAfterSeconds) != "1" {
		t.Fatalf("throttled: %v", err)
	}
}

func TestInvalidPayloads(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	const tail = "\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: "
	for payload, want := range map[string]string{
		"n\x87r\x9e\xe9\xb5\xd7I\xee\x9bmt": "Invalid UTF-8 start byte 0x87" + tail + "1, column: 3]", // recorded
		"{\"a\":\xff}":                      "Invalid UTF-8 start byte 0xff",
		"\"\xff\"":                          "Invalid UTF-8 start byte 0xff",
		"hello":                             "Unrecognized token 'hello': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')" + tail + "1, column: 6]",
		"'test'":                            "Unexpected character (''' (code 39)): expected a valid value",
		"{\"a\":\n":                         "Unexpected end-of-input",
		"{\"a\"\n,}":                        "Unexpected character (',' (code 44))",
		"{} x":                              "Unrecognized token 'x'",
	} {
		_, err := f.client.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(payload)})
		wantCode(t, err, lambda.InvalidRequestContent, "Could not parse request body into json: Could not parse payload into json: "+want)
	}
}

func TestUnsignedIsRefusedWithoutReadingTheBody(t *testing.T) {
	f := start(t)
	body := &counter{}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL+"/2015-03-31/functions/f/invocations", io.NopCloser(body))
	req.ContentLength = 6 << 20
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if res.StatusCode != 403 || res.Header.Get("x-amzn-ErrorType") != "MissingAuthenticationTokenException" || res.Header.Get("x-amzn-RequestId") == "" {
		t.Fatalf("%d %s %s", res.StatusCode, res.Header, text)
	}
}

// counter is an endless body.
type counter struct{ n atomic.Int64 }

func (c *counter) Read(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

func TestEveryOperationAnswers(t *testing.T) {
	f := start(t)
	model, err := apimodel.Load()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(model.Operations()); n != 85 {
		t.Fatalf("%d operations", n)
	}
	_, err = f.client.GetDurableExecution(t.Context(), &sdk.GetDurableExecutionInput{DurableExecutionArn: aws.String("arn:aws:lambda:us-east-1:000000000001:function:f:1/durable-execution/a/b")})
	wantCode(t, err, lambda.NotImplemented, "GetDurableExecution is not implemented")
	res, err := http.Get(f.URL + "/2015-03-31/nothing")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 404 || res.Header.Get("x-amzn-ErrorType") != "UnknownOperationException" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	res, err = http.Get(f.URL + "/berth/health")
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("health: %v %v", res, err)
	}
	res.Body.Close()
}

func TestPanicsStayInside(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	f.set(func(s *stub) {
		s.invoke = func(context.Context, lambda.Ref, *lambda.Invocation) (*lambda.Outcome, error) { panic("secret detail") }
	})
	_, err := f.client.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f")})
	wantCode(t, err, lambda.ServiceFailure, "")
	if strings.Contains(err.Error(), "secret") || !strings.Contains(f.logs.String(), "secret detail") {
		t.Fatalf("%v; log: %s", err, f.logs)
	}
	f.set(func(s *stub) {
		s.invoke = func(context.Context, lambda.Ref, *lambda.Invocation) (*lambda.Outcome, error) {
			return nil, errors.New("disk /var/x broke")
		}
	})
	_, err = f.client.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f")})
	wantCode(t, err, lambda.ServiceFailure, "internal error")
	if strings.Contains(err.Error(), "/var/x") {
		t.Fatal(err)
	}
}

func TestCodeLinksCannotBeForged(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	out, err := f.client.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: aws.String("f")})
	if err != nil {
		t.Fatal(err)
	}
	link, err := url.Parse(aws.ToString(out.Code.Location))
	if err != nil {
		t.Fatal(err)
	}
	for _, forge := range []func(u *url.URL, q url.Values){
		func(u *url.URL, q url.Values) { q.Set("Expires", fmt.Sprint(time.Now().Add(time.Hour).Unix())) },
		func(u *url.URL, q url.Values) { q.Set("Signature", "00") },
		func(u *url.URL, q url.Values) { q.Del("Signature") },
		func(u *url.URL, q url.Values) { u.Path = strings.Repeat("0", 64) },
	} {
		u, q := *link, link.Query()
		forge(&u, q)
		u.RawQuery = q.Encode()
		res, err := http.Get(u.String())
		if err == nil {
			res.Body.Close()
		}
		if err == nil && res.StatusCode == 200 {
			t.Errorf("%s was served", &u)
		}
	}
}

// BenchmarkInvoke measures the handler alone: a stub invoker, no signature.
func BenchmarkInvoke(b *testing.B) {
	cat := catalog.New(memory.NewCatalog(), region)
	s := &stub{catalog: cat}
	outcome := &lambda.Outcome{Payload: []byte(`{"ok":true}`), Version: lambda.Latest}
	s.invoke = func(context.Context, lambda.Ref, *lambda.Invocation) (*lambda.Outcome, error) { return outcome, nil }
	server, err := apiserver.New(apiserver.Config{Catalog: cat, Blobs: memory.NewBlobs(), Invoker: s, Preparer: s, Inspect: code.Inspect,
		Authenticate: func(*http.Request, []byte) (lambda.Caller, error) {
			return lambda.Caller{Account: catalog.FirstAccount}, nil
		}})
	if err != nil {
		b.Fatal(err)
	}
	payload := []byte(`{"name":"world"}`)
	r := httptest.NewRequest(http.MethodPost, "/2015-03-31/functions/hello/invocations", nil)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 …")
	r.ContentLength = int64(len(payload))
	w := &discard{h: http.Header{}}
	body := bytes.NewReader(payload)
	r.Body = io.NopCloser(body)
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(payload)
		clear(w.h)
		server.ServeHTTP(w, r)
		if w.status != 200 {
			b.Fatal(w.status)
		}
	}
}

type discard struct {
	h      http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }
