// Package e2e drives a real `berth serve` process as its users do: with the AWS SDK, the aws CLI and the berth commands.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"berth/client"
	"berth/internal/serverproc"
)

// Set by TestMain.
var (
	binary   string // the berth executable under test
	cannot   string // why nothing can be tested here; "" when it can
	noServer error  // why the shared server did not start
	shared   *serverproc.Server
)

// buildWithin bounds the build of the binary: with the race detector, from a cold cache, on two cores.
const buildWithin = 10 * time.Minute

// commandWithin bounds one berth command: the demo may have to compile a Go function from a cold cache.
const commandWithin = 5 * time.Minute

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv(holderEngine) != "" {
		return hold()
	}
	switch {
	case runtime.GOOS != "linux":
		cannot = "sandboxes need Linux"
	case os.Geteuid() != 0:
		cannot = "end-to-end tests need root to make sandboxes"
	}
	if cannot != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "berth-e2e-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "berth")
	if err := build(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared, noServer = serverproc.Start(context.Background(), serverproc.Config{Binary: binary, DataDir: data})
	code := m.Run()
	if shared != nil {
		if err := shared.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		code = max(code, reportRace(shared))
	}
	return code
}

// build makes the binary, with the race detector when the tests have it.
func build(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildWithin)
	defer cancel()
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "berth/cmd/berth")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building berth (was `make build` run before?): %w\n%s", err, out)
	}
	return nil
}

// reportRace makes a data race in the shared server a failure of the tests.
func reportRace(s *serverproc.Server) int {
	if bytes.Contains([]byte(s.Tail()), []byte("DATA RACE")) {
		fmt.Fprintln(os.Stderr, "the server had a data race:\n"+s.Tail())
		return 1
	}
	return 0
}

// sharedClient returns a client of the server that tests share; each test uses function names of its own.
func sharedClient(t testing.TB) *client.Client {
	t.Helper()
	needServer(t)
	if noServer != nil {
		t.Fatalf("the server did not start: %v", noServer)
	}
	c := client.New(shared.Client)
	t.Cleanup(c.Close)
	return c
}

func needServer(t testing.TB) {
	t.Helper()
	if cannot != "" {
		t.Skip(cannot)
	}
	if testing.Short() {
		t.Skip("end-to-end tests take long")
	}
}

// start starts a server of the test's own.
func start(t *testing.T, data string, args ...string) *serverproc.Server {
	t.Helper()
	return startSaying(t, nil, data, args...)
}

// startSaying is start for a test that keeps what the server logs.
func startSaying(t *testing.T, log io.Writer, data string, args ...string) *serverproc.Server {
	t.Helper()
	needServer(t)
	s, err := serverproc.Start(t.Context(), serverproc.Config{Binary: binary, DataDir: data, Args: args, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if reportRace(s) != 0 {
			t.Error("data race in the server")
		}
	})
	return s
}

// berth runs a berth command and returns what it printed and its exit code.
func berth(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("berth %v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
