package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"berth/clientfile"
)

// botoWithin bounds the script: some hundred calls, and five provisioned environments.
const botoWithin = 4 * time.Minute

// TestBoto tries every paginator and waiter that botocore has, as boto3 and both AWS CLIs do.
func TestBoto(t *testing.T) {
	sharedClient(t)
	runtime := pythonRuntime(t)
	needBoto(t)
	s := start(t, t.TempDir()) // whose lists hold nothing else
	out := boto(t, s.Client, "pages.py", s.Client.Endpoint, runtime)
	var tried struct {
		Botocore            string
		Paginators, Waiters []string
	}
	if err := json.Unmarshal([]byte(lastLine(out)), &tried); err != nil || len(tried.Paginators) < 10 || len(tried.Waiters) < 6 {
		t.Fatalf("the script says %s (%v)", out, err)
	}
	t.Logf("botocore %s: %d paginators, %d waiters", tried.Botocore, len(tried.Paginators), len(tried.Waiters))
}

// TestLogsTailFollow follows a group as the CLI's `logs tail --follow` does, while the function is called: every line comes
// once, and in order.
func TestLogsTailFollow(t *testing.T) {
	c := sharedClient(t)
	needBoto(t)
	const name, calls = "log-followed", 30
	python(t, c, name, "def handler(event, context):\n    print('call', event['call'])\n")
	var messages []string
	if err := json.Unmarshal([]byte(lastLine(boto(t, shared.Client, "tail.py", shared.Client.Endpoint, name, fmt.Sprint(calls)))), &messages); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, message := range messages {
		if strings.HasPrefix(message, "call ") {
			if message != fmt.Sprintf("call %d\n", n) {
				t.Errorf("line %d of the function's is %q", n, message)
			}
			n++
		}
	}
	if n != calls {
		t.Errorf("%d lines of the function's, want %d: %q", n, calls, messages)
	}
}

func needBoto(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", "import botocore.session").CombinedOutput(); err != nil {
		t.Skipf("python3 has no botocore here: %s", lastLine(out))
	}
}

// boto runs a script of testdata/boto as a server's user, and returns what it printed.
func boto(t *testing.T, server clientfile.File, script string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), botoWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", append([]string{"testdata/boto/" + script}, args...)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+server.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+server.SecretAccessKey, "AWS_REGION="+server.Region,
		"AWS_DEFAULT_REGION="+server.Region, "AWS_CONFIG_FILE=/dev/null", "AWS_MAX_ATTEMPTS=1", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
