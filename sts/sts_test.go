package sts

import (
	"encoding/xml"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"berth/lambda"
)

var ann = lambda.Caller{Account: "000000000001", Key: "AKIA", User: "ann"}

func request(method, target, contentType string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

func TestHandles(t *testing.T) {
	a := new(API)
	for _, tt := range []struct {
		method, target, kind string
		want                 bool
	}{
		{"POST", "/", formType, true},
		{"POST", "/", formType + "; charset=utf-8", true},
		{"GET", "/?Action=GetCallerIdentity&Version=2011-06-15", "", true},
		{"GET", "/", "", false},
		{"POST", "/", "application/x-amz-json-1.1", false},
		{"POST", "/", "", false},
		{"POST", "/2015-03-31/functions/f/invocations", formType, false},
		{"PUT", "/?Action=x", formType, false},
	} {
		if got := a.Handles(request(tt.method, tt.target, tt.kind)); got != tt.want {
			t.Errorf("%s %s %q: %v", tt.method, tt.target, tt.kind, got)
		}
	}
}

func TestServe(t *testing.T) {
	a := &API{Log: slog.New(slog.DiscardHandler)}
	long := strings.Repeat("<", 5000)
	for _, tt := range []struct {
		name         string
		r            *http.Request
		body         string
		status       int
		want, absent string
	}{
		{"post", request("POST", "/", formType), "Action=GetCallerIdentity&Version=2011-06-15", 200,
			`<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::000000000001:user/ann</Arn><UserId>` +
				ann.UserID() + `</UserId><Account>000000000001</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>id-1</RequestId></ResponseMetadata></GetCallerIdentityResponse>`, ""},
		{"get", request("GET", "/?Action=GetCallerIdentity", ""), "", 200, "<Account>000000000001</Account>", ""},
		{"role", request("POST", "/", formType), "Action=AssumeRole", 403, "<Code>AccessDenied</Code>", ""},
		{"session", request("POST", "/", formType), "Action=GetSessionToken", 403, "no temporary credentials", ""},
		{"another", request("POST", "/", formType), "Action=ListUsers", 400, "<Type>Sender</Type><Code>InvalidAction</Code><Message>Could not find operation ListUsers for version 2011-06-15", ""},
		{"nothing", request("POST", "/", formType), "", 400, "InvalidAction", ""},
		{"hostile", request("POST", "/", formType), "Action=" + long, 400, "&lt;", "<<"},
		{"no form", request("POST", "/", formType), "Action=%zz", 400, "MalformedInput", "zz"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			a.Serve(w, tt.r, "id-1", ann, []byte(tt.body))
			body := w.Body.String()
			if w.Code != tt.status || !strings.Contains(body, tt.want) || tt.absent != "" && strings.Contains(body, tt.absent) || len(body) > 2000 {
				t.Errorf("%d %s", w.Code, body)
			}
			if err := xml.Unmarshal([]byte(body), new(struct{ XMLName xml.Name })); err != nil || w.Header().Get("Content-Type") != xmlType {
				t.Errorf("not XML: %v %v", err, w.Header())
			}
		})
	}
}

func TestRefuse(t *testing.T) {
	a := &API{Log: slog.New(slog.DiscardHandler)}
	for _, tt := range []struct {
		err    error
		status int
		want   string
	}{
		{lambda.Errorf(lambda.UnrecognizedClient, "no such <key>"), 403, "<Code>InvalidClientTokenId</Code><Message>no such &lt;key&gt;</Message>"},
		{lambda.Errorf(lambda.InvalidSignature, "x"), 403, "<Code>SignatureDoesNotMatch</Code>"},
		{lambda.Errorf(lambda.IncompleteSignature, "x"), 400, "<Code>IncompleteSignature</Code>"},
		{lambda.Errorf(lambda.Validation, "x"), 400, "<Code>Validation</Code>"},
		{errors.New("secret"), 500, "<Type>Receiver</Type><Code>InternalFailure</Code>"},
	} {
		w := httptest.NewRecorder()
		a.Refuse(w, "id-1", tt.err)
		if body := w.Body.String(); w.Code != tt.status || !strings.Contains(body, tt.want) || strings.Contains(body, "secret") {
			t.Errorf("%v: %d %s", tt.err, w.Code, body)
		}
	}
}
