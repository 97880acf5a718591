//go:build linux

package namespace

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox"
	"berth/sandbox/sandboxtest"
)

// daemonMain is a daemon that makes sandboxes (some frozen, some busy), prints their inits' pids and waits to be killed.
// Started by: program berth-daemon STATEDIR INIT, with the mounts as JSON on standard input.
func daemonMain() {
	if len(os.Args) != 4 || os.Args[1] != "berth-daemon" {
		return
	}
	if err := daemon(os.Args[2], os.Args[3]); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	select {}
}

func daemon(state, init string) error {
	binary, err := os.ReadFile(init)
	if err != nil {
		return err
	}
	var mounts []sandbox.Mount
	if err := json.NewDecoder(os.Stdin).Decode(&mounts); err != nil {
		return err
	}
	d, err := New(Config{StateDir: state, Init: binary})
	if err != nil {
		return err
	}
	c := sandboxtest.Config{Driver: d, Mounts: mounts, Program: programPath}
	var pids []string
	for i := range 4 {
		b, err := d.Create(context.Background(), c.Spec(fmt.Sprint("orphan-", i)))
		if err != nil {
			return err
		}
		if _, err := b.Exec(context.Background(), c.Command("beat")); err != nil {
			return err
		}
		if i%2 == 0 {
			if err := b.Freeze(context.Background()); err != nil {
				return err
			}
		}
		pids = append(pids, fmt.Sprint(b.(*box).pid))
	}
	fmt.Println("ready", strings.Join(pids, " "))
	return nil
}

// TestDaemonKilled: SIGKILL of the daemon leaves no process and no mount; the next daemon's Sweep takes the cgroups away.
func TestDaemonKilled(t *testing.T) {
	keep := newTestDriver(t) // only for its skips
	dir := t.TempDir()
	state, init := filepath.Join(dir, "state"), filepath.Join(dir, "init")
	if err := os.WriteFile(init, built, 0o600); err != nil {
		t.Fatal(err)
	}
	mounts, err := json.Marshal(hostMounts(t))
	if err != nil {
		t.Fatal(err)
	}
	before := mountsAndLoops(t)
	cmd := exec.Command("/proc/self/exe", "berth-daemon", state, init)
	cmd.Stdin = strings.NewReader(string(mounts))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready ") {
		cmd.Process.Kill()
		t.Fatalf("the daemon said %q, %v", line, err)
	}
	var inits []int
	for _, field := range strings.Fields(line)[1:] {
		var pid int
		fmt.Sscan(field, &pid)
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		inits = append(inits, fd)
	}
	if _, err := New(Config{StateDir: state, Init: built}); err == nil {
		t.Error("two daemons share a state directory")
	}
	cmd.Process.Kill()
	cmd.Wait()
	for _, fd := range inits {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n != 1 || err != nil {
			t.Errorf("an init outlives the daemon: %v", err)
		}
	}
	sweepAfter(t, state, before)
	_ = keep
}

func sweepAfter(t *testing.T, state string, before []string) {
	d, err := New(Config{StateDir: state, Init: built})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := d.Sweep(t.Context()); n != 4 || err != nil {
		t.Errorf("swept %d, %v; want 4", n, err)
	}
	if n, err := d.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("a second sweep found %d, %v", n, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	for _, root := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		if left, _ := filepath.Glob(root + d.name); len(left) > 0 {
			t.Errorf("cgroups left: %v", left)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(state, "image-*")); len(left) > 0 {
		t.Errorf("images left: %v", left)
	}
	var after []string
	for range 100 { // the kernel frees a loop device shortly after its last user
		if after = mountsAndLoops(t); slices.Equal(before, after) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("mounts or loop devices left:\n%v\nbefore:\n%v", after, before)
}

// mountsAndLoops lists what could leak: mounts of this namespace, and loop devices of unlinked scratch images in the test's
// directories.
func mountsAndLoops(t *testing.T) []string {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	all := []string{string(text)}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range backing {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), "TestDaemonKilled") {
			all = append(all, string(text))
		}
	}
	return all
}
