package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// run runs a berth command against the shared server, and fails the test unless it ends with the code.
func run(t *testing.T, wantCode int, args ...string) (stdout, stderr string) {
	t.Helper()
	sharedClient(t)
	out, errs, code := berth(t, nil, append([]string{"--data", dataDir()}, args...)...)
	if code != wantCode {
		t.Fatalf("berth %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, wantCode, out, errs)
	}
	return out, errs
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCommands deploys, calls, lists, reads the log, deploys again and deletes.
func TestCommands(t *testing.T) {
	sharedClient(t)
	pythonRuntime(t)
	dir := filepath.Join(t.TempDir(), "by-hand")
	writeFile(t, filepath.Join(dir, "app.py"), "def handler(event, context):\n    print('seen', event)\n    return {'n': event.get('n', 0) + 1}\n")

	if out, _ := run(t, 0, "deploy", dir); !strings.Contains(out, "created by-hand python3.") || !strings.Contains(out, "app.handler") {
		t.Errorf("deploy printed %q", out)
	}
	if out, errs := run(t, 0, "invoke", "by-hand", "--payload", `{"n":41}`, "--tail"); out != `{"n": 42}`+"\n" && out != `{"n":42}`+"\n" || !strings.Contains(errs, "REPORT RequestId") {
		t.Errorf("invoke printed %q and %q", out, errs)
	}
	if out, _ := run(t, 0, "list"); !strings.Contains(out, "by-hand") {
		t.Errorf("list printed %q", out)
	}
	if out, _ := run(t, 0, "logs", "by-hand"); !strings.Contains(out, "seen {'n': 41}") {
		t.Errorf("logs printed %q", out)
	}

	writeFile(t, filepath.Join(dir, "app.py"), "def handler(event, context):\n    raise RuntimeError('second try')\n")
	if out, _ := run(t, 0, "deploy", dir, "--memory", "256", "--timeout", "5s", "--env", "KEY=value"); !strings.Contains(out, "updated by-hand") {
		t.Errorf("deploy printed %q", out)
	}
	if out, errs := run(t, 1, "invoke", "by-hand"); !strings.Contains(errs, "RuntimeError second try") || !strings.Contains(errs, "app.py") || !strings.Contains(out, "errorType") {
		t.Errorf("invoke of a function that fails printed %q and %q", out, errs)
	}
	run(t, 2, "delete", "by-hand")
	run(t, 0, "delete", "by-hand", "--yes")
	if _, errs := run(t, 1, "invoke", "by-hand"); !strings.Contains(errs, "berth list") {
		t.Errorf("invoke of a deleted function printed %q", errs)
	}
}

func TestCommandsInJSON(t *testing.T) {
	sharedClient(t)
	nodeRuntime(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "index.js"), "exports.handler = async (event) => ({ doubled: event.n * 2 });\n")
	decode := func(text string) (value map[string]any) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatalf("not one JSON object: %q", text)
		}
		return value
	}
	out, _ := run(t, 0, "--json", "deploy", dir, "--name", "in-json")
	if got := decode(out); got["function"] != "in-json" || got["created"] != true || got["state"] != "Active" {
		t.Errorf("deploy: %v", got)
	}
	out, _ = run(t, 0, "--json", "invoke", "in-json", "--payload", `{"n":21}`)
	if got := decode(out); got["executedVersion"] != "$LATEST" || got["payload"].(map[string]any)["doubled"] != 42.0 {
		t.Errorf("invoke: %v", got)
	}
	out, _ = run(t, 0, "--json", "list")
	if !strings.Contains(out, `"function":"in-json"`) {
		t.Errorf("list: %s", out)
	}
	out, _ = run(t, 0, "--json", "delete", "in-json", "--yes")
	if got := decode(out); got["deleted"] != "in-json" {
		t.Errorf("delete: %v", got)
	}
	_, errs := run(t, 1, "--json", "invoke", "in-json")
	if got := decode(errs); got["code"] != "ResourceNotFoundException" {
		t.Errorf("error: %v", got)
	}
}

// TestFollowLogs: `berth logs -f` shows a line that is written after it began, and ends by Ctrl-C with exit code 130.
func TestFollowLogs(t *testing.T) {
	c := sharedClient(t)
	python(t, c, "followed", "def handler(event, context):\n    print('mark', event)\n")
	cmd := exec.Command(binary, "--data", dataDir(), "logs", "followed", "-f")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	run(t, 0, "invoke", "followed", "--payload", "4711")
	lines, found := bufio.NewScanner(stdout), false
	for !found && lines.Scan() {
		found = strings.Contains(lines.Text(), "mark 4711")
	}
	if !found {
		t.Error("the new line was not shown")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // to its end, as Wait demands
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d after Ctrl-C, want 130", code)
	}
}

// TestDeployFails: a runtime that the server has not is told with the server's reason.
func TestDeployFails(t *testing.T) {
	sharedClient(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "app.py"), "def handler(event, context): pass\n")
	_, errs := run(t, 1, "deploy", dir, "--name", "no-runtime", "--runtime", "python3.8")
	if !strings.Contains(errs, "python3.8") {
		t.Errorf("deploy printed %q", errs)
	}
	_, _, _ = berth(t, nil, "--data", dataDir(), "delete", "no-runtime", "--yes")
}

// TestDemo runs the demo as a user does.
func TestDemo(t *testing.T) {
	sharedClient(t)
	pythonRuntime(t)
	nodeRuntime(t)
	out, errs, code := berth(t, nil, "demo", "--examples", "../examples")
	if code != 0 {
		t.Fatalf("berth demo: exit code %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"Hello, Ada!", "python-hello", "node-hello", "go-hello", "version 1", "version 2", "Welcome, Ada!", "data removed"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
