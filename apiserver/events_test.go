package apiserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/apiserver"
	"berth/lambda"
)

// inbox is the double of a durable queue: it runs what it takes at once, and refuses what the stub's eventError says.
type inbox struct{ *stub }

func (i *inbox) Accept(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) error {
	i.mu.Lock()
	err := i.eventError
	i.mu.Unlock()
	if err == nil {
		_, _ = i.Invoke(ctx, ref, in) // how an event ends its caller never hears
	}
	return err
}

func (i *inbox) Status(context.Context, lambda.AccountID, string) (apiserver.EventStatus, error) {
	return apiserver.EventStatus{Queued: 3, InFlight: 2, Retrying: 1, Dropped: map[string]int{"function-gone": 4}}, nil
}

// An event that could not be stored was not accepted.
func TestEventThatIsNotStored(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	f.set(func(s *stub) {
		s.eventError = lambda.Errorf(lambda.ServiceFailure, "The server has no room for more events")
	})
	_, err := f.client.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f"), InvocationType: types.InvocationTypeEvent})
	wantCode(t, err, lambda.ServiceFailure, "no room")
	f.set(func(s *stub) { s.eventError = errors.New("secret detail") })
	_, err = f.client.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f"), InvocationType: types.InvocationTypeEvent})
	wantCode(t, err, lambda.ServiceFailure, "internal error")
}

func TestInvokeAsync(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	ran := make(chan *lambda.Invocation, 1)
	f.set(func(s *stub) {
		s.invoke = func(_ context.Context, _ lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error) {
			ran <- in
			return &lambda.Outcome{}, nil
		}
	})
	//lint:ignore SA1019 the deprecated operation is what is tested
	out, err := f.client.InvokeAsync(t.Context(), &sdk.InvokeAsyncInput{FunctionName: aws.String("f"), InvokeArgs: strings.NewReader(`{"a":1}`)})
	if err != nil || out.Status != 202 {
		t.Fatalf("%+v, %v", out, err)
	}
	if in := <-ran; string(in.Payload) != `{"a":1}` || in.TraceID == "" || in.RequestID == "" {
		t.Errorf("ran with %+v", in)
	}
	for payload, code := range map[string]lambda.Code{"{": lambda.InvalidRequestContent, strings.Repeat("1", lambda.MaxAsync+1): lambda.RequestTooLarge} {
		//lint:ignore SA1019 as above
		_, err := f.client.InvokeAsync(t.Context(), &sdk.InvokeAsyncInput{FunctionName: aws.String("f"), InvokeArgs: strings.NewReader(payload)})
		wantCode(t, err, code, "")
	}
}

// own makes a signed request to one of Berth's own paths.
func (f *fixture) own(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	status, _, answer := f.ownAs(t, f.key, method, path, body)
	return status, answer
}

func TestEventStatus(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	if code, body := f.own(t, "GET", "/berth/v1/events/f", ""); code != 200 ||
		strings.TrimSpace(body) != `{"queued":3,"inFlight":2,"retrying":1,"dropped":{"function-gone":4}}` {
		t.Errorf("%d %s", code, body)
	}
	if code, body := f.own(t, "GET", "/berth/v1/events/g", ""); code != 404 {
		t.Errorf("of no function: %d %s", code, body)
	}
	if res, err := http.Get(f.URL + "/berth/v1/events/f"); err != nil || res.StatusCode != 403 {
		t.Errorf("unsigned: %v, %v", res, err)
	} else {
		res.Body.Close()
	}
}

func TestSchedules(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	put := func(name, body string, want int) string {
		t.Helper()
		code, answer := f.own(t, "PUT", "/berth/v1/schedules/"+name, body)
		if code != want {
			t.Errorf("PUT %s %s: %d %s, want %d", name, body, code, answer, want)
		}
		return answer
	}
	var one apiserver.ScheduleDocument
	if err := json.Unmarshal([]byte(put("a", `{"function":"f","rate":"5m","payload":{"x":1}}`, 200)), &one); err != nil {
		t.Fatal(err)
	}
	if one.Rate != "5m0s" || string(one.Payload) != `{"x":1}` || one.Next.Sub(one.Created) != 5*time.Minute {
		t.Errorf("added %+v", one)
	}
	put("b", `{"function":"f","cron":"CRON_TZ=Europe/Berlin 0 7 * * 1-5"}`, 200)
	put("a", `{"function":"f","rate":"5m"}`, 409)
	for what, body := range map[string]string{
		"no time":        `{"function":"f"}`,
		"both":           `{"function":"f","rate":"5m","cron":"* * * * *"}`,
		"rate too short": `{"function":"f","rate":"1ms"}`,
		"rate negative":  `{"function":"f","rate":"-5m"}`,
		"no rate":        `{"function":"f","rate":"often"}`,
		"no cron":        `{"function":"f","cron":"every day"}`,
		"zone alone":     `{"function":"f","cron":"CRON_TZ=UTC"}`,
		"never":          `{"function":"f","cron":"0 0 30 2 *"}`,
		"long":           `{"function":"f","cron":"` + strings.Repeat("1,", 200) + `1 * * * *"}`,
		"unknown member": `{"function":"f","rate":"5m","when":1}`,
		"no JSON":        `{`,
	} {
		if code, answer := f.own(t, "PUT", "/berth/v1/schedules/bad", body); code != 400 {
			t.Errorf("%s: %d %s", what, code, answer)
		}
	}
	put("bad", `{"function":"nope","rate":"5m"}`, 404)
	put("b%20d", `{"function":"f","rate":"5m"}`, 400)
	_, list := f.own(t, "GET", "/berth/v1/schedules", "")
	if strings.Count(list, `"name"`) != 2 {
		t.Errorf("list: %s", list)
	}
	if code, _ := f.own(t, "DELETE", "/berth/v1/schedules/a", ""); code != 204 {
		t.Errorf("DELETE: %d", code)
	}
	if code, _ := f.own(t, "GET", "/berth/v1/schedules/a", ""); code != 404 {
		t.Errorf("GET of a removed one: %d", code)
	}
}

func TestEventConfigOfTargets(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	put := func(arn string) error {
		_, err := f.client.PutFunctionEventInvokeConfig(t.Context(), &sdk.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("f"),
			DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: &arn}}})
		return err
	}
	for _, arn := range []string{"arn:aws:sqs:us-east-1:000000000001:q", "arn:aws:sns:us-east-1:000000000001:t", "arn:aws:s3:::bucket", "arn:berth:nats:::orders.failed"} {
		if err := put(arn); err != nil {
			t.Errorf("%s: %v", arn, err)
		}
	}
	for _, arn := range []string{"arn:berth:nats:::orders.*", "arn:berth:nats:::berth.catalog.x", "arn:berth:nats:::$JS.API.STREAM.DELETE.X",
		"arn:aws:dynamodb:us-east-1:000000000001:table/x", "arn:aws:sqs:us-east-1::q"} {
		wantCode(t, put(arn), lambda.InvalidParameterValue, "The provided destination config")
	}
	wantCode(t, put("arn:berth:kafka:::x"), lambda.Validation, "Member must satisfy regular expression pattern")
	_, err := f.client.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"),
		DeadLetterConfig: &types.DeadLetterConfig{TargetArn: aws.String("arn:aws:s3:::bucket")}})
	wantCode(t, err, lambda.InvalidParameterValue, "SQS queue or an SNS topic")
}
