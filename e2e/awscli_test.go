package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// awsCLI is the aws command pointed at the shared server by what `berth env` prints.
type awsCLI struct {
	path string
	env  []string
	dir  string
}

func newAWS(t *testing.T) *awsCLI {
	t.Helper()
	sharedClient(t)
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the aws CLI is not installed")
	}
	return &awsCLI{path: path, env: berthEnv(t), dir: t.TempDir()}
}

// berthEnv returns the variables of `berth env` as KEY=VALUE.
func berthEnv(t *testing.T) []string {
	t.Helper()
	out, errs, code := berth(t, nil, "env", "--json", "--data", dataDir())
	if code != 0 {
		t.Fatalf("berth env: %s", errs)
	}
	var variables map[string]string
	if err := json.Unmarshal([]byte(out), &variables); err != nil {
		t.Fatal(err)
	}
	env := []string{"AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null"}
	for key, value := range variables {
		env = append(env, key+"="+value)
	}
	return env
}

func dataDir() string { return filepath.Join(filepath.Dir(binary), "data") }

// try runs one command, and returns its output and whether it went well.
func (a *awsCLI) try(t *testing.T, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.path, append([]string{"lambda"}, args...)...)
	cmd.Env = append(os.Environ(), a.env...)
	cmd.Dir = a.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return out.String(), errs.String(), err == nil
}

// run runs one command that must go well, and returns its JSON.
func (a *awsCLI) run(t *testing.T, args ...string) map[string]any {
	t.Helper()
	out, errs, ok := a.try(t, args...)
	if !ok {
		t.Fatalf("aws lambda %s: %s", strings.Join(args, " "), errs)
	}
	if strings.TrimSpace(out) == "" {
		return nil
	}
	return object(t, []byte(out))
}

func (a *awsCLI) write(t *testing.T, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return "fileb://" + name
}

// invoke calls a function and returns the call's own answer and the function's.
func (a *awsCLI) invoke(t *testing.T, name, qualifier string) (map[string]any, map[string]any) {
	t.Helper()
	event := a.write(t, "event.json", []byte(`{"key":"value"}`))
	meta := a.run(t, "invoke", "--function-name", name, "--qualifier", qualifier, "--payload", event, "answer.json")
	payload, err := os.ReadFile(filepath.Join(a.dir, "answer.json"))
	if err != nil {
		t.Fatal(err)
	}
	return meta, object(t, payload)
}

// TestAWSCLI is TestLifecycle, typed at a shell.
func TestAWSCLI(t *testing.T) {
	for _, s := range sources {
		t.Run(s.language, func(t *testing.T) {
			a := newAWS(t)
			name := "cli-" + s.language
			created := a.run(t, "create-function", "--function-name", name, "--runtime", s.runtime(t), "--handler", s.handler,
				"--role", role, "--zip-file", a.write(t, "one.zip", s.zip(t, "one")))
			if created["State"] != "Pending" {
				t.Errorf("created in state %v, want Pending", created["State"])
			}
			a.run(t, "wait", "function-active-v2", "--function-name", name)
			if meta, answer := a.invoke(t, name, "$LATEST"); answer["answer"] != "one" || meta["StatusCode"] != 200.0 {
				t.Errorf("got %v, %v", meta, answer)
			}
			first := a.run(t, "publish-version", "--function-name", name)["Version"].(string)
			a.run(t, "update-function-code", "--function-name", name, "--zip-file", a.write(t, "two.zip", s.zip(t, "two")))
			a.run(t, "wait", "function-updated-v2", "--function-name", name)
			second := a.run(t, "publish-version", "--function-name", name)["Version"].(string)
			a.run(t, "create-alias", "--function-name", name, "--name", "live", "--function-version", first,
				"--routing-config", `{"AdditionalVersionWeights":{"`+second+`":0.5}}`)
			a.seeBoth(t, name, first, second)
			a.run(t, "delete-function", "--function-name", name)
			if _, errs, ok := a.try(t, "get-function", "--function-name", name); ok || !strings.Contains(errs, "ResourceNotFoundException") {
				t.Errorf("after its deletion get-function says %q", errs)
			}
		})
	}
}

// seeBoth calls a weighted alias until both versions have answered; each call takes the CLI a while, so not more often.
func (a *awsCLI) seeBoth(t *testing.T, name, first, second string) {
	t.Helper()
	seen := map[any]bool{}
	const most = 30 // one version alone: once in 2^29 runs
	for i := 0; i < most && len(seen) < 2; i++ {
		meta, answer := a.invoke(t, name, "live")
		want := map[any]any{first: "one", second: "two"}[meta["ExecutedVersion"]]
		if answer["answer"] != want {
			t.Fatalf("version %v answered %v", meta["ExecutedVersion"], answer)
		}
		seen[meta["ExecutedVersion"]] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d calls of the alias went to %v only", most, seen)
	}
}

// TestEnvInShell types what the README says.
func TestEnvInShell(t *testing.T) {
	newAWS(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", `eval "$("$0" env --data "$1")" && aws lambda list-functions --output json`, binary, dataDir())
	cmd.Env = append(os.Environ(), "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil || object(t, out)["Functions"] == nil {
		t.Errorf("%v: %s", err, out)
	}
}
