//go:build linux

package namespace

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"berth/sandbox/sandboxtest"
)

// rootlessDir tells the test binary, run again as a user without rights, where it works.
const rootlessDir = "BERTH_TEST_ROOTLESS"

// TestRootless runs the suite as nobody, in unprivileged user namespaces, without the parts on limits.
func TestRootless(t *testing.T) {
	if dir := os.Getenv(rootlessDir); dir != "" {
		binary, err := os.ReadFile(filepath.Join(dir, "init"))
		if err != nil {
			t.Fatal(err)
		}
		d, err := New(Config{StateDir: filepath.Join(dir, "state"), Init: binary})
		if err != nil {
			t.Fatal(err)
		}
		sandboxtest.Run(t, sandboxtest.Config{Driver: d, Mounts: hostMounts(t), Program: programPath, Real: true})
		c := sandboxtest.Config{Driver: d, Mounts: hostMounts(t), Program: programPath}
		for _, probe := range []string{"syscalls", "processes", "network", "writes", "init", "descriptors"} {
			t.Run(probe, func(t *testing.T) {
				b := c.Make(t)
				found, _ := runProbe(t, b, probe)
				for line := range strings.Lines(found) {
					// Init and function share the one user id there is: the kernel takes the signals and drops them, since
					// they come from inside; and /tmp is the function's own.
					if !strings.Contains(line, "sent to init") && !strings.Contains(line, "by pidfd") && !strings.Contains(line, "mode of /tmp") {
						t.Error(line)
					}
				}
				if _, exit := c.Output(t, b, "exit", "4"); exit.Code != 4 {
					t.Errorf("after the probe: %+v", exit)
				}
			})
		}
		return
	}
	if os.Geteuid() != 0 || built == nil {
		t.Skip("needs root, to become a user without rights, and a C compiler")
	}
	dir, err := os.MkdirTemp("/tmp", "berth-rootless") // t.TempDir is root's alone
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const nobody = 65534
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"init": built, "test": self} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "test"), "-test.run", "^TestRootless$", "-test.v")
	cmd.Dir = "init/.."
	cmd.Env = append(os.Environ(), rootlessDir+"="+dir, "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
