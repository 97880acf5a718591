//go:build linux

package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// TestNoInit: a binary built without the init says how to build it right, and can still be swept and closed.
func TestNoInit(t *testing.T) {
	if _, err := embeddedInit(); err == nil {
		t.Skip("this tree holds a built init")
	}
	d, err := New(Config{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := d.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("Sweep: %d, %v", n, err)
	}
	_, err = d.Create(t.Context(), sandbox.Spec{ID: "x"})
	if !errors.Is(err, sandbox.ErrUnsupported) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("Create: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	d := newTestDriver(t)
	c := config(t, d)
	b, err := d.Create(t.Context(), c.Spec("left"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Create(t.Context(), c.Spec("late")); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("Create after Close: %v", err)
	}
}

// TestSpawnerDies: the sandboxes go with it, and the next Create starts another.
func TestSpawnerDies(t *testing.T) {
	d := newTestDriver(t)
	c := config(t, d)
	b := c.Make(t)
	p, _ := c.Start(t, b, "sleep")
	if err := d.spawner.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	second, err := d.Create(t.Context(), c.Spec("second")) // its request meets the dead spawner
	if err != nil {
		t.Fatalf("no sandbox after the spawner's death: %v", err)
	}
	if _, exit := c.Output(t, second, "exit", "2"); exit.Code != 2 {
		t.Errorf("exit %+v", exit)
	}
	if err := second.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestTmpfsFallback: without mke2fs or loop devices /tmp is in memory, and keeps its size.
func TestTmpfsFallback(t *testing.T) {
	d := newTestDriver(t)
	d.scratch.broken = true
	c := config(t, d)
	b := c.Make(t, func(s *sandbox.Spec) {
		s.Limits.MemoryBytes = 64 << 20
		s.Limits.ScratchBytes = 96 << 20
	})
	if out, exit := c.Output(t, b, "fill", "/tmp/big", "200"); out != "96 true\n" || exit.OOM {
		t.Errorf("fill: %q %+v", out, exit)
	}
	if u, err := b.Usage(t.Context()); err != nil || u.ScratchBytes != 96<<20 || u.MemoryBytes > 64<<20 {
		t.Errorf("usage %+v, %v", u, err)
	}
}

// TestScratchRecovers: one failure to make a /tmp on disk, such as a full disk, is not the end of them all.
func TestScratchRecovers(t *testing.T) {
	newTestDriver(t) // or skips
	p := newScratchPool(t.TempDir(), 0, slog.New(slog.DiscardHandler))
	t.Cleanup(p.close)
	first, err := p.take(t.Context(), 16<<20)
	if err != nil || first == nil {
		t.Skipf("no loop-mounted file systems here: %v", err)
	}
	p.throw(first)
	dir := p.dir
	p.dir = filepath.Join(dir, "missing")
	if s, err := p.take(t.Context(), 24<<20); s != nil || err != nil {
		t.Fatalf("without a directory: %v, %v", s, err)
	}
	p.dir = dir
	again, err := p.take(t.Context(), 16<<20)
	if err != nil || again == nil {
		t.Fatalf("afterwards: %v, %v", again, err)
	}
	p.throw(again)
}

// TestManyAtOnce: a crowd of sandboxes takes turns, and each has its /tmp on disk.
func TestManyAtOnce(t *testing.T) {
	d := newTestDriver(t)
	c := config(t, d)
	var crowd sync.WaitGroup
	for i := range 60 {
		crowd.Go(func() {
			b, err := d.Create(t.Context(), c.Spec(fmt.Sprintf("crowd-%d", i)))
			if err != nil {
				t.Error(err)
				return
			}
			if b.(*box).scratch == nil && d.scratch.made {
				t.Error("/tmp is in memory")
			}
			if err := b.Destroy(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	crowd.Wait()
	d.building = make(chan struct{}) // no turn comes
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := d.Create(ctx, c.Spec("waits")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a turn: %v", err)
	}
}

// TestInitBinary: what runs as process 1 asks for no library and no executable stack.
func TestInitBinary(t *testing.T) {
	if built == nil {
		t.Skip("no C compiler to build the sandbox init with")
	}
	if len(built) > 64<<10 {
		t.Errorf("the init has grown to %d bytes", len(built))
	}
	name := t.TempDir() + "/init"
	if err := os.WriteFile(name, built, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("readelf", "-lW", name).CombinedOutput()
	if err != nil {
		t.Skipf("readelf: %v", err)
	}
	if text := string(out); strings.Contains(text, "INTERP") || strings.Contains(text, "RWE") {
		t.Errorf("program headers:\n%s", text)
	}
}

func TestSeccompFilter(t *testing.T) {
	filter, err := seccompFilter()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(filter) / 8; n < 50 || n > 1000 {
		t.Errorf("%d instructions; a search over ranges has some hundred", n)
	}
	for i := 0; i < len(filter); i += 8 { // every way ends in a verdict the profile knows
		if code := uint16(filter[i]) | uint16(filter[i+1])<<8; code == unix.BPF_RET|unix.BPF_K {
			k := uint32(filter[i+4]) | uint32(filter[i+5])<<8 | uint32(filter[i+6])<<16 | uint32(filter[i+7])<<24
			if k != retAllow && k != retEPERM && k != retENOS {
				t.Errorf("instruction %d returns %#x", i/8, k)
			}
		}
	}
}

// TestAttachComesHome: the threads that enter sandboxes come back to where the daemon's others are.
func TestAttachComesHome(t *testing.T) {
	d := newTestDriver(t)
	c := config(t, d)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	namespace, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		b := c.Make(t, func(s *sandbox.Spec) { s.ID, s.Late = fmt.Sprint("home-", i), []string{"/var/late"} })
		limits := c.Spec("x").Limits
		if err := b.Attach(t.Context(), sandbox.Attachment{Mounts: []sandbox.Mount{{Source: "/usr", Target: "/var/late"}}, Limits: limits}); err != nil {
			t.Fatal(err)
		}
		tasks, err := filepath.Glob("/proc/self/task/*")
		if err != nil || len(tasks) == 0 {
			t.Fatalf("threads: %v, %v", tasks, err)
		}
		for _, task := range tasks {
			for name, want := range map[string]string{"cwd": dir, "root": "/", "ns/mnt": namespace} {
				if got, err := os.Readlink(filepath.Join(task, name)); err == nil && got != want {
					t.Errorf("%s: %s is %s, want %s", task, name, got, want)
				}
			}
		}
	}
}
