package fake_test

import (
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"berth/sandbox"
	"berth/sandbox/fake"
	"berth/sandbox/guard"
	"berth/sandbox/sandboxtest"
)

// suiteProgram runs the suite's program as a function.
func suiteProgram(p *fake.Process) sandbox.Exit {
	return sandbox.Exit{Code: sandboxtest.Program(sandboxtest.Proc{Args: p.Command.Args[2:], Env: p.Command.Env, Dir: p.Command.Dir,
		Stdout: p.Stdout, Stderr: p.Stderr, Extra: p.Extra, Dial: p.Dial, Ended: p.Context})}
}

func TestSuite(t *testing.T) {
	d := fake.New(suiteProgram)
	sandboxtest.Run(t, sandboxtest.Config{Driver: d, Program: "/program"})
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestGuarded: the guard changes nothing of what a right driver does.
func TestGuarded(t *testing.T) {
	d := guard.New(fake.New(suiteProgram), guard.Config{})
	sandboxtest.Run(t, sandboxtest.Config{Driver: d, Program: "/program"})
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	broken := errors.New("broken")
	d := fake.New(suiteProgram)
	spec := sandboxtest.Config{}.Spec("faults")
	d.Fail(fake.OpCreate, broken)
	if _, err := d.Create(t.Context(), spec); !errors.Is(err, broken) {
		t.Errorf("Create: %v", err)
	}
	b, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	for op, call := range map[fake.Op]func() error{
		fake.OpExec: func() error {
			_, err := b.Exec(t.Context(), sandbox.Command{Path: "/program", Args: []string{"p", "", "exit", "0"}})
			return err
		},
		fake.OpListen: func() error { _, err := b.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:1")); return err },
		fake.OpKill:   func() error { return b.Kill(t.Context()) }, fake.OpFreeze: func() error { return b.Freeze(t.Context()) },
		fake.OpThaw: func() error { return b.Thaw(t.Context()) }, fake.OpDestroy: func() error { return b.Destroy(t.Context()) },
		fake.OpUsage: func() error { _, err := b.Usage(t.Context()); return err },
	} {
		d.Fail(op, nil) // one passes
		d.Fail(op, broken)
		if op == fake.OpDestroy {
			d.Fail(op, nil)
			continue
		}
		if err := call(); err != nil {
			t.Errorf("%s: %v", op, err)
		}
		if err := b.Thaw(t.Context()); err != nil && op != fake.OpThaw {
			t.Errorf("thaw: %v", err)
		}
		if err := call(); !errors.Is(err, broken) && op != fake.OpThaw {
			t.Errorf("%s: %v", op, err)
		}
		if d.Calls(op) < 2 {
			t.Errorf("%s: %d calls counted", op, d.Calls(op))
		}
	}
	for len(d.Alive()) > 0 {
		b.Destroy(t.Context())
	}
}

// TestBubble: processes and the network live in virtual time.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := fake.New(func(p *fake.Process) sandbox.Exit {
			c, err := p.Dial("169.254.100.1:9001")
			if err != nil {
				return sandbox.Exit{Code: 1}
			}
			defer c.Close()
			time.Sleep(time.Hour)
			io.WriteString(c, "late")
			return sandbox.Exit{Code: 9, OOM: true}
		})
		b, err := d.Create(t.Context(), sandboxtest.Config{}.Spec("bubble"))
		if err != nil {
			t.Fatal(err)
		}
		l, err := b.Listen(t.Context(), netip.MustParseAddrPort("169.254.100.1:9001"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := b.Exec(t.Context(), sandbox.Command{Path: "/x", Args: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(c); string(text) != "late" || err != nil {
			t.Errorf("got %q, %v", text, err)
		}
		<-p.Done()
		if exit := p.Exit(); exit.Code != 9 || !exit.OOM {
			t.Errorf("exit %+v", exit)
		}
		if err := b.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := l.Accept(); err == nil {
			t.Error("the listener outlives the sandbox")
		}
	})
}
