//go:build linux

package namespace

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// shower sends signals to all threads of this process, thousands a second, until the test ends: SIGURG, as Go's scheduler and garbage
// collector do.
func shower(t *testing.T) {
	stop := make(chan struct{})
	var showering sync.WaitGroup
	showering.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			threads, err := os.ReadDir("/proc/self/task")
			if err != nil {
				t.Error(err)
				return
			}
			for _, thread := range threads {
				if tid, err := strconv.Atoi(thread.Name()); err == nil {
					unix.Tgkill(os.Getpid(), tid, unix.SIGURG) // it may have ended
				}
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		showering.Wait()
	})
}

// TestSignalsInterruptNoLimit: the kernel gives up the write of a v1 memory limit when a signal is pending. One environment in
// some thousands could not be started for that.
func TestSignalsInterruptNoLimit(t *testing.T) {
	d := newTestDriver(t)
	groups, err := d.setup()
	if err != nil {
		t.Fatal(err)
	}
	limits := config(t, d).Spec("limits").Limits
	g, err := groups.create("limits", limits, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.remove(context.Background())
	shower(t)
	const times = 4000
	for i := range times {
		if err := g.limit(limits, 0); err != nil {
			t.Fatalf("time %d: %v", i, err)
		}
	}
}

// TestSignalsInterruptNothing: nor anything else in a sandbox's life.
func TestSignalsInterruptNothing(t *testing.T) {
	const workers, rounds = 2, 5
	d := newTestDriver(t)
	c := config(t, d)
	late := t.TempDir()
	shower(t)
	life := func(id string) error {
		spec := c.Spec(id)
		spec.Late = []string{"/var/late"}
		b, err := d.Create(t.Context(), spec)
		if err != nil {
			return err
		}
		defer b.Destroy(context.Background())
		limits := spec.Limits
		limits.MemoryBytes *= 2
		var p sandbox.Process
		for _, step := range []func() error{
			func() error {
				return b.Attach(t.Context(), sandbox.Attachment{Mounts: []sandbox.Mount{{Source: late, Target: "/var/late"}}, Limits: limits})
			},
			func() (err error) {
				p, err = b.Exec(t.Context(), sandbox.Command{Path: programPath, Args: []string{programPath, "sleep"}})
				return err
			},
			func() error { return b.Yield(t.Context(), true) },
			func() error { return b.Yield(t.Context(), false) },
			func() error { return b.SetCPUs(t.Context(), 0.5) },
			func() error { return b.Freeze(t.Context()) },
			func() error { return b.Thaw(t.Context()) },
			func() error { _, err := b.Usage(t.Context()); return err },
			func() error { return b.Kill(t.Context()) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		<-p.Done()
		return b.Destroy(t.Context())
	}
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for i := range rounds {
				if err := life(fmt.Sprintf("life-%d-%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	working.Wait()
}
