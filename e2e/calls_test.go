package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"berth/client"
)

// readyWithin bounds each wait for a function.
const readyWithin = time.Minute

const role = "arn:aws:iam::000000000001:role/e2e"

// create makes a function, waits for the official waiter, and deletes it when the test ends.
func create(t testing.TB, c *client.Client, in *lambda.CreateFunctionInput) {
	t.Helper()
	in.Role = aws.String(role)
	if _, err := c.Lambda.CreateFunction(t.Context(), in); err != nil {
		t.Fatalf("CreateFunction: %v", err)
	}
	t.Cleanup(func() { // the test's own context has ended by then; an error means that the test deleted it
		_, _ = c.Lambda.DeleteFunction(contextWithoutCancel(t), &lambda.DeleteFunctionInput{FunctionName: in.FunctionName})
	})
	waitActive(t, c, *in.FunctionName)
}

func waitActive(t testing.TB, c *client.Client, name string) {
	t.Helper()
	waiter := lambda.NewFunctionActiveV2Waiter(c.Lambda, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 200*time.Millisecond
	})
	if err := waiter.Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: &name}, readyWithin); err != nil {
		t.Fatalf("waiting for %s to be active: %v (%s)", name, err, reason(t, c, name))
	}
}

func waitUpdated(t *testing.T, c *client.Client, name string) {
	t.Helper()
	waiter := lambda.NewFunctionUpdatedV2Waiter(c.Lambda, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 200*time.Millisecond
	})
	if err := waiter.Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: &name}, readyWithin); err != nil {
		t.Fatalf("waiting for %s to be updated: %v (%s)", name, err, reason(t, c, name))
	}
}

func reason(t testing.TB, c *client.Client, name string) string {
	out, err := c.Lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
	if err != nil {
		return err.Error()
	}
	return string(out.State) + " " + aws.ToString(out.StateReason) + " " + aws.ToString(out.LastUpdateStatusReason)
}

// python makes a Python function out of its source, with the usual limits.
func python(t testing.TB, c *client.Client, name, code string, options ...func(*lambda.CreateFunctionInput)) {
	t.Helper()
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: types.Runtime(pythonRuntime(t)), Handler: aws.String("app.handler"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, "app.py", code)},
	}
	for _, option := range options {
		option(in)
	}
	create(t, c, in)
}

func timeout(seconds int32) func(*lambda.CreateFunctionInput) {
	return func(in *lambda.CreateFunctionInput) { in.Timeout = &seconds }
}

// invoke calls a function and fails the test if the API refuses; the function itself may have failed.
func invoke(t testing.TB, c *client.Client, in *lambda.InvokeInput) *lambda.InvokeOutput {
	t.Helper()
	out, err := c.Lambda.Invoke(t.Context(), in)
	if err != nil {
		t.Fatalf("Invoke: %v", err)
	}
	return out
}

// call calls a function that must not fail, and returns its answer.
func call(t testing.TB, c *client.Client, name, qualifier, payload string) map[string]any {
	t.Helper()
	in := &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload), LogType: types.LogTypeTail}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	out := invoke(t, c, in)
	if out.FunctionError != nil {
		t.Fatalf("the function failed (%s): %s\n%s", *out.FunctionError, out.Payload, tail(t, out))
	}
	return object(t, out.Payload)
}

func object(t testing.TB, payload []byte) map[string]any {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal(payload, &value); err != nil {
		t.Fatalf("the answer is not a JSON object: %q", payload)
	}
	return value
}

func tail(t testing.TB, out *lambda.InvokeOutput) string {
	t.Helper()
	log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		t.Fatalf("LogResult is not base64: %v", err)
	}
	return string(log)
}

// wantCode fails the test unless err is an API error of that code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}
