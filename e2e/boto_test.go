package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// botoWithin bounds the script: some hundred calls, and five provisioned environments.
const botoWithin = 4 * time.Minute

// TestBoto tries every paginator and waiter that botocore has, as boto3 and both AWS CLIs do.
func TestBoto(t *testing.T) {
	sharedClient(t)
	runtime := pythonRuntime(t)
	ctx, cancel := context.WithTimeout(t.Context(), botoWithin)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "python3", "-c", "import botocore.session").CombinedOutput(); err != nil {
		t.Skipf("python3 has no botocore here: %s", lastLine(out))
	}
	s := start(t, t.TempDir()) // whose lists hold nothing else
	cmd := exec.CommandContext(ctx, "python3", "testdata/boto/pages.py", s.Client.Endpoint, runtime)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+s.Client.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+s.Client.SecretAccessKey, "AWS_REGION="+s.Client.Region,
		"AWS_DEFAULT_REGION="+s.Client.Region, "AWS_CONFIG_FILE=/dev/null", "AWS_MAX_ATTEMPTS=1", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var tried struct {
		Botocore            string
		Paginators, Waiters []string
	}
	if err := json.Unmarshal([]byte(lastLine(out)), &tried); err != nil || len(tried.Paginators) < 10 || len(tried.Waiters) < 6 {
		t.Fatalf("the script says %s (%v)", out, err)
	}
	t.Logf("botocore %s: %d paginators, %d waiters", tried.Botocore, len(tried.Paginators), len(tried.Waiters))
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
