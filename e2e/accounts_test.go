package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// service runs a command of another service than Lambda, as somebody.
func (a *awsCLI) service(t *testing.T, env []string, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.path, args...)
	cmd.Env = append(os.Environ(), slices.Concat(a.env, env)...)
	cmd.Dir = a.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return out.String(), errs.String(), err == nil
}

// newKey makes an access key, and returns the environment of its holder.
func newKey(t *testing.T, args ...string) []string {
	t.Helper()
	out, errs, code := berth(t, nil, append([]string{"key", "create", "--json", "--data", dataDir()}, args...)...)
	var key struct{ AccessKeyID, SecretAccessKey string }
	if err := json.Unmarshal([]byte(out), &key); err != nil || code != 0 {
		t.Fatalf("berth key create: %s %v", errs, err)
	}
	return []string{"AWS_ACCESS_KEY_ID=" + key.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + key.SecretAccessKey}
}

// TestAWSCLIBetweenAccounts asks who it is, and calls a function of another account before and after it may.
func TestAWSCLIBetweenAccounts(t *testing.T) {
	a := newAWS(t)
	if out, errs, code := berth(t, nil, "account", "create", "000000000042", "--data", dataDir()); code != 0 {
		t.Fatal(out, errs)
	}
	guest := newKey(t, "--account", "000000000042", "--user", "ann")
	policy := filepath.Join(a.dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"logs:Describe*","Resource":"*"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	reader := newKey(t, "--user", "reader", "--policy", policy)

	for _, tt := range []struct {
		env  []string
		want string
	}{{nil, "arn:aws:iam::000000000001:root"}, {guest, "arn:aws:iam::000000000042:user/ann"}, {reader, "arn:aws:iam::000000000001:user/reader"}} {
		if out, errs, ok := a.service(t, tt.env, "sts", "get-caller-identity", "--output", "text", "--query", "Arn"); !ok || strings.TrimSpace(out) != tt.want {
			t.Errorf("get-caller-identity: %q %s; want %s", out, errs, tt.want)
		}
	}
	if _, errs, ok := a.service(t, nil, "sts", "assume-role", "--role-arn", role, "--role-session-name", "session"); ok || !strings.Contains(errs, "(AccessDenied)") || !strings.Contains(errs, "no roles") {
		t.Errorf("assume-role: %s", errs)
	}
	wrong := []string{"AWS_SECRET_ACCESS_KEY=wrong"}
	if _, errs, ok := a.service(t, wrong, "sts", "get-caller-identity"); ok || !strings.Contains(errs, "SignatureDoesNotMatch") {
		t.Errorf("get-caller-identity with a wrong secret: %s", errs)
	}
	if _, errs, ok := a.service(t, reader, "logs", "describe-log-groups"); !ok {
		t.Errorf("describe-log-groups: %s", errs)
	}
	if _, errs, ok := a.service(t, reader, "logs", "filter-log-events", "--log-group-name", "/aws/lambda/x"); ok || !strings.Contains(errs,
		"not authorized to perform: logs:FilterLogEvents on resource: arn:aws:logs:us-east-1:000000000001:log-group:/aws/lambda/x:log-stream: because no identity-based") {
		t.Errorf("filter-log-events: %s", errs)
	}

	s := sources[0]
	a.run(t, "create-function", "--function-name", "shared", "--runtime", s.runtime(t), "--handler", s.handler,
		"--role", role, "--zip-file", a.write(t, "one.zip", s.zip(t, "one")))
	a.run(t, "wait", "function-active-v2", "--function-name", "shared")
	invoke := []string{"lambda", "invoke", "--function-name", "arn:aws:lambda:us-east-1:000000000001:function:shared", "answer.json"}
	if _, errs, ok := a.service(t, guest, invoke...); ok || !strings.Contains(errs, "(AccessDeniedException)") || !strings.Contains(errs, "no resource-based policy") {
		t.Errorf("invoked without a permission: %s", errs)
	}
	a.run(t, "add-permission", "--function-name", "shared", "--statement-id", "guest", "--action", "lambda:InvokeFunction", "--principal", "000000000042")
	if _, errs, ok := a.service(t, guest, invoke...); !ok {
		t.Errorf("invoked with a permission: %s", errs)
	}
	a.run(t, "delete-function", "--function-name", "shared")
}
