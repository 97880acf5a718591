package e2e

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// failing is a Python function that fails in the way its event names.
const failing = `
import os, sys, time
def handler(event, context):
    how = event["how"]
    if how == "raise":
        raise ValueError("broken on purpose")
    if how == "exit":
        sys.exit(0)
    if how == "abort":
        os.abort()
    if how == "sleep":
        time.sleep(30)
    if how == "memory":
        hog = []
        while True:
            hog.append(bytearray(8 << 20))
    if how == "big":
        return "x" * (7 << 20)
    return "fine"
`

// TestFunctionErrors expects each failure as a client sees it, and the function to be usable after each of them.
func TestFunctionErrors(t *testing.T) {
	c := sharedClient(t)
	small := func(in *lambda.CreateFunctionInput) { in.MemorySize = aws.Int32(128) }
	python(t, c, "failing", failing, timeout(60), small)
	python(t, c, "sleeping", failing, timeout(2), small)
	for _, want := range []struct{ how, kind, message string }{
		{"raise", "ValueError", "broken on purpose"},
		{"exit", "Runtime.ExitError", "Runtime exited without providing a reason"},
		{"abort", "Runtime.ExitError", "Runtime exited with error: signal: aborted"},
		{"sleep", "Sandbox.Timedout", "Task timed out after 2.00 seconds"},
		{"memory", "Runtime.ExitError", "Runtime exited with error: signal: killed"},
		{"big", "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes)."},
	} {
		t.Run(want.how, func(t *testing.T) {
			name := "failing"
			if want.how == "sleep" {
				name = "sleeping"
			}
			out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"how":"` + want.how + `"}`)})
			if aws.ToString(out.FunctionError) != "Unhandled" || out.StatusCode != 200 {
				t.Fatalf("answered %d %q %.200s, want an Unhandled error", out.StatusCode, aws.ToString(out.FunctionError), out.Payload)
			}
			answer := object(t, out.Payload)
			message, _ := answer["errorMessage"].(string)
			if answer["errorType"] != want.kind || !strings.Contains(message, want.message) {
				t.Errorf("got %v, want %s: %s", answer, want.kind, want.message)
			}
			if want.how == "raise" {
				wantStack(t, answer)
			}
			again := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"how":"none"}`)})
			if again.FunctionError != nil || string(again.Payload) != `"fine"` {
				t.Errorf("afterwards it answers %s", again.Payload)
			}
		})
	}
}

func wantStack(t *testing.T, answer map[string]any) {
	t.Helper()
	stack, _ := answer["stackTrace"].([]any)
	if len(stack) == 0 || !strings.Contains(stack[0].(string), `File "/var/task/app.py", line`) || len(answer["requestId"].(string)) != 36 {
		t.Errorf("got %v, want a stack trace and the request id", answer)
	}
}

func TestErrorsOfOtherLanguages(t *testing.T) {
	c := sharedClient(t)
	nodeName, goName := "failing-node", "failing-go"
	t.Run("Node", func(t *testing.T) {
		create(t, c, &lambda.CreateFunctionInput{
			FunctionName: &nodeName, Runtime: types.Runtime(nodeRuntime(t)), Handler: aws.String("app.handler"),
			Code: &types.FunctionCode{ZipFile: zipOf(t, "app.mjs", "export const handler = async () => { throw new TypeError('broken') };\n")},
		})
		out := invoke(t, c, &lambda.InvokeInput{FunctionName: &nodeName})
		answer := object(t, out.Payload)
		if answer["errorType"] != "TypeError" || answer["errorMessage"] != "broken" || answer["trace"] == nil {
			t.Errorf("got %v", answer)
		}
	})
	t.Run("Go", func(t *testing.T) {
		create(t, c, &lambda.CreateFunctionInput{
			FunctionName: &goName, Runtime: "provided.al2023", Handler: aws.String("bootstrap"),
			Code: &types.FunctionCode{ZipFile: goZip(t, "")},
		})
		out := invoke(t, c, &lambda.InvokeInput{FunctionName: &goName, Payload: []byte(`"fail"`)})
		answer := object(t, out.Payload)
		if answer["errorType"] != "errorString" || answer["errorMessage"] != "asked to fail" || out.FunctionError == nil {
			t.Errorf("got %v", answer)
		}
	})
}

func TestInitErrors(t *testing.T) {
	c := sharedClient(t)
	for _, want := range []struct{ name, code, kind, message string }{
		{"init-raise", "raise KeyError('at import')\n", "KeyError", "at import"},
		{"init-exit", "import sys\nsys.exit(3)\n", "Runtime.ExitError", "exit status 3"},
		{"init-syntax", "def handler(:\n", "Runtime.UserCodeSyntaxError", "Syntax error"},
		{"init-missing", "def other(event, context): pass\n", "Runtime.HandlerNotFound", "handler"},
	} {
		t.Run(want.name, func(t *testing.T) {
			python(t, c, want.name, want.code)
			out := invoke(t, c, &lambda.InvokeInput{FunctionName: &want.name})
			answer := object(t, out.Payload)
			message, _ := answer["errorMessage"].(string)
			if out.FunctionError == nil || answer["errorType"] != want.kind || !strings.Contains(message, want.message) {
				t.Errorf("got %v, want %s: …%s…", answer, want.kind, want.message)
			}
		})
	}
}

// TestTimeoutKeepsScratch: after a timeout the runtime starts anew, in the same sandbox with the same /tmp.
func TestTimeoutKeepsScratch(t *testing.T) {
	c := sharedClient(t)
	name := "scratch"
	python(t, c, name, `
import os, time
calls = 0
def handler(event, context):
    global calls
    calls += 1
    seen = os.path.exists("/tmp/mark")
    open("/tmp/mark", "w").close()
    if event.get("sleep"):
        time.sleep(10)
    return {"calls": calls, "seen": seen}
`, timeout(1))
	call(t, c, name, "", `{}`)
	if out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"sleep":true}`)}); out.FunctionError == nil {
		t.Fatalf("no timeout: %s", out.Payload)
	}
	if got := call(t, c, name, "", `{}`); got["calls"] != 1.0 || got["seen"] != true {
		t.Errorf("after the timeout %v, want a new runtime that still sees its file", got)
	}
}

func TestRefusedRequests(t *testing.T) {
	c := sharedClient(t)
	name := "refusing"
	python(t, c, name, "def handler(event, context):\n    return event\n")

	_, err := c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte("no JSON")})
	wantCode(t, err, "InvalidRequestContentException")

	big := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), 6291556)...), '"')
	_, err = c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: big})
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || response.HTTPStatusCode() != 413 {
		t.Errorf("an oversized payload: got %v, want 413", err)
	}

	_, err = c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("nobody")})
	wantCode(t, err, "ResourceNotFoundException")
	_, err = c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Qualifier: aws.String("99")})
	wantCode(t, err, "ResourceNotFoundException")

	_, err = c.Lambda.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: types.Runtime(pythonRuntime(t)), Handler: aws.String("app.handler"), Role: aws.String(role),
		Code: &types.FunctionCode{ZipFile: zipOf(t, "app.py", "")},
	})
	wantCode(t, err, "ResourceConflictException")
	_, err = c.Lambda.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: []byte("no zip")})
	wantCode(t, err, "InvalidParameterValueException")
}

// TestLargestPayload sends and receives as much as is allowed.
func TestLargestPayload(t *testing.T) {
	c := sharedClient(t)
	name := "largest"
	python(t, c, name, "def handler(event, context):\n    return event\n", timeout(30), func(in *lambda.CreateFunctionInput) { in.MemorySize = aws.Int32(512) })
	payload := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), 6291556-2)...), '"')
	out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, Payload: payload})
	if out.FunctionError != nil || !bytes.Equal(out.Payload, payload) {
		t.Errorf("got %d bytes back (%s), want %d", len(out.Payload), aws.ToString(out.FunctionError), len(payload))
	}
}
