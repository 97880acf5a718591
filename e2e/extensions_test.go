package e2e

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// countingExtension counts invocations, in a file that the function reads.
const countingExtension = `#!/var/lang/bin/python3 -S
import json, os, urllib.request
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2020-01-01/extension/"
def call(path, headers, body=None):
    with urllib.request.urlopen(urllib.request.Request(base + path, body, headers)) as a: return a.headers, json.loads(a.read())
head, _ = call("register", {"Lambda-Extension-Name": "counter"}, b'{"events": ["INVOKE", "SHUTDOWN"]}')
n = 0
while True:
    event = call("event/next", {"Lambda-Extension-Identifier": head["Lambda-Extension-Identifier"]})[1]
    if event["eventType"] == "SHUTDOWN": break
    n += 1
    with open("/tmp/.count", "w") as f: f.write(str(n))
    os.rename("/tmp/.count", "/tmp/count")
`

// TestExtension publishes an extension as a layer and finds it at work.
func TestExtension(t *testing.T) {
	c := sharedClient(t)
	name := "extended"
	arn := layer(t, c, name, zipOf(t, "extensions/counter", countingExtension))
	handler := "app.handler"
	create(t, c, &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: types.Runtime(pythonRuntime(t)), Handler: &handler, Layers: []string{arn}, Timeout: aws.Int32(60),
		Code: &types.FunctionCode{ZipFile: zipOf(t, "app.py", `import time
def handler(event, context):
    while True:
        try: return open("/tmp/count").read()
        except FileNotFoundError: time.sleep(0.001)
`)},
	})
	out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{}`), LogType: types.LogTypeTail})
	if out.FunctionError != nil || !strings.HasPrefix(string(out.Payload), `"1`) {
		t.Errorf("answer %s", out.Payload)
	}
}
