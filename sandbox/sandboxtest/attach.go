package sandboxtest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"berth/sandbox"
)

const lateDir = "/var/late"

// waiting makes a sandbox that may get mounts later.
func (c Config) waiting(t *testing.T, change ...func(*sandbox.Spec)) (sandbox.Sandbox, sandbox.Limits) {
	t.Helper()
	limits := c.Spec("x").Limits
	change = append(change, func(s *sandbox.Spec) { s.Late, limits = []string{lateDir}, s.Limits })
	return c.Make(t, change...), limits
}

// lateMount is a host directory with one file, to be mounted.
func lateMount(t *testing.T, text string) []sandbox.Mount {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "note"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return []sandbox.Mount{{Source: dir, Target: lateDir}}
}

// testAttachRefused: only what was foreseen can be mounted, only once, and only while the sandbox is there.
func testAttachRefused(t *testing.T, c Config) {
	for name, a := range map[string]sandbox.Attachment{
		"other target": {Mounts: []sandbox.Mount{{Source: "/usr", Target: "/opt/x"}}},
		"root":         {Mounts: []sandbox.Mount{{Source: "/usr", Target: "/"}}},
		"relative":     {Mounts: []sandbox.Mount{{Source: "usr", Target: lateDir}}},
		"twice":        {Mounts: []sandbox.Mount{{Source: "/usr", Target: lateDir}, {Source: "/bin", Target: lateDir}}},
	} {
		t.Run(name, func(t *testing.T) {
			b, limits := c.waiting(t)
			a.Limits = limits
			if err := b.Attach(t.Context(), a); err == nil {
				t.Error("was accepted")
			}
		})
	}
	b, limits := c.waiting(t)
	if err := b.Attach(t.Context(), sandbox.Attachment{}); err == nil {
		t.Error("no limits were accepted")
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Attach(t.Context(), sandbox.Attachment{Limits: limits}); err == nil {
		t.Error("a destroyed sandbox accepted it")
	}
	if !c.Limits {
		return
	}
	t.Run("again", func(t *testing.T) {
		b, limits := c.waiting(t)
		a := sandbox.Attachment{Mounts: lateMount(t, "x"), Limits: limits}
		if err := b.Attach(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if err := b.Attach(t.Context(), a); err == nil {
			t.Error("a second one was accepted")
		}
	})
}

// testAttach: a process that waits sees the mount; it cannot be written to; no other sandbox sees it.
func testAttach(t *testing.T, c Config) {
	other := c.Make(t, func(s *sandbox.Spec) { s.ID, s.Late = "attach-other", []string{lateDir} })
	b, limits := c.waiting(t)
	p, out := c.Start(t, b, "await", lateDir+"/note")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	mounts := lateMount(t, "come in\n")
	if err := b.Attach(t.Context(), sandbox.Attachment{Mounts: mounts, Limits: limits}); err != nil {
		t.Fatal(err)
	}
	if line, err := out.ReadString('\n'); line != "come in\n" {
		t.Errorf("read %q, %v", line, err)
	}
	if exit := Await(t, p); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	if out, exit := c.Output(t, b, "write", lateDir+"/note", "mine"); exit.Code == 0 {
		t.Errorf("the mount was written to: %s", out)
	}
	if out, exit := c.Output(t, other, "read", lateDir+"/note"); exit.Code == 0 {
		t.Errorf("another sandbox reads %q", out)
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(mounts[0].Source, "note")); string(text) != "come in\n" {
		t.Errorf("on the host afterwards: %q, %v", text, err)
	}
}

// testAttachMemory: the limit set late is the one that holds, whether it was lowered or raised.
func testAttachMemory(t *testing.T, c Config) {
	for _, m := range []struct {
		from, to int64
		eat      int
		fits     bool
	}{{256, 64, 120, false}, {64, 1024, 120, true}} { // the race detector takes five times what the program eats
		t.Run(fmt.Sprintf("%d to %d MiB", m.from, m.to), func(t *testing.T) {
			b, limits := c.waiting(t, func(s *sandbox.Spec) { s.Limits.MemoryBytes = m.from << 20 })
			limits.MemoryBytes = m.to << 20
			if err := b.Attach(t.Context(), sandbox.Attachment{Limits: limits}); err != nil {
				t.Fatal(err)
			}
			_, exit := c.Output(t, b, "eat", fmt.Sprint(m.eat))
			if fits := exit.Code == 0; fits != m.fits || !fits && (!exit.OOM || exit.Signal != syscall.SIGKILL) {
				t.Errorf("%d MiB: %+v", m.eat, exit)
			}
			if u, err := b.Usage(t.Context()); err != nil || u.MaxMemoryBytes > m.to<<20 {
				t.Errorf("usage %+v, %v", u, err)
			}
		})
	}
}

// testAttachDisk: /tmp has the size set late, is empty, and does not count as memory.
func testAttachDisk(t *testing.T, c Config) {
	b, limits := c.waiting(t, func(s *sandbox.Spec) { s.Limits.MemoryBytes = 64 << 20 })
	if out, exit := c.Output(t, b, "write", "/tmp/note", "x"); exit.Code != 0 {
		t.Fatalf("write: %s %+v", out, exit)
	}
	limits.ScratchBytes = 128 << 20
	if err := b.Attach(t.Context(), sandbox.Attachment{Limits: limits}); err != nil {
		t.Fatal(err)
	}
	if out, exit := c.Output(t, b, "read", "/tmp/note"); exit.Code == 0 {
		t.Errorf("the old /tmp shows: %q", out)
	}
	out, exit := c.Output(t, b, "fill", "/tmp/big", "400")
	var n int
	var full bool
	if _, err := fmt.Sscan(out, &n, &full); err != nil || !full || n < 128 || n > 140 {
		t.Fatalf("fill: %q, %+v: expected room for 128 MiB and ENOSPC", out, exit)
	}
	if u, err := b.Usage(t.Context()); err != nil || u.ScratchBytes < 128<<20 || u.OOMKills != 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
}
