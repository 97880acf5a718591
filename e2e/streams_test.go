package e2e

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

// streamer answers by its event: it writes so many parts, a pause after each, and then does what "then" says.
const streamer = `
exports.handler = awslambda.streamifyResponse(async (event, out) => {
  out.setContentType('text/plain');
  for (let i = 0; i < event.parts; i++) {
    out.write(event.size ? Buffer.alloc(event.size, 'x') : 'part ' + i + '\n');
    await new Promise((done) => setTimeout(done, event.pause || 1));
  }
  if (event.then === 'throw') throw new TypeError('in the middle');
  if (event.then === 'exit') process.exit(3);
  if (event.then === 'hang') await new Promise((done) => setTimeout(done, 60000));
  out.end();
});
`

func node(t testing.TB, c *client.Client, name, code string, options ...func(*lambda.CreateFunctionInput)) {
	t.Helper()
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: types.Runtime(nodeRuntime(t)), Handler: aws.String("index.handler"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, "index.js", code)},
	}
	for _, option := range options {
		option(in)
	}
	create(t, c, in)
}

// seen is what a client got of a streamed response.
type seen struct {
	text string
	at   []time.Time // when each chunk came
	end  types.InvokeWithResponseStreamCompleteEvent
}

func stream(t testing.TB, c *client.Client, name, payload string) seen {
	t.Helper()
	out, err := c.Lambda.InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: &name, Payload: []byte(payload), LogType: types.LogTypeTail})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(out.ExecutedVersion) != "$LATEST" || out.StatusCode != 200 {
		t.Errorf("%+v", out)
	}
	var got seen
	ended := false
	defer out.GetStream().Close()
	for event := range out.GetStream().Events() {
		switch event := event.(type) {
		case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			got.text += string(event.Value.Payload)
			got.at = append(got.at, time.Now())
		case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			got.end, ended = event.Value, true
		}
	}
	if err := out.GetStream().Err(); err != nil || !ended {
		t.Errorf("%s %s: %v, ended: %t", name, payload, err, ended)
	}
	return got
}

func TestInvokeWithResponseStream(t *testing.T) {
	c := sharedClient(t)
	node(t, c, "streams", streamer, timeout(20))
	node(t, c, "streams-briefly", streamer, timeout(1))
	python(t, c, "streams-not", "def handler(event, context):\n    return event['a']\n")

	got := stream(t, c, "streams", `{"parts":3,"pause":1500}`)
	if got.text != "part 0\npart 1\npart 2\n" || got.end.ErrorCode != nil || len(got.at) != 3 {
		t.Errorf("%+v", got)
	} else if gap := got.at[2].Sub(got.at[0]); gap < 100*time.Millisecond { // three seconds, less what the first part took on its way
		t.Errorf("all parts came within %s, although they were made three seconds apart", gap)
	}
	if log, err := base64.StdEncoding.DecodeString(aws.ToString(got.end.LogResult)); err != nil || !strings.Contains(string(log), "REPORT RequestId") {
		t.Errorf("log %q, %v", log, err)
	}
	for _, c2 := range []struct{ name, payload, text, details string }{
		{"streams", `{"parts":1,"then":"throw"}`, "part 0\n", "in the middle"},
		{"streams", `{"parts":1,"then":"exit"}`, "part 0\n", "Runtime.ExitError"},
		{"streams", `{"parts":0,"then":"throw"}`, "", "in the middle"},
		{"streams-briefly", `{"parts":1,"then":"hang"}`, "part 0\n", "Sandbox.Timedout"},
		{"streams-not", `{}`, "", "KeyError"},
		{"streams-not", `{"a":[1]}`, "[1]", ""},
		{"streams", `{"parts":1}`, "part 0\n", ""}, // after all these
	} {
		got := stream(t, c, c2.name, c2.payload)
		if got.text != c2.text || aws.ToString(got.end.ErrorCode) != map[bool]string{true: "Unhandled"}[c2.details != ""] || !strings.Contains(aws.ToString(got.end.ErrorDetails), c2.details) {
			t.Errorf("%s %s: %q %s %s", c2.name, c2.payload, got.text, aws.ToString(got.end.ErrorCode), aws.ToString(got.end.ErrorDetails))
		}
	}
	large := stream(t, c, "streams", `{"parts":20,"size":1000000}`)
	if len(large.text) != 20_000_000 || large.end.ErrorCode != nil {
		t.Errorf("%d bytes, %s", len(large.text), aws.ToString(large.end.ErrorDetails))
	}
}

// A client that leaves, or does not read, does not end the invocation: its place is taken until it ends. Its time limit holds.
func TestStreamsWithoutReader(t *testing.T) {
	c := sharedClient(t)
	name := "streams-alone"
	const limit = 3 * time.Second
	node(t, c, name, streamer, timeout(int32(limit/time.Second)))
	if _, err := c.Lambda.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	for what, payload := range map[string]string{"leaves": `{"parts":1000,"pause":20}`, "does not read": `{"parts":1000,"size":1000000}`} {
		var out *lambda.InvokeWithResponseStreamOutput
		var began time.Time
		c := client.New(shared.Client) // of its own: the streams of one SDK client share a decoder, and closing one does not wait for its reader
		defer c.Close()
		free(t, what, func() (err error) {
			began = time.Now()
			out, err = c.Lambda.InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: &name, Payload: []byte(payload)})
			return err
		})
		<-out.GetStream().Events() // it runs
		if what == "leaves" {
			out.GetStream().Close()
		} else {
			defer out.GetStream().Close()
		}
		throttled := free(t, what, func() error {
			_, err := c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"parts":0}`)}, func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
			return err
		})
		if throttled == 0 && time.Since(began) < limit { // the function cannot have ended
			t.Errorf("a client that %s: another call ran beside the one that goes on", what)
		}
	}
}

// free makes a call until it is not throttled, and counts how often it was.
func free(t *testing.T, what string, call func() error) (throttled int) {
	t.Helper()
	for began := time.Now(); ; throttled++ {
		err := call()
		if err == nil {
			return throttled
		}
		var full *types.TooManyRequestsException
		if !errors.As(err, &full) {
			t.Fatalf("a client that %s: %v", what, err)
		}
		if time.Since(began) > 30*time.Second { // the function has 3, and a reader of the API a minute
			t.Fatalf("a client that %s holds its function for %s", what, time.Since(began))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// rawStreamer is a runtime of its own that streams as the Runtime API's documentation says, with an error in the trailers.
const rawStreamer = `#!/usr/bin/env python3
import base64, http.client, os
api = os.environ['AWS_LAMBDA_RUNTIME_API']
while True:
    c = http.client.HTTPConnection(api)
    c.request('GET', '/2018-06-01/runtime/invocation/next')
    r = c.getresponse()
    event = r.read()
    c.putrequest('POST', '/2018-06-01/runtime/invocation/' + r.getheader('Lambda-Runtime-Aws-Request-Id') + '/response')
    for k, v in {'Lambda-Runtime-Function-Response-Mode': 'streaming', 'Transfer-Encoding': 'chunked', 'Content-Type': 'application/vnd.awslambda.http-integration-response',
                 'Trailer': 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body'}.items():
        c.putheader(k, v)
    c.endheaders()
    for part in [b'{"statusCode":206,"headers":{"content-type":"text/plain","x-own":"1"},"cookies":["a=b"]}', bytes(8), b'one ', b'two']:
        c.send(b'%x\r\n%s\r\n' % (len(part), part))
    end = b'0\r\n'
    if b'fail' in event:
        end += b'Lambda-Runtime-Function-Error-Type: Own.Error\r\nLambda-Runtime-Function-Error-Body: ' + base64.b64encode(b'{"errorType":"Own.Error"}') + b'\r\n'
    c.send(end + b'\r\n')
    c.getresponse().read()
    c.close()
`

func TestRuntimesOfOneSOwnStream(t *testing.T) {
	c := sharedClient(t)
	create(t, c, &lambda.CreateFunctionInput{FunctionName: aws.String("streams-raw"), Runtime: "provided.al2023", Handler: aws.String("x"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, "bootstrap", rawStreamer)}})
	const prelude = `{"statusCode":206,"headers":{"content-type":"text/plain","x-own":"1"},"cookies":["a=b"]}` + "\x00\x00\x00\x00\x00\x00\x00\x00"
	if got := stream(t, c, "streams-raw", `{}`); got.text != prelude+"one two" || got.end.ErrorCode != nil {
		t.Errorf("%+v", got)
	}
	if got := stream(t, c, "streams-raw", `"fail"`); got.text != prelude+"one two" || !strings.Contains(aws.ToString(got.end.ErrorDetails), "Own.Error") {
		t.Errorf("%+v", got)
	}
	host := publicURL(t, c, "streams-raw", types.InvokeModeResponseStream)
	res, body, err := fetch(t, host, "/", "")
	if err != nil || res.StatusCode != 206 || res.Header.Get("X-Own") != "1" || res.Header.Get("Set-Cookie") != "a=b" || body != "one two" {
		t.Errorf("%v %v %q", err, res, body)
	}
	if res, body, err := fetch(t, host, "/fail", ""); err == nil || body != "one two" {
		t.Errorf("a stream that fails looks whole: %v %q", res, body)
	}
}

const botoStream = `
import boto3, json
client = boto3.client('lambda')
answer = client.invoke_with_response_stream(FunctionName='streams-boto', Payload=b'{"parts":2,"then":"throw"}', LogType='Tail')
chunks, end = [], None
for event in answer['EventStream']:
    if 'PayloadChunk' in event: chunks.append(event['PayloadChunk']['Payload'].decode())
    if 'InvokeComplete' in event: end = event['InvokeComplete']
assert ''.join(chunks) == 'part 0\npart 1\n', chunks
assert end['ErrorCode'] == 'Unhandled' and json.loads(end['ErrorDetails'])['errorMessage'] == 'in the middle' and end['LogResult'], end
assert answer['ExecutedVersion'] == '$LATEST' and answer['ResponseStreamContentType'] == 'application/vnd.amazon.eventstream', answer
`

func TestStreamsWithBoto3(t *testing.T) {
	c := sharedClient(t)
	python, err := exec.LookPath("python3")
	if err != nil || exec.Command(python, "-c", "import boto3").Run() != nil {
		t.Skip("python3 has no boto3")
	}
	node(t, c, "streams-boto", streamer)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-c", botoStream)
	cmd.Env = append(os.Environ(), berthEnv(t)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// The same over several processes.
func TestStreamsOverProcesses(t *testing.T) {
	p := startProcesses(t, 1, 1)
	c := p.frontends[0]
	node(t, c, "streams-far", streamer, timeout(3))
	if got := stream(t, c, "streams-far", `{"parts":3}`); got.text != "part 0\npart 1\npart 2\n" || got.end.ErrorCode != nil {
		t.Errorf("%+v", got)
	}
	if got := stream(t, c, "streams-far", `{"parts":1,"then":"hang"}`); got.text != "part 0\n" || !strings.Contains(aws.ToString(got.end.ErrorDetails), "Sandbox.Timedout") {
		t.Errorf("%+v", got)
	}
}
