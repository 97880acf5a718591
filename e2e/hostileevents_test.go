package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"berth/client"
)

// TestHostileEvents: what cannot become an event, or cannot be told, is refused by Lambda's own errors, and others go on.
func TestHostileEvents(t *testing.T) {
	c := sharedClient(t)
	python(t, c, "hostile-events", "def handler(event, context):\n    return {}\n")
	event := func(name, qualifier, payload string) error {
		in := &lambda.InvokeInput{FunctionName: &name, InvocationType: types.InvocationTypeEvent, Payload: []byte(payload)}
		if qualifier != "" {
			in.Qualifier = &qualifier
		}
		_, err := c.Lambda.Invoke(t.Context(), in)
		return err
	}
	for what, bad := range map[string]struct {
		err  error
		want string
	}{
		"too large":         {event("hostile-events", "", `"`+strings.Repeat("x", 256<<10)+`"`), "RequestTooLargeException"},
		"far too large":     {event("hostile-events", "", `"`+strings.Repeat("x", 20<<20)+`"`), "RequestTooLargeException RequestEntityTooLargeException"},
		"no JSON":           {event("hostile-events", "", "{"), "InvalidRequestContentException"},
		"binary":            {event("hostile-events", "", "\x00\xff\xfe"), "InvalidRequestContentException"},
		"unknown function":  {event("hostile-nobody", "", "{}"), "ResourceNotFoundException"},
		"unknown qualifier": {event("hostile-events", "7", "{}"), "ResourceNotFoundException"},
	} {
		if code := errorCode(bad.err); code == "" || !strings.Contains(bad.want, code) {
			t.Errorf("%s: %v, want %s", what, bad.err, bad.want)
		}
	}
	for _, arn := range []string{
		"arn", "x", "arn:aws:sqs", "arn:aws:sqs:us-east-1:000000000001:", "arn:aws:sqs:::q", "arn:aws:dynamodb:us-east-1:000000000001:table/t",
		"arn:aws:lambda:us-east-1:000000000001:function:hostile-nobody", "arn:aws:lambda:us-east-1:000000000001:function:", "arn:aws:s3:::",
		"arn:berth:nats:::", "arn:berth:nats:::a..b", "arn:berth:nats:::a b", "arn:berth:nats:::>", "arn:berth:nats:::$JS.API.STREAM.PURGE.BERTH_EVENTS_0",
		"arn:berth:nats:::berth.events.0.a.b.1", "arn:berth:nats:::" + strings.Repeat("a", 400), "arn:aws:sqs:us-east-1:000000000001:q\r\nX: y",
	} {
		_, err := c.Lambda.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{
			FunctionName: aws.String("hostile-events"), DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: &arn}},
		})
		if res := (*awshttp.ResponseError)(nil); !errors.As(err, &res) || res.HTTPStatusCode() < 400 || res.HTTPStatusCode() >= 500 {
			t.Errorf("the destination %.100q: %v", arn, err)
		}
	}
	// Reserved 0: the event ends at once, and as nobody is to be told that is counted.
	reserve(t, c, "hostile-events", 0)
	if err := event("hostile-events", "", "{}"); err != nil {
		t.Fatal(err)
	}
	waitEvents(t, c, "hostile-events", func(s client.EventStatus) bool { return s.Dropped["failed-untold"] == 1 })
	goneWhileTheyWait(t, c)
}

// goneWhileTheyWait: events of a function that is deleted do not hold up others.
func goneWhileTheyWait(t *testing.T, c *client.Client) {
	t.Helper()
	name := "hostile-gone"
	python(t, c, name, "import time\ndef handler(event, context):\n    time.sleep(1)\n")
	reserve(t, c, name, 1)
	for range 20 {
		in := &lambda.InvokeInput{FunctionName: &name, InvocationType: types.InvocationTypeEvent}
		if _, err := c.Lambda.Invoke(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	waitEvents(t, c, name, func(s client.EventStatus) bool { return s.InFlight > 0 || s.Retrying > 0 })
	if _, err := c.Lambda.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Events(t.Context(), name); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("events of a deleted function: %v", err)
	}
	python(t, c, "hostile-other", "def handler(event, context):\n    return {}\n")
	out, err := c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("hostile-other"), InvocationType: types.InvocationTypeEvent})
	if err != nil || out.StatusCode != http.StatusAccepted {
		t.Fatalf("%+v, %v", out, err)
	}
	waitEvents(t, c, "hostile-other", func(s client.EventStatus) bool { return s.Queued+s.InFlight+s.Retrying == 0 && len(s.Dropped) == 0 })
}

// waitEvents waits until the events of a function are as they should be.
func waitEvents(t *testing.T, c *client.Client, name string, ok func(client.EventStatus) bool) {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(20 * time.Millisecond) {
		s, err := c.Events(t.Context(), name)
		if err == nil && ok(s) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the events of %s are %+v, %v", name, s, err)
		}
	}
}

// errorCode returns the API's code of an error, "" for another.
func errorCode(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	return api.ErrorCode()
}
