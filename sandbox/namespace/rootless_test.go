//go:build linux

package namespace

import (
	"os"
	"os/exec"
	"path/filepath"
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
				if found, _ := runProbe(t, c.Make(t), probe); found != "" {
					t.Errorf("found:\n%s", found)
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
