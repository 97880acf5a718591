package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

const initTypeCode = "import os\ndef handler(event, context):\n    return {'type': os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']}\n"

// provision publishes a version of a function and provisions environments for it.
func provision(t *testing.T, c *client.Client, name string, n int32) {
	t.Helper()
	if _, err := c.Lambda.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: &name}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Lambda.PutProvisionedConcurrencyConfig(t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{
		FunctionName: &name, Qualifier: aws.String("1"), ProvisionedConcurrentExecutions: &n})
	if err != nil {
		t.Fatal(err)
	}
}

// waitProvisioned waits for a status and returns how long it took.
func waitProvisioned(t *testing.T, c *client.Client, name string, want types.ProvisionedConcurrencyStatusEnum) *lambda.GetProvisionedConcurrencyConfigOutput {
	t.Helper()
	var got *lambda.GetProvisionedConcurrencyConfigOutput
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		got, err = c.Lambda.GetProvisionedConcurrencyConfig(t.Context(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: aws.String("1")})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status == want {
			return got
		}
	}
	t.Fatalf("provisioned concurrency is %s, want %s", got.Status, want)
	return nil
}

// TestProvisionedConcurrencySurvivesKill kills the server and starts it again: what was provisioned is provisioned anew.
func TestProvisionedConcurrencySurvivesKill(t *testing.T) {
	sharedClient(t)
	data := t.TempDir()
	s := start(t, data)
	c := client.New(s.Client)
	python(t, c, "warm", initTypeCode)
	provision(t, c, "warm", 3)
	waitProvisioned(t, c, "warm", types.ProvisionedConcurrencyStatusEnumReady)
	c.Close()
	s.Kill()
	s = start(t, data)
	c = client.New(s.Client)
	defer c.Close()
	got := waitProvisioned(t, c, "warm", types.ProvisionedConcurrencyStatusEnumReady)
	if n := aws.ToInt32(got.AllocatedProvisionedConcurrentExecutions); n != 3 {
		t.Errorf("%d allocated, want 3", n)
	}
	if out := call(t, c, "warm", "1", `{}`); out["type"] != "provisioned-concurrency" {
		t.Errorf("the version ran %v", out)
	}
	if out := call(t, c, "warm", "", `{}`); out["type"] != "on-demand" {
		t.Errorf("$LATEST ran %v", out)
	}
}

// TestProvisionedInitFailure provisions a function that cannot be imported.
func TestProvisionedInitFailure(t *testing.T) {
	c := sharedClient(t)
	python(t, c, "provisioned-broken", "raise Exception('no')\n")
	provision(t, c, "provisioned-broken", 2)
	got := waitProvisioned(t, c, "provisioned-broken", types.ProvisionedConcurrencyStatusEnumFailed)
	if r := aws.ToString(got.StatusReason); r != "FUNCTION_ERROR_INIT_FAILURE" {
		t.Errorf("the reason is %q", r)
	}
}

// TestAccountCommand shows and sets the account's limit with the binary.
func TestAccountCommand(t *testing.T) {
	sharedClient(t)
	for _, args := range [][]string{{"account", "show"}, {"account", "set", "--concurrency", "1000"}} {
		out, errs, code := berth(t, nil, append(args, "--json", "--data", dataDir())...)
		if code != 0 || !strings.Contains(out, `"concurrency":1000`) {
			t.Errorf("%v: exit code %d, %q, %q", args, code, out, errs)
		}
	}
	if _, errs, code := berth(t, nil, "account", "set", "--concurrency", "50", "--data", dataDir()); code != 1 || !strings.Contains(errs, "100 must stay unreserved") {
		t.Errorf("a limit below 100: exit code %d, %q", code, errs)
	}
}

// TestProcessesShowProvisionedConcurrency: what a manager in another process has made, or failed to make, is seen through a
// frontend that has no manager.
func TestProcessesShowProvisionedConcurrency(t *testing.T) {
	p := startProcesses(t, 2, 1)
	c := p.frontends[0]
	python(t, c, "warm", initTypeCode)
	provision(t, c, "warm", 2)
	got := waitProvisioned(t, c, "warm", types.ProvisionedConcurrencyStatusEnumReady)
	if n := aws.ToInt32(got.AllocatedProvisionedConcurrentExecutions); n != 2 {
		t.Errorf("%d allocated, want 2", n)
	}
	if out := call(t, c, "warm", "1", `{}`); out["type"] != "provisioned-concurrency" {
		t.Errorf("the version ran %v", out)
	}
	python(t, c, "broken", "raise Exception('no')\n")
	provision(t, c, "broken", 2)
	got = waitProvisioned(t, c, "broken", types.ProvisionedConcurrencyStatusEnumFailed)
	if r := aws.ToString(got.StatusReason); r != "FUNCTION_ERROR_INIT_FAILURE" {
		t.Errorf("the reason is %q", r)
	}
	list, err := c.Lambda.ListProvisionedConcurrencyConfigs(t.Context(), &lambda.ListProvisionedConcurrencyConfigsInput{FunctionName: aws.String("warm")})
	if err != nil || len(list.ProvisionedConcurrencyConfigs) != 1 || list.ProvisionedConcurrencyConfigs[0].Status != types.ProvisionedConcurrencyStatusEnumReady {
		t.Errorf("the list shows %+v, %v", list, err)
	}
}
