package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

// logWithin is how soon a line must be readable after it was written.
const logWithin = time.Minute

// waitForLog waits until a log group has a line with the text, and returns all of the group's lines then.
func waitForLog(t *testing.T, c *client.Client, group, text string) string {
	t.Helper()
	var lines strings.Builder
	for deadline := time.Now().Add(logWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		lines.Reset()
		for event, err := range c.Logs(t.Context(), group, time.Time{}) {
			if err != nil {
				break // the group may not exist yet
			}
			lines.WriteString(strings.TrimRight(event.Message, "\n") + "\n")
		}
		if strings.Contains(lines.String(), text) {
			return lines.String()
		}
	}
	t.Fatalf("no line with %q in %s within %s; it has:\n%s", text, group, logWithin, lines.String())
	return ""
}

// The lines of one cold call, as AWS writes them.
var coldLog = regexp.MustCompile(`(?s)START RequestId: ([0-9a-f-]{36}) Version: \$LATEST\n` +
	`.*said by the function\n.*END RequestId: [0-9a-f-]{36}\n` +
	`REPORT RequestId: [0-9a-f-]{36}\tDuration: [0-9.]+ ms\tBilled Duration: [0-9]+ ms\tMemory Size: 128 MB\tMax Memory Used: [0-9]+ MB\tInit Duration: [0-9.]+ ms\t`)

func TestLogTail(t *testing.T) {
	c := sharedClient(t)
	name := "log-tail"
	python(t, c, name, "def handler(event, context):\n    print('said by the function')\n    return context.aws_request_id\n")
	in := &lambda.InvokeInput{FunctionName: &name, LogType: types.LogTypeTail}
	cold := tail(t, invoke(t, c, in))
	if !coldLog.MatchString(cold) {
		t.Errorf("the tail of a cold call is\n%s", cold)
	}
	warm := tail(t, invoke(t, c, in))
	if strings.Contains(warm, "Init Duration") || !strings.Contains(warm, "REPORT RequestId") {
		t.Errorf("the tail of a warm call is\n%s", warm)
	}
	if out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name}); out.LogResult != nil {
		t.Error("a call that did not ask for its log got one")
	}
	all := waitForLog(t, c, "/aws/lambda/"+name, "REPORT RequestId")
	if !strings.Contains(all, "INIT_START Runtime Version") {
		t.Errorf("no INIT_START in\n%s", all)
	}
}

func TestLogTailIsCut(t *testing.T) {
	c := sharedClient(t)
	name := "log-long"
	python(t, c, name, "def handler(event, context):\n    for i in range(500):\n        print('line', i, 'x' * 80)\n")
	out := tail(t, invoke(t, c, &lambda.InvokeInput{FunctionName: &name, LogType: types.LogTypeTail}))
	if len(out) > 4096 || len(out) < 3000 || !strings.Contains(out, "line 499") {
		t.Errorf("the tail has %d bytes, want the last 4096 at most:\n%s", len(out), out)
	}
}
