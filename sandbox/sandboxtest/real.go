package sandboxtest

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/sandbox"
)

func testSignals(t *testing.T, c Config) {
	b := c.Make(t)
	p, out := c.Start(t, b, "term")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit := Await(t, p); exit.Code != 7 {
		t.Errorf("SIGTERM handled: %+v", exit)
	}
	p, out = c.Start(t, b, "sleep")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := Await(t, p); exit.Signal != syscall.SIGKILL || exit.OOM {
		t.Errorf("SIGKILL: %+v", exit)
	}
	if err := p.Signal(0); err == nil {
		t.Error("signal 0 was accepted")
	}
}

// testScratch: /tmp outlives Kill, and is one sandbox's own.
func testScratch(t *testing.T, c Config) {
	b := c.Make(t)
	if out, exit := c.Output(t, b, "write", "/tmp/note", "kept"); exit.Code != 0 {
		t.Fatalf("write: %s %+v", out, exit)
	}
	if err := b.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, _ := c.Output(t, b, "read", "/tmp/note"); out != "kept" {
		t.Errorf("after Kill: %q", out)
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 8 { // whichever file system is used again, it holds nothing
		other := c.Make(t, func(s *sandbox.Spec) { s.ID = fmt.Sprint("scratch-other-", i) })
		if out, exit := c.Output(t, other, "read", "/tmp/note"); exit.Code == 0 {
			t.Errorf("another sandbox reads %q", out)
		}
	}
}

func testMemory(t *testing.T, c Config) {
	b := c.Make(t, func(s *sandbox.Spec) { s.Limits.MemoryBytes = 64 << 20 })
	_, exit := c.Output(t, b, "eat", "500")
	if exit.Signal != syscall.SIGKILL || !exit.OOM {
		t.Errorf("out of memory: %+v", exit)
	}
	u, err := b.Usage(t.Context())
	if err != nil || u.OOMKills < 1 || u.MaxMemoryBytes < 32<<20 || u.MaxMemoryBytes > 64<<20 {
		t.Errorf("usage: %+v, %v", u, err)
	}
	if peak, err := b.PeakMemory(t.Context()); err != nil || peak < 32<<20 || peak > 64<<20 {
		t.Errorf("peak: %d, %v", peak, err)
	}
	if _, exit := c.Output(t, b, "exit", "5"); exit != (sandbox.Exit{Code: 5}) {
		t.Errorf("after out of memory: %+v", exit)
	}
}

// testDisk: /tmp takes its size and no more, and does not count as memory.
func testDisk(t *testing.T, c Config) {
	b := c.Make(t, func(s *sandbox.Spec) {
		s.Limits.MemoryBytes = 64 << 20
		s.Limits.ScratchBytes = 256 << 20
	})
	out, exit := c.Output(t, b, "fill", "/tmp/big", "400")
	var n int
	var full bool
	if _, err := fmt.Sscan(out, &n, &full); err != nil || !full || n < 256 || n > 270 {
		t.Fatalf("fill: %q, %+v: expected room for 256 MiB and ENOSPC", out, exit)
	}
	u, err := b.Usage(t.Context())
	if err != nil || u.ScratchBytes < 256<<20 || u.OOMKills != 0 {
		t.Errorf("usage: %+v, %v", u, err)
	}
}

func testUsage(t *testing.T, c Config) {
	b := c.Make(t)
	_, out := c.Start(t, b, "sleep")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	u, err := b.Usage(t.Context())
	if err != nil || u.MemoryBytes <= 0 || u.MaxMemoryBytes < u.MemoryBytes || u.CPUNanoseconds <= 0 || u.PIDs < 1 || u.OOMKills != 0 {
		t.Errorf("usage: %+v, %v", u, err)
	}
}

func testCPU(t *testing.T, c Config) {
	b := c.Make(t, func(s *sandbox.Spec) { s.Limits.CPUs = 0.25 })
	c.Start(t, b, "spin")
	before, err := b.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	time.Sleep(time.Second) // the time over which the share is measured
	after, err := b.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	share := float64(after.CPUNanoseconds-before.CPUNanoseconds) / float64(time.Since(start))
	if share > 0.40 {
		t.Errorf("a quarter of a core was allowed, %.2f were used", share)
	}
}

// testMany: sandboxes live side by side and are made and destroyed at once.
func testMany(t *testing.T, c Config) {
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			spec := c.Spec(fmt.Sprint("many-", i))
			for range 3 {
				b, err := c.Driver.Create(t.Context(), spec)
				if err != nil {
					t.Error(err)
					return
				}
				if out, exit := c.Output(t, b, "echo", spec.ID); exit.Code != 0 || !strings.Contains(out, spec.ID) {
					t.Errorf("%s: %q %+v", spec.ID, out, exit)
				}
				if err := b.Destroy(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
}
