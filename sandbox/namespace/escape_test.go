//go:build linux

package namespace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox"
	"berth/sandbox/sandboxtest"
)

func config(t testing.TB, d *Driver) sandboxtest.Config {
	return sandboxtest.Config{Driver: d, Mounts: hostMounts(t), Program: programPath, Real: true, Limits: true}
}

// runProbe runs one probe inside and returns what it found.
func runProbe(t *testing.T, b sandbox.Sandbox, name string, args ...string) (string, sandbox.Process) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := b.Exec(t.Context(), sandbox.Command{Path: programPath, Args: append([]string{"program", "berth-probe", name}, args...),
		Env: []string{"A=1"}, Dir: "/tmp", Stdout: w, Stderr: w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if name == "bomb" {
		line, err := bufio.NewReader(r).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line, p
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if exit := sandboxtest.Await(t, p); exit.Code != 0 {
		t.Fatalf("probe %s: %+v: %s", name, exit, out)
	}
	return string(out), p
}

// TestEscapes tries the ways out; probe_test.go has them.
func TestEscapes(t *testing.T) {
	c := config(t, newTestDriver(t))
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	abstract, err := net.Listen("unix", fmt.Sprintf("@berth-escape-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	neighbour := c.Make(t, func(s *sandbox.Spec) { s.ID = "neighbour" })
	c.Start(t, neighbour, "sleep")
	pids := []string{fmt.Sprint(os.Getpid()), fmt.Sprint(os.Getppid()), fmt.Sprint(neighbour.(*box).pid)}
	for name, args := range map[string][]string{
		"identity": nil, "syscalls": nil, "files": {secret, "/proc/1/root" + secret}, "processes": pids,
		"network": {tcp.Addr().String(), abstract.Addr().String()}, "writes": nil, "setuid": nil, "limits": nil, "descriptors": nil, "init": nil,
	} {
		for _, driver := range []sandbox.Driver{c.Driver, hasty{c.Driver}} {
			c := c
			c.Driver = driver
			t.Run(name, func(t *testing.T) {
				b := c.Make(t)
				if found, _ := runProbe(t, b, name, args...); found != "" {
					t.Errorf("found:\n%s", found)
				}
				// Whatever it tried, the sandbox's init is still the daemon's.
				if _, exit := c.Output(t, b, "exit", "4"); exit.Code != 4 {
					t.Errorf("after the probe: %+v", exit)
				}
			})
		}
	}
}

// TestForkBomb: the pids limit holds, Kill ends it, and the sandbox goes on.
func TestForkBomb(t *testing.T) {
	c := config(t, newTestDriver(t))
	b := c.Make(t, func(s *sandbox.Spec) { s.Limits.PIDs = 60 })
	_, p := runProbe(t, b, "bomb")
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) { // until the bomb meets its limit; where it does not within the time, it is not exceeded either
		u, err := b.Usage(t.Context())
		if err != nil || u.PIDs > 60 {
			t.Fatalf("usage %+v, %v", u, err)
		}
		if u.PIDs >= 58 {
			break
		}
	}
	if err := b.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	sandboxtest.Await(t, p)
	if u, err := b.Usage(t.Context()); err != nil || u.PIDs != 0 {
		t.Errorf("after Kill: %+v, %v", u, err)
	}
	if _, exit := c.Output(t, b, "exit", "0"); exit.Code != 0 {
		t.Errorf("after the bomb: %+v", exit)
	}
}

// TestForkBombEnds: many processes with next to no processor share end at once all the same, and the limit holds again.
func TestForkBombEnds(t *testing.T) {
	c := config(t, newTestDriver(t))
	const limit, share = 100, 0.005
	fill := func(b sandbox.Sandbox) {
		t.Helper()
		runProbe(t, b, "bomb")
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if u, err := b.Usage(t.Context()); err != nil || u.PIDs >= limit*9/10 {
				break
			}
		}
		if err := b.SetCPUs(t.Context(), share); err != nil {
			t.Fatal(err)
		}
	}
	b := c.Make(t, func(s *sandbox.Spec) { s.Limits.PIDs = limit })
	fill(b)
	start := time.Now()
	if err := b.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	killed := time.Since(start)
	group := b.(*box).group
	if quota, period := group.number(group.file(group.c.cpu, "cpu.cfs_quota_us", "")), group.number(group.file(group.c.cpu, "cpu.cfs_period_us", "")); !group.c.unified && float64(quota) > 2*share*float64(period) {
		t.Errorf("after Kill the share is %d of %d µs", quota, period)
	}
	if err := b.SetCPUs(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	fill(b)
	start = time.Now()
	if err := b.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if destroyed := time.Since(start); max(killed, destroyed) > 3*time.Second {
		t.Errorf("Kill took %v, Destroy %v", killed, destroyed)
	}
}

// TestAbuse: arguments and descriptors past every bound are errors, not ends.
func TestAbuse(t *testing.T) {
	c := config(t, newTestDriver(t))
	b := c.Make(t, func(s *sandbox.Spec) { s.Limits.PIDs, s.Limits.MemoryBytes = 2000, 1<<30 })
	try := func(name string, change func(*sandbox.Command), want error) {
		cmd := c.Command("exit", "0")
		change(&cmd)
		if _, err := b.Exec(t.Context(), cmd); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	try("a huge argument", func(c *sandbox.Command) { c.Args = append(c.Args, strings.Repeat("x", 1<<20)) }, unix.E2BIG)
	try("an argument the kernel refuses", func(c *sandbox.Command) { c.Args = append(c.Args, strings.Repeat("x", 140<<10)) }, unix.E2BIG)
	try("many arguments", func(c *sandbox.Command) { c.Args = make([]string, 100_000) }, nil)
	try("no arguments", func(c *sandbox.Command) { c.Args = nil }, nil)
	try("a zero byte", func(c *sandbox.Command) { c.Env = []string{"A=1\x00B=2"} }, nil)
	try("many files", func(c *sandbox.Command) { c.Extra = make([]*os.File, 200) }, nil)
	try("a missing directory", func(c *sandbox.Command) { c.Dir = "/no/such" }, unix.ENOENT)
	try("a directory as program", func(c *sandbox.Command) { c.Path = "/usr" }, unix.EACCES)
	for range maxChildren {
		c.Start(t, b, "sleep")
	}
	try("one process too many", func(*sandbox.Command) {}, unix.EAGAIN)
	if err := b.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, exit := c.Output(t, b, "exit", "0"); exit.Code != 0 {
		t.Errorf("after the abuse: %+v", exit)
	}
}

// TestSymlinkTarget: a mount target that leads through a link in a tree the function's owner wrote is refused.
func TestSymlinkTarget(t *testing.T) {
	d := newTestDriver(t)
	tree := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	spec := config(t, d).Spec("symlink")
	spec.Mounts = append(spec.Mounts, sandbox.Mount{Source: tree, Target: "/opt"}, sandbox.Mount{Source: tree, Target: "/opt/link"})
	b, err := d.Create(t.Context(), spec)
	if !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v, %v; want %v", b, err, unix.ELOOP)
	}
}

// TestInitDies: when the init is killed from the host, everything of the sandbox ends and says so.
func TestInitDies(t *testing.T) {
	c := config(t, newTestDriver(t))
	b := c.Make(t)
	p, out := c.Start(t, b, "sleep")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(b.(*box).pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := sandboxtest.Await(t, p); exit.Signal != syscall.SIGKILL {
		t.Errorf("got %+v", exit)
	}
	if _, err := b.Exec(context.Background(), c.Command("exit", "0")); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("Exec: %v", err)
	}
	if err := b.Kill(context.Background()); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("Kill: %v", err)
	}
}
