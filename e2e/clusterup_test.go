package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/procfs"
)

// TestClusterUp: what people try.
func TestClusterUp(t *testing.T) {
	up := startClusterUp(t)
	status, _, code := berth(t, nil, "cluster", "status", "--data", up.frontend)
	for _, want := range []string{"manager", "worker", "frontend", "control"} {
		if code != 0 || !strings.Contains(status, want) {
			t.Errorf("the status (%d) has no %s:\n%s", code, want, status)
		}
	}
	up.signal(t)
	if err := up.cmd.Wait(); err != nil || !strings.Contains(up.errs.String(), "stopping in good order") { // to be stopped is no failure
		t.Errorf("it ended with %v: %s", err, up.errs.String())
	}
}

// TestClusterUpStoppedTwice: a second Ctrl-C does not wait for calls that run, and leaves no process behind.
func TestClusterUpStoppedTwice(t *testing.T) {
	up := startClusterUp(t)
	source := t.TempDir()
	handler := "import time\ndef handler(e, c):\n    print('it runs', flush=True)\n    time.sleep(600)\n"
	if err := os.WriteFile(filepath.Join(source, "handler.py"), []byte(handler), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := berth(t, nil, "deploy", source, "--name", "sleeper", "--handler", "handler.handler", "--timeout", "900", "--data", up.frontend); code != 0 {
		t.Fatal(errs)
	}
	call := exec.Command(binary, "invoke", "sleeper", "--data", up.frontend)
	if err := call.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = call.Process.Kill(); _ = call.Wait() }()
	waitUntil(t, "the function to run", func() bool {
		status, _, _ := berth(t, nil, "cluster", "status", "--data", up.frontend)
		return strings.Contains(status, "1 of ")
	})
	family, err := procfs.Descendants(up.cmd.Process.Pid)
	if err != nil || len(family) < 6 { // four roles, a spawner and a sandbox at least
		t.Fatalf("%d processes, %v", len(family), err)
	}
	up.signal(t)
	waitUntil(t, "the first signal to be heard", func() bool { return strings.Contains(up.errs.String(), "stopping in good order") })
	up.signal(t)
	err = up.cmd.Wait()
	if up.cmd.ProcessState.ExitCode() != 130 || !strings.Contains(up.errs.String(), "ended at once") {
		t.Errorf("it ended with %v: %s", err, up.errs.String())
	}
	waitUntil(t, "all processes to be gone", func() bool {
		return !slices.ContainsFunc(family, func(pid int) bool {
			stat, err := procfs.ReadStat(pid)
			return err == nil && stat.State != 'Z'
		})
	})
}

// clusterUp is a `berth cluster up --local 1` that has told how to use it.
type clusterUp struct {
	cmd      *exec.Cmd
	errs     *lockedText
	frontend string // its data directory
}

func startClusterUp(t *testing.T) *clusterUp {
	t.Helper()
	needServer(t)
	data := t.TempDir()
	port := strings.TrimPrefix(freeAddress(t), "nats://127.0.0.1:")
	up := &clusterUp{exec.Command(binary, "cluster", "up", "--local", "1", "--port", port, "--memory", "256", "--data", data), new(lockedText),
		filepath.Join(data, "local-cluster", "frontend-1")}
	out, err := up.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	up.cmd.Stderr = up.errs
	if err := up.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.cmd.Process.Kill() })
	limit := time.AfterFunc(3*time.Minute, func() { _ = up.cmd.Process.Kill() })
	t.Cleanup(func() { limit.Stop() })
	told := false
	for lines := bufio.NewScanner(out); !told && lines.Scan(); {
		told = strings.Contains(lines.Text(), "Ctrl-C stops all")
	}
	if !told {
		t.Fatalf("it ended: %s", up.errs)
	}
	return up
}

func (u *clusterUp) signal(t *testing.T) {
	t.Helper()
	if err := u.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

// lockedText is a child's standard error, which the test reads while it grows.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
