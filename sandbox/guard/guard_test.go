package guard_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/sandbox"
	"berth/sandbox/guard"
)

// stub is a driver whose sandboxes do nothing, or hang until their time is up.
type stub struct {
	sandbox.Driver
	hang    bool
	fail    error
	created int
}

func (s *stub) wait(ctx context.Context) error {
	if s.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.fail
}

func (s *stub) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	s.created++
	return &stubBox{s: s, id: spec.ID}, s.wait(ctx)
}
func (s *stub) Sweep(ctx context.Context) (int, error) { return 3, s.wait(ctx) }
func (s *stub) Close() error                           { return nil }

type stubBox struct {
	sandbox.Sandbox
	s  *stub
	id string
}

func (b *stubBox) ID() string { return b.id }
func (b *stubBox) Exec(ctx context.Context, _ sandbox.Command) (sandbox.Process, error) {
	return nil, b.s.wait(ctx)
}
func (b *stubBox) Kill(ctx context.Context) error    { return b.s.wait(ctx) }
func (b *stubBox) Destroy(ctx context.Context) error { return b.s.wait(ctx) }

func spec(id string) sandbox.Spec {
	return sandbox.Spec{ID: id, Limits: sandbox.Limits{MemoryBytes: 1, CPUs: 1, PIDs: 1, ScratchBytes: 1}}
}

func TestFull(t *testing.T) {
	d := guard.New(&stub{}, guard.Config{MaxSandboxes: 2})
	a, err := d.Create(t.Context(), spec("a"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Create(t.Context(), spec("b"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(t.Context(), spec("c")); !errors.Is(err, guard.ErrFull) {
		t.Errorf("a third: %v", err)
	}
	if _, err := d.Sweep(t.Context()); err == nil {
		t.Error("Sweep with sandboxes alive was let through")
	}
	if err := d.Close(); err == nil {
		t.Error("Close with sandboxes alive was let through")
	}
	for range 2 {
		if err := a.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
	}
	c, err := d.Create(t.Context(), spec("c"))
	if err != nil {
		t.Errorf("after Destroy: %v", err)
	}
	c.Destroy(t.Context())
	b.Destroy(t.Context())
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Create(t.Context(), spec("d")); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("Create after Close: %v", err)
	}
}

// TestTimeLimits: what hangs ends, and a failed Destroy may be repeated.
func TestTimeLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{}
		d := guard.New(s, guard.Config{CreateTimeout: time.Second, CallTimeout: 2 * time.Second, DestroyTimeout: 3 * time.Second})
		b, err := d.Create(t.Context(), spec("a"))
		if err != nil {
			t.Fatal(err)
		}
		s.hang = true
		timed := func(name string, want time.Duration, call func() error) {
			start := time.Now()
			if err := call(); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != want {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
		}
		timed("create", time.Second, func() error { _, err := d.Create(t.Context(), spec("b")); return err })
		timed("kill", 2*time.Second, func() error { return b.Kill(t.Context()) })
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		timed("destroy", 3*time.Second, func() error { return b.Destroy(cancelled) })
		if err := b.Kill(t.Context()); !errors.Is(err, sandbox.ErrGone) {
			t.Errorf("Kill after a failed Destroy: %v", err)
		}
		s.hang = false
		if err := b.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRefused(t *testing.T) {
	s := &stub{}
	d := guard.New(s, guard.Config{})
	mount := func(source, target string) func(*sandbox.Spec) {
		return func(s *sandbox.Spec) { s.Mounts = append(s.Mounts, sandbox.Mount{Source: source, Target: target}) }
	}
	for name, change := range map[string]func(*sandbox.Spec){
		"no id": func(s *sandbox.Spec) { s.ID = "" }, "id": func(s *sandbox.Spec) { s.ID = "A" }, "host name": func(s *sandbox.Spec) { s.Hostname = strings.Repeat("x", 65) },
		"relative source": mount("usr", "/usr"), "relative target": mount("/usr", "usr"), "unclean": mount("/usr", "/usr/../etc"), "proc": mount("/usr", "/proc"),
		"many": func(s *sandbox.Spec) { s.Mounts = make([]sandbox.Mount, 65) }, "no limits": func(s *sandbox.Spec) { s.Limits = sandbox.Limits{} },
		"twice": func(s *sandbox.Spec) { mount("/usr", "/x")(s); mount("/bin", "/x")(s) },
	} {
		bad := spec("x")
		change(&bad)
		if _, err := d.Create(t.Context(), bad); err == nil {
			t.Errorf("%s was let through", name)
		}
	}
	if s.created != 0 {
		t.Errorf("%d bad specs reached the driver", s.created)
	}
	b, err := d.Create(t.Context(), spec("x"))
	if err != nil {
		t.Fatal(err)
	}
	for name, cmd := range map[string]sandbox.Command{
		"relative": {Path: "x", Args: []string{"x"}}, "no arguments": {Path: "/x"}, "zero": {Path: "/x", Args: []string{"a\x00"}},
		"long": {Path: "/x", Args: []string{strings.Repeat("x", 1<<20)}}, "strings": {Path: "/x", Args: make([]string, 9000)},
		"files": {Path: "/x", Args: []string{"x"}, Extra: make([]*os.File, 17)}, "directory": {Path: "/x", Args: []string{"x"}, Dir: "tmp"},
	} {
		if _, err := b.Exec(t.Context(), cmd); err == nil {
			t.Errorf("%s was let through", name)
		}
	}
	if err := b.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := b.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:1")); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("Listen after Destroy: %v", err)
	}
}
