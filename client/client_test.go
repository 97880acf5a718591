package client

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"

	"berth/clientfile"
)

func serve(t *testing.T, handler http.HandlerFunc) *Client {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c := New(clientfile.File{Endpoint: server.URL, AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "s3cr3t", Region: "us-east-1"})
	t.Cleanup(c.Close)
	return c
}

func TestLambdaIsSignedAndNotRetried(t *testing.T) {
	calls := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		authorization := r.Header.Get("Authorization")
		if !strings.Contains(authorization, "Credential=AKIDEXAMPLE/") || !strings.Contains(authorization, "/us-east-1/lambda/aws4_request") {
			t.Errorf("Authorization is %q", authorization)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if _, err := c.Lambda.ListFunctions(t.Context(), &awslambda.ListFunctionsInput{}); err == nil {
		t.Fatal("no error from a 503")
	}
	if calls != 1 {
		t.Errorf("%d requests, want one", calls)
	}
}

func TestLogsFollowPages(t *testing.T) {
	since := time.UnixMilli(1_700_000_000_123)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") != filterTarget || r.Header.Get("Content-Type") != jsonType {
			t.Errorf("headers %v", r.Header)
		}
		if !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/logs/aws4_request") {
			t.Errorf("Authorization is %q", r.Header.Get("Authorization"))
		}
		var query logQuery
		if err := json.NewDecoder(r.Body).Decode(&query); err != nil {
			t.Error(err)
		}
		if query.Group != "/aws/lambda/hello" || query.Since != since.UnixMilli() {
			t.Errorf("query %+v", query)
		}
		switch query.NextToken {
		case "":
			io.WriteString(w, `{"events":[{"eventId":"1","timestamp":5,"message":"one\n"}],"nextToken":"more"}`)
		case "more":
			io.WriteString(w, `{"events":[{"eventId":"2","timestamp":6,"message":"two\n"}]}`)
		}
	})
	var lines []string
	for event, err := range c.Logs(t.Context(), "/aws/lambda/hello", since) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, event.Message)
	}
	if got := strings.Join(lines, ""); got != "one\ntwo\n" {
		t.Errorf("got %q", got)
	}
}

func TestLogsErrors(t *testing.T) {
	for _, answer := range []struct {
		name, header, body, code string
	}{
		{"JSON 1.1", "", `{"__type":"com.amazonaws.logs#ResourceNotFoundException","message":"no group"}`, "ResourceNotFoundException"},
		{"header", "UnrecognizedClientException", `{"message":"no"}`, "UnrecognizedClientException"},
		{"nothing", "", ``, "UnknownError"},
	} {
		t.Run(answer.name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Amzn-Errortype", answer.header)
				w.WriteHeader(http.StatusBadRequest)
				io.WriteString(w, answer.body)
			})
			for _, err := range c.Logs(t.Context(), "g", time.Time{}) {
				var api smithy.APIError
				if !errors.As(err, &api) || api.ErrorCode() != answer.code {
					t.Errorf("got %v, want code %s", err, answer.code)
				}
			}
		})
	}
}
