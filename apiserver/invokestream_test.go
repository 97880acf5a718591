package apiserver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/lambda"
)

// runs makes the data path run f.
func (f *fixture) runs(run func(in *lambda.Invocation) (*lambda.Outcome, error)) {
	f.set(func(s *stub) {
		s.invoke = func(_ context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error) {
			t, err := s.catalog.Resolve(ref)
			if err != nil {
				return nil, err
			}
			in.Version = t.Version.Number
			return run(in)
		}
	})
}

// streamed is what a client saw of a streamed response.
type streamed struct {
	chunks []string
	end    *types.InvokeWithResponseStreamCompleteEvent
}

func (f *fixture) stream(t *testing.T, in sdk.InvokeWithResponseStreamInput, each func(chunk []byte)) (streamed, *sdk.InvokeWithResponseStreamOutput, error) {
	t.Helper()
	if in.FunctionName == nil {
		in.FunctionName = aws.String("f")
	}
	out, err := f.client.InvokeWithResponseStream(t.Context(), &in)
	if err != nil {
		return streamed{}, nil, err
	}
	var got streamed
	stream := out.GetStream()
	defer stream.Close()
	for event := range stream.Events() {
		switch event := event.(type) {
		case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			got.chunks = append(got.chunks, string(event.Value.Payload))
			if each != nil {
				each(event.Value.Payload)
			}
		case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			got.end = &event.Value
		}
	}
	return got, out, stream.Err()
}

func TestInvokeWithResponseStream(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	read := make(chan struct{})
	f.runs(func(in *lambda.Invocation) (*lambda.Outcome, error) {
		if err := in.Stream.Begin("text/plain"); err != nil {
			return nil, err
		}
		for _, part := range []string{"one ", string(in.Payload)} {
			if _, err := in.Stream.Write([]byte(part)); err != nil {
				return nil, err
			}
			<-read // before the next one is made
		}
		return &lambda.Outcome{Streamed: true, Version: lambda.Latest, Log: []byte("the log")}, nil
	})
	got, out, err := f.stream(t, sdk.InvokeWithResponseStreamInput{Payload: []byte(`"two"`), LogType: types.LogTypeTail}, func([]byte) { read <- struct{}{} })
	if err != nil || len(got.chunks) != 2 || got.chunks[1] != `"two"` || got.end == nil || got.end.ErrorCode != nil ||
		aws.ToString(got.end.LogResult) != base64.StdEncoding.EncodeToString([]byte("the log")) {
		t.Errorf("%+v, %v", got, err)
	}
	if out.StatusCode != 200 || aws.ToString(out.ExecutedVersion) != lambda.Latest || aws.ToString(out.ResponseStreamContentType) != "application/vnd.amazon.eventstream" {
		t.Errorf("%+v", out)
	}
}

func TestInvokeWithResponseStreamEnds(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	failure := &lambda.Outcome{Version: lambda.Latest, FunctionError: "Unhandled", Payload: []byte(`{"errorType":"E"}`)}
	large := strings.Repeat("x", lambda.MaxPayload)
	for name, c := range map[string]struct {
		begins  bool
		outcome *lambda.Outcome
		err     error
		chunks  string // joined
		code    string
		details string
	}{
		"not streamed":        {outcome: &lambda.Outcome{Payload: []byte(`{"a":1}`), Version: lambda.Latest}, chunks: `{"a":1}`},
		"not streamed, large": {outcome: &lambda.Outcome{Payload: []byte(large), Version: lambda.Latest}, chunks: large},
		"fails at once":       {outcome: failure, code: "Unhandled", details: `{"errorType":"E"}`},
		"fails in the middle": {begins: true, outcome: &lambda.Outcome{Streamed: true, FunctionError: "Unhandled", Payload: failure.Payload}, chunks: "part", code: "Unhandled", details: `{"errorType":"E"}`},
		"the server fails":    {begins: true, err: lambda.Errorf(lambda.ServiceFailure, "the function's environment failed; try again"), chunks: "part", code: "ServiceException", details: "the function's environment failed; try again"},
		"a secret failure":    {begins: true, err: errors.New("disk /var/x broke"), chunks: "part", code: "ServiceException", details: "An internal error occurred. The server's log has details under this request id."},
	} {
		f.runs(func(in *lambda.Invocation) (*lambda.Outcome, error) {
			if c.begins {
				_ = in.Stream.Begin("")
				_, _ = in.Stream.Write([]byte("part"))
			}
			return c.outcome, c.err
		})
		got, _, err := f.stream(t, sdk.InvokeWithResponseStreamInput{}, nil)
		if err != nil || strings.Join(got.chunks, "") != c.chunks || got.end == nil || aws.ToString(got.end.ErrorCode) != c.code || aws.ToString(got.end.ErrorDetails) != c.details {
			t.Errorf("%s: %.200v %+v, %v", name, got.chunks, got.end, err)
		}
	}
}

func TestInvokeWithResponseStreamRefusals(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	ran := false
	f.runs(func(*lambda.Invocation) (*lambda.Outcome, error) {
		ran = true
		return nil, &lambda.Error{Code: lambda.TooManyRequests, Message: "Rate Exceeded.", Reason: lambda.ReasonConcurrency, RetryAfter: time.Second}
	})
	refused := func(in sdk.InvokeWithResponseStreamInput, code lambda.Code, text string) {
		t.Helper()
		_, _, err := f.stream(t, in, nil)
		wantCode(t, err, code, text)
	}
	refused(sdk.InvokeWithResponseStreamInput{InvocationType: "Event"}, lambda.Validation, "Value 'Event' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [RequestResponse, DryRun]")
	refused(sdk.InvokeWithResponseStreamInput{Qualifier: aws.String("nope")}, lambda.ResourceNotFound, "Function not found: "+prefix+"f:nope")
	refused(sdk.InvokeWithResponseStreamInput{Payload: []byte("{")}, lambda.InvalidRequestContent, "Could not parse")
	refused(sdk.InvokeWithResponseStreamInput{TenantId: aws.String("t#")}, lambda.Validation, "'tenantId' failed to satisfy constraint")
	refused(sdk.InvokeWithResponseStreamInput{Payload: bytes.Repeat([]byte("1"), lambda.MaxPayload+1)}, lambda.RequestTooLarge, "6291557 byte payload")
	if ran {
		t.Error("a refused call ran")
	}
	refused(sdk.InvokeWithResponseStreamInput{}, lambda.TooManyRequests, "Rate Exceeded")
	ran = false
	res := f.signed(t, http.MethodPost, f.URL+"/2021-11-15/functions/f/response-streaming-invocations", "", "{}", "X-Amz-Invocation-Type", "DryRun")
	if res.StatusCode != http.StatusNoContent || ran {
		t.Errorf("DryRun: %s, ran: %t", res.Status, ran)
	}
}

// A client that leaves in the middle does not end the invocation.
func TestInvokeWithResponseStreamClientLeaves(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	ended := make(chan error, 1)
	f.runs(func(in *lambda.Invocation) (*lambda.Outcome, error) {
		_ = in.Stream.Begin("")
		part := make([]byte, 32<<10)
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			if _, err := in.Stream.Write(part); err != nil {
				ended <- err
				return &lambda.Outcome{Streamed: true, Version: lambda.Latest}, nil
			}
		}
		ended <- nil
		return nil, errors.New("the client is still there")
	})
	out, err := f.client.InvokeWithResponseStream(t.Context(), &sdk.InvokeWithResponseStreamInput{FunctionName: aws.String("f")})
	if err != nil {
		t.Fatal(err)
	}
	<-out.GetStream().Events()
	out.GetStream().Close()
	if err := <-ended; err == nil {
		t.Error("writing to a client that has left goes well for ever")
	}
}

// A reader that does not read gives way when the invocation's time is over.
func TestInvokeWithResponseStreamInterrupted(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	ended := make(chan error, 1)
	f.runs(func(in *lambda.Invocation) (*lambda.Outcome, error) {
		_ = in.Stream.Begin("")
		stop := time.AfterFunc(100*time.Millisecond, in.Stream.(lambda.Interrupter).Interrupt)
		defer stop.Stop()
		for {
			if _, err := in.Stream.Write(make([]byte, 1<<20)); err != nil {
				ended <- err
				return &lambda.Outcome{Streamed: true, FunctionError: "Unhandled", Payload: []byte("{}")}, nil
			}
		}
	})
	res := f.signedOpen(t, http.MethodPost, f.URL+"/2021-11-15/functions/f/response-streaming-invocations", "", "{}")
	defer res.Body.Close()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the stream still waits for its reader")
	}
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Error("half a response looks whole")
	}
}
