// Package sandboxtest is the suite of the port sandbox: what every driver must do, run by each driver's own tests.
package sandboxtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/sandbox"
)

// wait bounds everything in the suite that should take milliseconds; machines under test are slow now and then.
const wait = 20 * time.Second

// Config says what is tested.
type Config struct {
	Driver  sandbox.Driver
	Mounts  []sandbox.Mount // shows the program and what it needs
	Program string          // its path inside; it must call Main first
	Real    bool            // real processes: signals, files, freezing
	Limits  bool            // limits are enforced (needs root)
}

// Spec is the sandbox the suite makes; drivers' own tests start from it.
func (c Config) Spec(id string) sandbox.Spec {
	return sandbox.Spec{ID: id, Mounts: c.Mounts,
		Limits: sandbox.Limits{MemoryBytes: 256 << 20, CPUs: 2, PIDs: 100, ScratchBytes: 16 << 20}}
}

// Command runs the suite's program.
func (c Config) Command(args ...string) sandbox.Command {
	return sandbox.Command{Path: c.Program, Args: append([]string{"program", programArg}, args...), Dir: "/tmp", Env: []string{"A=1"}}
}

// Run runs the suite.
func Run(t *testing.T, c Config) {
	for name, test := range map[string]func(*testing.T, Config){
		"exit": testExit, "output": testOutput, "extra": testExtra, "environment": testEnvironment, "missing": testMissing,
		"refused": testRefused, "listen": testListen, "dial": testDial, "kill": testKill, "freeze": testFreeze, "cpus": testSetCPUs, "destroy": testDestroy,
		"many": testMany, "cancelled": testCancelled, "attach refused": testAttachRefused,
	} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
	if c.Real {
		for name, test := range map[string]func(*testing.T, Config){"signals": testSignals, "scratch": testScratch} {
			t.Run(name, func(t *testing.T) { test(t, c) })
		}
	}
	if c.Limits {
		for name, test := range map[string]func(*testing.T, Config){
			"memory": testMemory, "disk": testDisk, "usage": testUsage, "cpu": testCPU,
			"attach": testAttach, "attach memory": testAttachMemory, "attach disk": testAttachDisk,
		} {
			t.Run(name, func(t *testing.T) { test(t, c) })
		}
	}
}

// Make makes a sandbox that the test destroys.
func (c Config) Make(t *testing.T, change ...func(*sandbox.Spec)) sandbox.Sandbox {
	t.Helper()
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name()))
	spec := c.Spec(id[max(0, len(id)-50):])
	for _, f := range change {
		f(&spec)
	}
	b, err := c.Driver.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Start starts the program with pipes as output.
func (c Config) Start(t *testing.T, b sandbox.Sandbox, args ...string) (p sandbox.Process, out *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd := c.Command(args...)
	cmd.Stdout, cmd.Stderr = w, w
	p, err = b.Exec(t.Context(), cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return p, bufio.NewReader(r)
}

// Await waits for a process's end.
func Await(t *testing.T, p sandbox.Process) sandbox.Exit {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(wait):
		t.Fatal("the process did not end")
	}
	return p.Exit()
}

// Output runs the program to its end and returns what it wrote and its exit.
func (c Config) Output(t *testing.T, b sandbox.Sandbox, args ...string) (string, sandbox.Exit) {
	t.Helper()
	p, out := c.Start(t, b, args...)
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), Await(t, p)
}

func testExit(t *testing.T, c Config) {
	b := c.Make(t)
	for _, code := range []int{0, 1, 127, 255} {
		if _, exit := c.Output(t, b, "exit", fmt.Sprint(code)); exit != (sandbox.Exit{Code: code}) {
			t.Errorf("exit %d: got %+v", code, exit)
		}
	}
}

func testOutput(t *testing.T, c Config) {
	b := c.Make(t)
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.Command("echo", "a b")
	cmd.Stdout, cmd.Stderr = outW, errW
	p, err := b.Exec(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	outW.Close()
	errW.Close()
	Await(t, p)
	for want, r := range map[string]*os.File{"out a b\n": outR, "err a b\n": errR} {
		got, err := io.ReadAll(r)
		if string(got) != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		r.Close()
	}
}

func testExtra(t *testing.T, c Config) {
	b := c.Make(t)
	cmd := c.Command("extra")
	var readers []*os.File
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		readers, cmd.Extra = append(readers, r), append(cmd.Extra, w)
	}
	p, err := b.Exec(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	Await(t, p)
	for i, want := range []string{"three\n", "four\n"} {
		cmd.Extra[i].Close()
		if got, err := io.ReadAll(readers[i]); string(got) != want || err != nil {
			t.Errorf("descriptor %d: got %q, %v", 3+i, got, err)
		}
	}
}

func testEnvironment(t *testing.T, c Config) {
	t.Setenv("SECRET_OF_THE_DAEMON", "leaked")
	out, _ := c.Output(t, c.Make(t), "env")
	if want := "/tmp A=1\n"; out != want {
		t.Errorf("directory and environment: got %q, want %q", out, want)
	}
}

func testMissing(t *testing.T, c Config) {
	b := c.Make(t)
	cmd := c.Command("exit", "0")
	cmd.Path = "/no/such/program"
	if _, err := b.Exec(t.Context(), cmd); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing program: got %v, want not exist", err)
	}
}

func testRefused(t *testing.T, c Config) {
	for name, change := range map[string]func(*sandbox.Spec){
		"id":     func(s *sandbox.Spec) { s.ID = "../x" },
		"memory": func(s *sandbox.Spec) { s.Limits.MemoryBytes = 0 },
		"cpus":   func(s *sandbox.Spec) { s.Limits.CPUs = 0 },
		"pids":   func(s *sandbox.Spec) { s.Limits.PIDs = -1 },
		"disk":   func(s *sandbox.Spec) { s.Limits.ScratchBytes = 0 },
		"root":   func(s *sandbox.Spec) { s.Mounts = append(s.Mounts, sandbox.Mount{Source: "/usr", Target: "/"}) },
		"proc":   func(s *sandbox.Spec) { s.Mounts = append(s.Mounts, sandbox.Mount{Source: "/usr", Target: "/proc/x"}) },
		"climb": func(s *sandbox.Spec) {
			s.Mounts = append(s.Mounts, sandbox.Mount{Source: "/usr", Target: "/a/../../x"})
		},
	} {
		spec := c.Spec("refused-" + name)
		change(&spec)
		if b, err := c.Driver.Create(t.Context(), spec); err == nil {
			t.Errorf("%s: a bad spec was accepted", name)
			b.Destroy(t.Context())
		}
	}
	c.Make(t)
	spec := c.Spec("twice")
	b, err := c.Driver.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Driver.Create(t.Context(), spec); err == nil {
		t.Error("two sandboxes have the same id")
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
}

func testListen(t *testing.T, c Config) {
	b := c.Make(t)
	l, err := b.Listen(t.Context(), netip.MustParseAddrPort("169.254.100.1:9001"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			fmt.Fprint(conn, "got ", line)
			conn.Close()
		}
	}()
	for range 2 { // the listener survives Kill
		if out, exit := c.Output(t, b, "fetch", "169.254.100.1:9001"); out != "got hello\n" {
			t.Errorf("got %q, %+v", out, exit)
		}
		if err := b.Kill(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Listen(t.Context(), netip.MustParseAddrPort("169.254.100.1:9001")); err == nil {
		t.Error("two listeners share an address")
	}
}

func testDial(t *testing.T, c Config) {
	b := c.Make(t)
	other, err := c.Driver.Create(t.Context(), c.Spec(b.ID()+"-other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Destroy(context.WithoutCancel(t.Context()))
	addr := netip.MustParseAddrPort("127.0.0.1:8080")
	if _, err := b.Dial(t.Context(), addr); err == nil {
		t.Error("something answers where nobody listens")
	}
	l, err := b.Listen(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "inside\n")
			conn.Close()
		}
	}()
	conn, err := b.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "inside\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if _, err := other.Dial(t.Context(), addr); err == nil {
		t.Error("another sandbox's port was reached")
	}
	if _, err := b.Dial(t.Context(), netip.MustParseAddrPort("[::1]:8080")); err == nil {
		t.Error("an IPv6 address was dialled")
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := b.Dial(t.Context(), addr); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("after Destroy: %v", err)
	}
}

func testKill(t *testing.T, c Config) {
	b := c.Make(t)
	p, out := c.Start(t, b, "sleep")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := b.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := Await(t, p); exit.Signal != syscall.SIGKILL || exit.Code != -1 || exit.OOM {
		t.Errorf("killed: %+v", exit)
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to an ended process: %v", err)
	}
	if _, exit := c.Output(t, b, "exit", "3"); exit.Code != 3 {
		t.Errorf("after Kill: %+v", exit)
	}
}

func testFreeze(t *testing.T, c Config) {
	b := c.Make(t)
	p, out := c.Start(t, b, "beat")
	for range 2 { // both are idempotent
		if err := b.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c.Real {
		for { // what was written before the freeze; a reader that waits 100 ms has it all
			r := make(chan error, 1)
			go func() { _, err := out.ReadString('\n'); r <- err }()
			select {
			case err := <-r:
				if err != nil {
					t.Fatal(err)
				}
				continue
			case <-time.After(100 * time.Millisecond):
			}
			if err := b.Thaw(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-r; err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if _, err := b.Usage(t.Context()); err != nil {
		t.Error(err)
	}
	if err := b.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Exec(t.Context(), c.Command("exit", "0")); err == nil {
		t.Error("Exec in a frozen sandbox")
	}
	for range 2 {
		if err := b.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := b.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Kill(t.Context()); err != nil { // thaws
		t.Fatal(err)
	}
	Await(t, p)
	if err := b.Freeze(t.Context()); err != nil { // Destroy ends a frozen one
		t.Fatal(err)
	}
}

func testSetCPUs(t *testing.T, c Config) {
	b := c.Make(t)
	for _, cores := range []float64{0.1, 2, 0.0724} { // down, up and down again
		if err := b.SetCPUs(t.Context(), cores); err != nil {
			t.Errorf("%g cores: %v", cores, err)
		}
	}
	for _, cores := range []float64{0, -1, math.NaN()} {
		if err := b.SetCPUs(t.Context(), cores); err == nil {
			t.Errorf("%g cores were accepted", cores)
		}
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.SetCPUs(t.Context(), 1); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("SetCPUs after Destroy: %v", err)
	}
}

func testDestroy(t *testing.T, c Config) {
	b := c.Make(t)
	p, _ := c.Start(t, b, "sleep")
	for range 2 {
		if err := b.Destroy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if exit := Await(t, p); exit.Signal != syscall.SIGKILL {
		t.Errorf("destroyed: %+v", exit)
	}
	if _, err := b.Exec(t.Context(), c.Command("exit", "0")); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("Exec after Destroy: %v", err)
	}
	if err := b.Kill(t.Context()); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("Kill after Destroy: %v", err)
	}
	if err := b.Freeze(t.Context()); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("Freeze after Destroy: %v", err)
	}
	if _, err := b.Usage(t.Context()); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("Usage after Destroy: %v", err)
	}
}

func testCancelled(t *testing.T, c Config) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	spec := c.Spec("cancelled")
	if b, err := c.Driver.Create(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("Create with an ended context: %v, %v", b, err)
	}
	b, err := c.Driver.Create(t.Context(), spec) // nothing was left behind
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
}
