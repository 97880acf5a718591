package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// TestNPMRuntimeClient runs functions in aws-lambda-ric from npm, with its native client, in place of Berth's own bootstrap.
// That client is compiled from C++ when it is installed, which takes cmake, autotools and minutes: `make npm` does it.
func TestNPMRuntimeClient(t *testing.T) {
	c := sharedClient(t)
	runtime := nodeRuntime(t)
	made := filepath.Join("..", "bin", "npm", "npm-ric")
	native, err := filepath.Glob(filepath.Join(made, "node_modules", "aws-lambda-ric", "dist", "*.node"))
	if err != nil || len(native) == 0 || !lockedSame("testdata/npm-ric", made) {
		t.Skip("aws-lambda-ric is not built here (make npm): its functions are not tried")
	}
	if _, err := os.Stat(filepath.Join(made, "node_modules", "aws-lambda-ric", "bin", "index.mjs")); err != nil {
		t.Fatal(err)
	}
	code := packed(t, "testdata/npm-ric", made, func(path string) bool { // without the sources of the native client
		rest, of := strings.CutPrefix(path, "node_modules/aws-lambda-ric/")
		return !strings.HasPrefix(path, "node_modules/") || of && (strings.HasPrefix(rest, "bin/") || strings.HasPrefix(rest, "dist/") || rest == "package.json")
	})
	deploy := func(name, handler string) {
		create(t, c, &lambda.CreateFunctionInput{FunctionName: &name, Runtime: types.Runtime(runtime), Handler: &handler, Timeout: aws.Int32(30),
			MemorySize: aws.Int32(512), Code: &types.FunctionCode{ZipFile: code},
			Environment: &types.Environment{Variables: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}}})
	}
	deploy("npm-ric", "app.handler")
	seen := map[any]bool{}
	for i := range 3 {
		out := invoke(t, c, &lambda.InvokeInput{FunctionName: aws.String("npm-ric"), Payload: []byte(`{"a":1}`), LogType: types.LogTypeTail})
		log := tail(t, out)
		if out.FunctionError != nil {
			t.Fatalf("call %d: %s\n%s", i, out.Payload, log)
		}
		got := object(t, out.Payload)
		if !same(got["event"], map[string]any{"a": 1}) || got["name"] != "npm-ric" || got["left"] != true || seen[got["id"]] {
			t.Errorf("call %d: %s", i, out.Payload)
		}
		if seen[got["id"]] = true; !strings.Contains(log, "ran in the client from npm") {
			t.Errorf("call %d wrote\n%s", i, log)
		}
	}
	out := invoke(t, c, &lambda.InvokeInput{FunctionName: aws.String("npm-ric"), Payload: []byte(`{"fail":true}`)})
	if failed := object(t, out.Payload); aws.ToString(out.FunctionError) != "Unhandled" || failed["errorType"] != "RangeError" || failed["errorMessage"] != "on purpose" || failed["trace"] == nil {
		t.Errorf("a failure: %s %s", aws.ToString(out.FunctionError), out.Payload)
	}
	deploy("npm-ric-stream", "app.stream")
	if out := invoke(t, c, &lambda.InvokeInput{FunctionName: aws.String("npm-ric-stream"), Payload: []byte(`{}`)}); out.FunctionError != nil || string(out.Payload) != "one,two" {
		t.Errorf("a stream, read whole: %s %q", aws.ToString(out.FunctionError), out.Payload)
	}
	deploy("npm-ric-missing", "app.none")
	if out := invoke(t, c, &lambda.InvokeInput{FunctionName: aws.String("npm-ric-missing"), Payload: []byte(`{}`)}); object(t, out.Payload)["errorType"] != "Runtime.HandlerNotFound" {
		t.Errorf("a handler that is not there: %s", out.Payload)
	}
}
