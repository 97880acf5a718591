package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
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

// publicURL gives a function a URL that anyone may call, and returns its host.
func publicURL(t testing.TB, c *client.Client, name string, mode types.InvokeMode) (host string) {
	t.Helper()
	out, err := c.Lambda.CreateFunctionUrlConfig(t.Context(), &lambda.CreateFunctionUrlConfigInput{FunctionName: &name, AuthType: types.FunctionUrlAuthTypeNone, InvokeMode: mode})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Lambda.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: &name, StatementId: aws.String("everybody"),
		Action: aws.String("lambda:InvokeFunctionUrl"), Principal: aws.String("*"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(aws.ToString(out.FunctionUrl))
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// post sends a request to a function URL, at the server's address: not every host finds names under localhost.
func post(t testing.TB, host, path, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shared.Client.Endpoint+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	r.Header.Set("Content-Type", "text/plain")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// fetch is post for answers that are read at once; err says that the body broke off.
func fetch(t testing.TB, host, path, body string) (*http.Response, string, error) {
	t.Helper()
	res := post(t, host, path, body)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res, string(text), err
}

// TestURLInShell types what the README says, with curl finding the name itself.
func TestURLInShell(t *testing.T) {
	newAWS(t)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	python(t, sharedClient(t), "hello-url", "def handler(event, context):\n    return {'greeting': 'Hello, ' + event['queryStringParameters']['name']}\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", `eval "$("$0" env --data "$1")"
aws lambda create-function-url-config --function-name hello-url --auth-type NONE >&2
aws lambda add-permission --function-name hello-url --statement-id everybody \
    --action lambda:InvokeFunctionUrl --principal '*' --function-url-auth-type NONE >&2
curl -s "$(aws lambda get-function-url-config --function-name hello-url --query FunctionUrl --output text)?name=Ada"`, binary, dataDir())
	cmd.Env = append(os.Environ(), "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null")
	var errs strings.Builder
	cmd.Stderr = &errs
	if out, err := cmd.Output(); err != nil || string(out) != `{"greeting":"Hello, Ada"}` {
		t.Errorf("%v: %s\n%s", err, out, errs.String())
	}
}

const urlEcho = `
import json

def handler(event, context):
    if event['rawPath'] == '/fail':
        raise RuntimeError('secret')
    if event['rawPath'] == '/large':
        return 'x' * 7000000
    return {'statusCode': 201, 'headers': {'content-type': 'text/plain'}, 'cookies': ['a=b'], 'body': json.dumps({'event': event, 'id': context.aws_request_id, 'arn': context.invoked_function_arn})}
`

func TestFunctionURLs(t *testing.T) {
	c := sharedClient(t)
	python(t, c, "url-echo", urlEcho)
	host := publicURL(t, c, "url-echo", "")
	for path, where := range map[string]string{"/a/b?x=1&x=2": host, "/lambda-url/" + host[:32] + "/a/b?x=1&x=2": ""} {
		res, body, err := fetch(t, where, path, "text")
		var got struct {
			Event struct {
				RawPath, Body         string
				QueryStringParameters map[string]string
				RequestContext        struct{ HTTP struct{ SourceIP string } }
			}
			ID, ARN string
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if err != nil || res.StatusCode != 201 || res.Header.Get("Set-Cookie") != "a=b" || got.Event.RawPath != "/a/b" || got.Event.Body != "text" || got.Event.QueryStringParameters["x"] != "1,2" ||
			got.ID != res.Header.Get("x-amzn-RequestId") || got.Event.RequestContext.HTTP.SourceIP != "127.0.0.1" || !strings.HasSuffix(got.ARN, ":function:url-echo") {
			t.Errorf("%s: %v %s", path, res, body)
		}
	}
	for _, path := range []string{"/fail", "/large"} {
		if res, body, _ := fetch(t, host, path, ""); res.StatusCode != 502 || body != "Internal Server Error" {
			t.Errorf("%s: %s %.200s", path, res.Status, body)
		}
	}
	if res, _, _ := fetch(t, host, "/", strings.Repeat("x", 6300000)); res.StatusCode != 413 {
		t.Errorf("a large body: %s", res.Status)
	}
	name := "url-echo"
	if _, err := c.Lambda.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	if res, body, _ := fetch(t, host, "/", ""); res.StatusCode != 429 {
		t.Errorf("without concurrency: %s %s", res.Status, body)
	}
}

const urlStreamer = `
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  const out = awslambda.HttpResponseStream.from(stream, { statusCode: 203, headers: { 'content-type': 'text/event-stream', 'x-own': 'yes' }, cookies: ['a=b'] });
  for (let i = 0; i < 3; i++) {
    out.write('data: ' + i + '\n\n');
    if (i < 2) await new Promise((done) => setTimeout(done, 1500));
  }
  out.end();
});
`

func TestFunctionURLStreams(t *testing.T) {
	c := sharedClient(t)
	node(t, c, "url-streams", urlStreamer, timeout(20))
	host := publicURL(t, c, "url-streams", types.InvokeModeResponseStream)
	res := post(t, host, "/", "")
	defer res.Body.Close()
	var at []time.Time
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: ") {
			at = append(at, time.Now())
		}
	}
	if lines.Err() != nil || res.StatusCode != 203 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("X-Own") != "yes" || res.Header.Get("Set-Cookie") != "a=b" || len(at) != 3 {
		t.Fatalf("%v %v, %d lines", lines.Err(), res, len(at))
	}
	if gap := at[2].Sub(at[0]); gap < 100*time.Millisecond {
		t.Errorf("all lines came within %s, although they were made three seconds apart", gap)
	}
	// A path of the API is the function's, too, though who serves that path sends nothing in parts.
	if res, body, err := fetch(t, host, "/2015-03-31/functions/f/invocations", "{}"); err != nil || res.StatusCode != 203 || strings.Count(body, "data: ") != 3 {
		t.Errorf("%v %v %q", err, res, body)
	}
}

// TestURLCommands gives a function an address, calls it there, and takes it away.
func TestURLCommands(t *testing.T) {
	c := sharedClient(t)
	python(t, c, "url-commands", "def handler(event, context):\n    return event['rawPath']\n")
	address := func(args ...string) string {
		out, _ := run(t, 0, append([]string{"url", "add"}, args...)...)
		u, err := url.Parse(strings.TrimSpace(out))
		if err != nil || u.Path != "/" {
			t.Fatalf("add printed %q", out)
		}
		return u.Host
	}
	host := address("url-commands")
	if res, body, _ := fetch(t, host, "/x", ""); res.StatusCode != 200 || body != "/x" {
		t.Errorf("%s %s", res.Status, body)
	}
	if out, _ := run(t, 0, "url", "list", "url-commands"); !strings.Contains(out, host) || !strings.Contains(out, "BUFFERED") {
		t.Errorf("list printed %q", out)
	}
	run(t, 1, "url", "add", "url-commands")
	run(t, 0, "url", "remove", "url-commands")
	if res, _, _ := fetch(t, host, "/x", ""); res.StatusCode != 403 {
		t.Errorf("removed: %s", res.Status)
	}
	host = address("url-commands", "--signed")
	if res, _, _ := fetch(t, host, "/x", ""); res.StatusCode != 403 {
		t.Errorf("unsigned: %s", res.Status)
	}
	run(t, 0, "url", "remove", "url-commands")
	run(t, 1, "url", "remove", "url-commands")
}
