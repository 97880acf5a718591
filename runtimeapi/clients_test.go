package runtimeapi

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startGo builds the function of testdata, unmodified aws-lambda-go, and runs it against api until the test ends.
func startGo(t testing.TB, addr string) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "bootstrap")
	if out, err := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", bin, "./testdata/hello").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	startClient(t, exec.Command(bin), addr)
}

func startClient(t testing.TB, cmd *exec.Cmd, addr string) {
	t.Helper()
	cmd.Env = append(os.Environ(), "AWS_LAMBDA_RUNTIME_API="+addr, "_HANDLER=x")
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func TestAWSLambdaGo(t *testing.T) {
	api, addr := serve(t)
	startGo(t, addr)
	call := func(payload string) Response {
		t.Helper()
		r, err := api.Invoke(short(t), &Event{RequestID: "id-1", Deadline: time.UnixMilli(1999999999999), InvokedARN: "arn:x", Tenant: "blue",
			ClientContext: `{"custom":{"k":"v"}}`, Payload: []byte(payload)})
		if err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		return r
	}
	want := `{"Text":"hi","RequestID":"id-1","ARN":"arn:x","Tenant":"blue","Deadline":1999999999999,"Custom":{"k":"v"}}`
	for range 3 {
		if r := call(`{"Text":"hi"}`); strings.TrimSpace(string(r.Payload)) != want || r.IsError {
			t.Errorf("%s", r.Payload)
		}
	}
	if r := call(`{"Do":"error","Text":"Error: some_error_msg"}`); !r.IsError || string(r.Payload) != `{"errorMessage":"Error: some_error_msg","errorType":"errorString"}` {
		t.Errorf("%+v %s", r.IsError, r.Payload) // as recorded in TestGoProvidedRuntimes::test_uncaught_exception_invoke
	}
	if r := call(`{"Do":"stream","Text":"streamed"}`); r.IsError || string(r.Payload) != "streamed" {
		t.Errorf("%s", r.Payload)
	}
	r := call(`{"Do":"broken stream"}`)
	var e struct{ ErrorMessage, ErrorType string }
	if err := json.Unmarshal(r.Payload, &e); err != nil || !r.IsError || e.ErrorMessage != "broke off" || r.ErrorType != "errorString" {
		t.Errorf("a stream that breaks off: %v %s %q", err, r.Payload, r.ErrorType)
	}
	if r := call(`{"Do":"large"}`); !r.TooLarge {
		t.Errorf("a response of 7 MiB: %d bytes", len(r.Payload))
	}
}

// ricLoop does what the official Python client's loop does, with the standard library.
const ricLoop = `
import http.client, json, os
c = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
base = "/2018-06-01/runtime/invocation/"
while True:
    c.request("GET", base + "next")
    r = c.getresponse(); event = json.loads(r.read()); rid = r.headers["Lambda-Runtime-Aws-Request-Id"]
    if event == "fail":
        body, verb, headers = {"errorMessage": "m"}, "/error", {"Lambda-Runtime-Function-Error-Type": "Unhandled", "Lambda-Runtime-Function-Xray-Error-Cause": "x" * 100000}
    else:
        body, verb, headers = event, "/response", {}
    c.request("POST", base + rid + verb, json.dumps(body), headers)
    r = c.getresponse()
    assert r.status == 202, r.status
    r.read()
`

func TestPythonHTTPClient(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on the PATH")
	}
	api, addr := serve(t)
	startClient(t, exec.Command(python, "-c", ricLoop), addr)
	for i, payload := range []string{`"a"`, `"fail"`, `{"k": [1, 2]}`, `"` + strings.Repeat("x", 2<<20) + `"`} {
		r, err := api.Invoke(short(t), &Event{RequestID: string(rune('a' + i)), Payload: []byte(payload)})
		switch {
		case err != nil:
			t.Fatal(err)
		case payload == `"fail"`:
			if !r.IsError || r.ErrorType != "Unhandled" || string(r.Payload) != `{"errorMessage": "m"}` {
				t.Errorf("%+v", r)
			}
		case string(r.Payload) != payload:
			t.Errorf("%.50s", r.Payload)
		}
		if err := api.WaitNext(short(t)); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkHTTPGo(b *testing.B) {
	api, addr := serve(b)
	startGo(b, addr)
	ctx := short(b)
	ev := &Event{RequestID: "5c9f4cbc-8c4e-4bd8-a2b8-8a5f6a3a3b3c", Deadline: time.Now().Add(time.Hour), InvokedARN: "arn:x", Payload: []byte(`{"Text":"hi"}`)}
	if err := api.WaitReady(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := api.Invoke(ctx, ev); err != nil {
			b.Fatal(err)
		}
	}
}
