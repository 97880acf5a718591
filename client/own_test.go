package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

func TestOwnSendsAndReads(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/lambda/aws4_request") {
			t.Errorf("Authorization is %q", r.Header.Get("Authorization"))
		}
		switch fmt.Sprintf("%s %s %s", r.Method, r.URL.EscapedPath(), body) {
		case `PUT /berth/v1/account {"concurrency":7}`:
			io.WriteString(w, `{"account":"000000000000","concurrency":7}`)
		case `DELETE /berth/v1/keys/a%2Fb `:
			w.WriteHeader(http.StatusNoContent)
		default:
			t.Errorf("%s %s %s", r.Method, r.URL, body)
		}
	})
	account, err := c.SetConcurrency(t.Context(), 7)
	if err != nil || account.Concurrency != 7 {
		t.Errorf("SetConcurrency: %+v, %v", account, err)
	}
	if err := c.DeleteKey(t.Context(), "a/b"); err != nil {
		t.Errorf("DeleteKey: %v", err)
	}
}

func TestOwnRefusals(t *testing.T) {
	for body, message := range map[string]string{
		`{"Message":"Only the first account may."}`: "Only the first account may.",
		`<html>`: "the server answered 403 Forbidden",
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, body)
		})
		_, err := c.Cluster(t.Context())
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != "AccessDeniedException" || api.ErrorMessage() != message {
			t.Errorf("%s: got %v", body, err)
		}
	}
}

func TestOwnReadsNoMoreThanTheLimit(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"account":"000000000000"`+strings.Repeat(" ", maxAccountAnswer)+`}`)
	})
	if account, err := c.Account(t.Context()); err == nil {
		t.Errorf("an answer above the limit was read: %+v", account)
	}
}
