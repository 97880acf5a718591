//go:build linux

package namespace

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"berth/sandbox"
	"berth/sandbox/sandboxtest"
)

// built is the init's executable, compiled from the sources of this tree; nil without a C compiler.
var built []byte

func TestMain(m *testing.M) {
	sandboxtest.Main()
	probeMain()
	daemonMain()
	if os.Getenv(rootlessDir) != "" {
		os.Exit(m.Run())
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "berth-init")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "berth-init")
	if text, err := exec.Command("init/build.sh", out).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "sandbox init: %v: %s\n", err, text)
	} else if built, err = os.ReadFile(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// programPath is where the test binary itself is shown in sandboxes.
const programPath = "/var/task/program"

// hostMounts shows the host's libraries (a test binary built with -race needs them) and the test binary.
func hostMounts(t testing.TB) []sandbox.Mount {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mounts := []sandbox.Mount{{Source: self, Target: programPath}}
	for _, dir := range []string{"/usr", "/bin", "/lib", "/lib64"} {
		if _, err := os.Stat(dir); err == nil {
			mounts = append(mounts, sandbox.Mount{Source: dir, Target: dir})
		}
	}
	return mounts
}

// newTestDriver returns a driver on a fresh state directory, or skips.
func newTestDriver(t testing.TB) *Driver {
	t.Helper()
	if built == nil {
		t.Skip("no C compiler to build the sandbox init with")
	}
	if os.Geteuid() != 0 {
		t.Skip("sandboxes with limits need root")
	}
	d, err := New(Config{StateDir: filepath.Join(t.TempDir(), "state"), Init: built, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestSuite(t *testing.T) {
	sandboxtest.Run(t, sandboxtest.Config{Driver: newTestDriver(t), Mounts: hostMounts(t), Program: programPath, Real: true, Limits: true})
}
