// Package fake is a sandbox driver for tests: its processes are Go functions in this process, its network is in memory, and
// each operation can be made to fail. It isolates nothing.
//
// Everything but the pipes that callers pass in works inside a testing/synctest bubble.
package fake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// Op names an operation, to address a fault.
type Op string

// The operations.
const (
	OpCreate  Op = "create"
	OpSweep   Op = "sweep"
	OpClose   Op = "close"
	OpExec    Op = "exec"
	OpListen  Op = "listen"
	OpDial    Op = "dial"
	OpAttach  Op = "attach"
	OpKill    Op = "kill"
	OpFreeze  Op = "freeze"
	OpThaw    Op = "thaw"
	OpSetCPUs Op = "setcpus"
	OpYield   Op = "yield"
	OpUsage   Op = "usage"
	OpDestroy Op = "destroy"
)

// Program acts as a process. It must return soon after p.Context ends (the process was killed); what it returns then does not
// matter.
type Program func(p *Process) sandbox.Exit

// Driver is the double.
type Driver struct {
	program Program

	mu     sync.Mutex
	boxes  map[string]*Sandbox
	faults map[Op][]error
	calls  map[Op]int
}

// New returns a driver whose every process is the program.
func New(program Program) *Driver {
	return &Driver{program: program, boxes: map[string]*Sandbox{}, faults: map[Op][]error{}, calls: map[Op]int{}}
}

// Fail makes the next call of an operation fail with err; called n times, the next n calls. A nil err lets one call pass.
func (d *Driver) Fail(op Op, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults[op] = append(d.faults[op], err)
}

// Calls says how often an operation was called.
func (d *Driver) Calls(op Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[op]
}

// Alive returns the sandboxes that have not been destroyed.
func (d *Driver) Alive() []*Sandbox {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*Sandbox
	for _, b := range d.boxes {
		all = append(all, b)
	}
	return all
}

func (d *Driver) enter(ctx context.Context, op Op) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[op]++
	if waiting := d.faults[op]; len(waiting) > 0 {
		d.faults[op] = waiting[1:]
		if waiting[0] != nil {
			return fmt.Errorf("fake %s: %w", op, waiting[0])
		}
	}
	return ctx.Err()
}

// Create implements sandbox.Driver.
func (d *Driver) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	if err := d.enter(ctx, OpCreate); err != nil {
		return nil, err
	}
	if err := spec.Check(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.boxes[spec.ID] != nil {
		return nil, fmt.Errorf("sandbox %s exists already", spec.ID)
	}
	b := &Sandbox{Spec: spec, d: d, listeners: map[netip.AddrPort]*listener{}, processes: map[*Process]bool{}}
	d.boxes[spec.ID] = b
	return b, nil
}

// Sweep implements sandbox.Driver: nothing outlives the process this is in.
func (d *Driver) Sweep(ctx context.Context) (int, error) { return 0, d.enter(ctx, OpSweep) }

// Close implements sandbox.Driver.
func (d *Driver) Close() error {
	if err := d.enter(context.Background(), OpClose); err != nil {
		return err
	}
	if n := len(d.Alive()); n > 0 {
		return fmt.Errorf("fake driver closed with %d sandboxes alive", n)
	}
	return nil
}

// Sandbox is one fake sandbox.
type Sandbox struct {
	Spec sandbox.Spec

	d *Driver

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	processes map[*Process]bool
	usage     sandbox.Usage
	cpus      float64
	frozen    bool
	attached  bool
	gone      bool
}

// ID implements sandbox.Sandbox.
func (b *Sandbox) ID() string { return b.Spec.ID }

// SetUsage sets what Usage answers; PIDs is counted.
func (b *Sandbox) SetUsage(u sandbox.Usage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.usage = u
}

// Frozen says whether the sandbox is frozen. Programs do not stop by it.
func (b *Sandbox) Frozen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.frozen
}

// enter starts a call that needs the sandbox to be there; on a nil error b.mu is held.
func (b *Sandbox) enter(ctx context.Context, op Op) error {
	if err := b.d.enter(ctx, op); err != nil {
		return err
	}
	b.mu.Lock()
	if b.gone {
		b.mu.Unlock()
		return fmt.Errorf("sandbox %s: %w", b.ID(), sandbox.ErrGone)
	}
	return nil
}

// Exec implements sandbox.Sandbox. Paths under /no are missing.
func (b *Sandbox) Exec(ctx context.Context, cmd sandbox.Command) (sandbox.Process, error) {
	if err := cmd.Check(); err != nil {
		return nil, err
	}
	if err := b.enter(ctx, OpExec); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	if b.frozen {
		return nil, fmt.Errorf("sandbox %s is frozen: thaw it first", b.ID())
	}
	if strings.HasPrefix(cmd.Path, "/no/") {
		return nil, &os.PathError{Op: "exec", Path: cmd.Path, Err: syscall.ENOENT}
	}
	files, err := duplicate(append([]*os.File{cmd.Stdout, cmd.Stderr}, cmd.Extra...))
	if err != nil {
		return nil, err
	}
	p := &Process{Command: cmd, Sandbox: b, Stdout: files[0], Stderr: files[1], Extra: files[2:],
		Signals: make(chan syscall.Signal, 16), done: make(chan struct{})}
	p.Context, p.kill = context.WithCancel(context.Background())
	b.processes[p] = true
	go p.run(files)
	return p, nil
}

// duplicate makes the process's own descriptors: the caller closes its copies after Exec.
func duplicate(files []*os.File) ([]*os.File, error) {
	all := make([]*os.File, 0, len(files))
	for _, f := range files {
		fd, err := -1, error(nil)
		if f == nil {
			fd, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		} else if raw, rerr := f.SyscallConn(); rerr != nil {
			err = rerr
		} else {
			err = errors.Join(raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }), err)
		}
		if err != nil {
			for _, made := range all {
				made.Close()
			}
			return nil, fmt.Errorf("duplicate: %w", err)
		}
		all = append(all, os.NewFile(uintptr(fd), "fake"))
	}
	return all, nil
}

// Listen implements sandbox.Sandbox; programs reach it by Process.Dial.
func (b *Sandbox) Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	if err := b.enter(ctx, OpListen); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	if b.frozen {
		return nil, fmt.Errorf("sandbox %s is frozen: thaw it first", b.ID())
	}
	if b.listeners[addr] != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, syscall.EADDRINUSE)
	}
	l := &listener{b: b, addr: addr, incoming: make(chan net.Conn), closed: make(chan struct{})}
	b.listeners[addr] = l
	return l, nil
}

// Dial implements sandbox.Sandbox; it reaches what Listen has opened.
func (b *Sandbox) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if err := b.enter(ctx, OpDial); err != nil {
		return nil, err
	}
	frozen := b.frozen
	b.mu.Unlock()
	if frozen {
		return nil, fmt.Errorf("sandbox %s is frozen: thaw it first", b.ID())
	}
	return b.connect(ctx, addr)
}

// Attach implements sandbox.Sandbox: Spec shows afterwards what was attached.
func (b *Sandbox) Attach(ctx context.Context, a sandbox.Attachment) error {
	if err := b.enter(ctx, OpAttach); err != nil {
		return err
	}
	defer b.mu.Unlock()
	if err := a.Check(b.Spec); err != nil {
		return err
	}
	if b.attached {
		return fmt.Errorf("sandbox %s: a second Attach", b.ID())
	}
	b.attached = true
	b.Spec.Mounts = append(slices.Clip(b.Spec.Mounts), a.Mounts...)
	b.Spec.Limits = a.Limits
	return nil
}

// Kill implements sandbox.Sandbox.
func (b *Sandbox) Kill(ctx context.Context) error {
	if err := b.enter(ctx, OpKill); err != nil {
		return err
	}
	b.frozen = false
	b.mu.Unlock()
	return b.killAll(ctx)
}

func (b *Sandbox) killAll(ctx context.Context) error {
	b.mu.Lock()
	var all []*Process
	for p := range b.processes {
		all = append(all, p)
	}
	b.mu.Unlock()
	for _, p := range all {
		p.kill()
	}
	for _, p := range all {
		select {
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("a fake program does not obey its context: %w", ctx.Err())
		}
	}
	return nil
}

// Freeze implements sandbox.Sandbox.
func (b *Sandbox) Freeze(ctx context.Context) error { return b.setFrozen(ctx, OpFreeze, true) }

// Thaw implements sandbox.Sandbox.
func (b *Sandbox) Thaw(ctx context.Context) error { return b.setFrozen(ctx, OpThaw, false) }

func (b *Sandbox) setFrozen(ctx context.Context, op Op, frozen bool) error {
	if err := b.enter(ctx, op); err != nil {
		return err
	}
	defer b.mu.Unlock()
	b.frozen = frozen
	return nil
}

// SetCPUs implements sandbox.Sandbox.
func (b *Sandbox) SetCPUs(ctx context.Context, cores float64) error {
	if err := b.enter(ctx, OpSetCPUs); err != nil {
		return err
	}
	defer b.mu.Unlock()
	if !(cores > 0) {
		return fmt.Errorf("the processor share must be above 0 cores, not %g", cores)
	}
	b.cpus = cores
	return nil
}

// Yield implements sandbox.Sandbox; it changes nothing.
func (b *Sandbox) Yield(ctx context.Context, _ bool) error {
	if err := b.enter(ctx, OpYield); err != nil {
		return err
	}
	b.mu.Unlock()
	return nil
}

// CPUs returns the processor share that was set last; 0 if none was.
func (b *Sandbox) CPUs() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cpus
}

// Usage implements sandbox.Sandbox.
func (b *Sandbox) Usage(ctx context.Context) (sandbox.Usage, error) {
	if err := b.enter(ctx, OpUsage); err != nil {
		return sandbox.Usage{}, err
	}
	defer b.mu.Unlock()
	u := b.usage
	u.PIDs = len(b.processes)
	return u, nil
}

// PeakMemory implements sandbox.Sandbox.
func (b *Sandbox) PeakMemory(ctx context.Context) (int64, error) {
	u, err := b.Usage(ctx)
	return u.MaxMemoryBytes, err
}

// Destroy implements sandbox.Sandbox.
func (b *Sandbox) Destroy(ctx context.Context) error {
	if err := b.d.enter(context.WithoutCancel(ctx), OpDestroy); err != nil {
		return err
	}
	b.mu.Lock()
	b.gone = true
	listeners := b.listeners
	b.listeners = nil
	b.mu.Unlock()
	for _, l := range listeners {
		l.shut()
	}
	if err := b.killAll(ctx); err != nil {
		return err
	}
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	delete(b.d.boxes, b.ID())
	return nil
}
