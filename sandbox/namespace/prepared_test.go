//go:build linux

package namespace

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"berth/sandbox"
	"berth/sandbox/sandboxtest"
)

// hasty is the driver with prepared sandboxes, which must behave as others do.
type hasty struct{ sandbox.Driver }

type hastyBox struct{ sandbox.Sandbox }

func (h hasty) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	spec.Prepared = true
	b, err := h.Driver.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	return hastyBox{b}, nil
}

// Exec waits only for a program that cannot be run, as the suite expects that error.
func (b hastyBox) Exec(ctx context.Context, cmd sandbox.Command) (sandbox.Process, error) {
	cmd.NoWait = true
	p, err := b.Sandbox.Exec(ctx, cmd)
	if err == nil && strings.HasPrefix(cmd.Path, "/no/") {
		<-p.Done()
		return nil, p.Exit().Err
	}
	return p, err
}

func TestPreparedSuite(t *testing.T) {
	sandboxtest.Run(t, sandboxtest.Config{Driver: hasty{newTestDriver(t)}, Mounts: hostMounts(t), Program: programPath, Real: true, Limits: true})
}

func preparedProcess(b sandbox.Sandbox) *process {
	box := b.(*box)
	box.mu.Lock()
	defer box.mu.Unlock()
	return box.prepared
}

// TestPreparedIsUsedOnce: the first process is the prepared one, the second is not, and why the program could not be run is said at the end.
func TestPreparedIsUsedOnce(t *testing.T) {
	c := config(t, newTestDriver(t))
	b := c.Make(t, func(s *sandbox.Spec) { s.Prepared = true })
	prepared := preparedProcess(b)
	cmd := c.Command("exit", "7")
	cmd.NoWait = true
	for i, want := range []bool{true, false} {
		p, err := b.Exec(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		if is := p.(*process) == prepared; is != want {
			t.Errorf("Exec %d used the prepared process: %v, expected %v", i, is, want)
		}
		if exit := sandboxtest.Await(t, p); exit != (sandbox.Exit{Code: 7}) {
			t.Errorf("Exec %d: %+v", i, exit)
		}
	}
	b = c.Make(t, func(s *sandbox.Spec) { s.ID, s.Prepared = "directory", true })
	cmd.Path = "/tmp" // cannot be executed
	p, err := b.Exec(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	var cannot *fs.PathError
	if err := sandboxtest.Await(t, p).Err; !errors.As(err, &cannot) || cannot.Op != "exec" || !errors.Is(err, syscall.EACCES) {
		t.Errorf("executing a directory: %v", err)
	}
}

// TestPreparedEnds: a prepared process ends with Kill, and when a process is started in another way; none is used then.
func TestPreparedEnds(t *testing.T) {
	c := config(t, newTestDriver(t))
	for name, end := range map[string]func(sandbox.Sandbox) error{
		"kill":  func(b sandbox.Sandbox) error { return b.Kill(t.Context()) },
		"other": func(b sandbox.Sandbox) error { c.Output(t, b, "exit", "0"); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			b := c.Make(t, func(s *sandbox.Spec) { s.ID, s.Prepared = name, true })
			prepared := preparedProcess(b)
			if prepared == nil {
				t.Fatal("no process was prepared")
			}
			if err := end(b); err != nil {
				t.Fatal(err)
			}
			if exit := sandboxtest.Await(t, prepared); exit.Err != nil {
				t.Errorf("%+v", exit)
			}
			cmd := c.Command("exit", "7")
			cmd.NoWait = true
			p, err := b.Exec(t.Context(), cmd)
			if err != nil {
				t.Fatal(err)
			}
			if exit := sandboxtest.Await(t, p); p.(*process) == prepared || exit != (sandbox.Exit{Code: 7}) {
				t.Errorf("afterwards: %+v", exit)
			}
		})
	}
}
