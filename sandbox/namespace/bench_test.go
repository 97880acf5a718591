//go:build linux

package namespace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/sandbox"
)

// staticProgram compiles the smallest program there is, so that the benchmark measures sandboxes.
func staticProgram(b testing.TB) string {
	dir := b.TempDir()
	source := filepath.Join(dir, "true.c")
	text := `__attribute__((noreturn)) void _start(void) { for (;;) {
#ifdef __x86_64__
	long r; __asm__ volatile("syscall" : "=a"(r) : "a"(231), "D"(0) : "rcx", "r11", "memory");
#else
	register long n __asm__("x8") = 94; register long c __asm__("x0") = 0; __asm__ volatile("svc 0" :: "r"(n), "r"(c));
#endif
} }`
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	out := filepath.Join(dir, "true")
	if text, err := exec.Command("gcc", "-Os", "-static", "-nostdlib", "-o", out, source).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, text)
	}
	return out
}

// BenchmarkSandbox makes a sandbox, runs a program in it to its end and destroys it; with 1 worker for latency and with 2 for
// the sustained rate. Issue 2 asks for p50 ≤ 3 ms and ≥ 300/s on two cores.
func BenchmarkSandbox(b *testing.B) {
	program := staticProgram(b)
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) { benchmark(b, program, workers) })
	}
}

func benchmark(b *testing.B, program string, workers int) {
	d := newTestDriver(b)
	var next atomic.Int64
	var mu sync.Mutex
	var create, run, destroy []time.Duration
	one := func(id int64) error {
		spec := sandbox.Spec{ID: fmt.Sprint("bench-", id),
			Mounts: []sandbox.Mount{{Source: program, Target: "/var/task/true"}, {Source: "/usr", Target: "/usr"}, {Source: "/lib", Target: "/lib"},
				{Source: "/lib64", Target: "/lib64"}, {Source: "/bin", Target: "/bin"}, {Source: "/usr/share", Target: "/opt"}},
			Limits: sandbox.Limits{MemoryBytes: 128 << 20, CPUs: 1, PIDs: 1024, ScratchBytes: 512 << 20}}
		ctx := context.Background()
		start := time.Now()
		box, err := d.Create(ctx, spec)
		if err != nil {
			return err
		}
		made := time.Now()
		p, err := box.Exec(ctx, sandbox.Command{Path: "/var/task/true", Args: []string{"true"}, Dir: "/var/task"})
		if err != nil {
			return err
		}
		<-p.Done()
		ran := time.Now()
		if err := box.Destroy(ctx); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		create, run, destroy = append(create, made.Sub(start)), append(run, ran.Sub(made)), append(destroy, time.Since(ran))
		return nil
	}
	if err := one(next.Add(1)); err != nil { // the spawner's start and the first image are not what is measured
		b.Fatal(err)
	}
	create, run, destroy = nil, nil, nil
	b.ResetTimer()
	left := atomic.Int64{}
	left.Store(int64(b.N))
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for left.Add(-1) >= 0 {
				if err := one(next.Add(1)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	b.StopTimer()
	p50 := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2].Microseconds())
	}
	b.ReportMetric(p50(create), "create-µs")
	b.ReportMetric(p50(run), "exec-µs")
	b.ReportMetric(p50(destroy), "destroy-µs")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per-s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkAttach completes a sandbox that waits: one directory is mounted into it and its memory limit changes.
func BenchmarkAttach(b *testing.B) {
	d := newTestDriver(b)
	ctx := context.Background()
	code := b.TempDir()
	limits := sandbox.Limits{MemoryBytes: 128 << 20, CPUs: 1, PIDs: 1024, ScratchBytes: 512 << 20}
	larger := limits
	larger.MemoryBytes = 1769 << 20
	var all []time.Duration
	for i := range b.N {
		box, err := d.Create(ctx, sandbox.Spec{ID: fmt.Sprint("bench-", i), Mounts: hostMounts(b), Late: []string{"/var/task-late"}, Limits: limits})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		err = box.Attach(ctx, sandbox.Attachment{Mounts: []sandbox.Mount{{Source: code, Target: "/var/task-late"}}, Limits: larger})
		all = append(all, time.Since(start))
		if err := errors.Join(err, box.Destroy(ctx)); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e3, "attach-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkScratch makes and discards one used /tmp of 512 MB: what a sandbox costs in the background when its function has
// written there.
func BenchmarkScratch(b *testing.B) {
	d := newTestDriver(b)
	ctx := context.Background()
	var make, discard time.Duration
	for b.Loop() {
		start := time.Now()
		s, err := d.scratch.make(ctx, 512<<20)
		if err != nil {
			b.Fatal(err)
		}
		made := time.Now()
		s.discard()
		make, discard = make+made.Sub(start), discard+time.Since(made)
	}
	b.ReportMetric(float64(make.Microseconds())/float64(b.N), "make-µs")
	b.ReportMetric(float64(discard.Microseconds())/float64(b.N), "discard-µs")
}
