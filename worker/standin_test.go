package worker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/runtimeapi"
	"berth/sandbox"
)

// program stands in for what a runtime process would do. It returns when p.ctx ends.
type program func(p *standinProcess) sandbox.Exit

// standinDriver is a sandbox driver without isolation, whose processes are Go functions.
type standinDriver struct {
	program program
	fault   func(op string) error // asked before every operation of driver and sandboxes; nil: none
	tardy   bool                  // Exec returns only when the process has ended
	usage   sandbox.Usage
	burns   time.Duration // processor time that a sandbox has used since it was measured last

	mu    sync.Mutex
	boxes map[string]*standinBox
	all   []*standinBox
}

func (d *standinDriver) fail(op string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(op)
}

func (d *standinDriver) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	if err := errors.Join(ctx.Err(), d.fail("create")); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	b := &standinBox{d: d, spec: spec, tmp: map[string]string{}}
	d.boxes[spec.ID] = b
	d.all = append(d.all, b)
	return b, nil
}

func (d *standinDriver) Sweep(context.Context) (int, error) { return 0, nil }
func (d *standinDriver) Close() error                       { return nil }

func (d *standinDriver) live() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.boxes)
}

func (d *standinDriver) box(i int) *standinBox {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[i]
}

// standinBox is one sandbox; tmp is what its /tmp holds.
type standinBox struct {
	d    *standinDriver
	spec sandbox.Spec
	tmp  map[string]string // for programs; they run one after the other

	mu       sync.Mutex
	listener net.Listener
	procs    []*standinProcess
	frozen   bool

	execs, kills, freezes, thaws, usages atomic.Int32
}

func (b *standinBox) ID() string { return b.spec.ID }

func (b *standinBox) Exec(_ context.Context, cmd sandbox.Command) (sandbox.Process, error) {
	if err := b.d.fail("exec"); err != nil {
		return nil, err
	}
	b.execs.Add(1)
	p := &standinProcess{box: b, cmd: cmd, done: make(chan struct{}), stdout: dup(cmd.Stdout)}
	p.ctx, p.kill = context.WithCancel(context.Background())
	if len(cmd.Extra) > 0 {
		in, out := dup(cmd.Extra[0]), dup(cmd.Extra[1])
		p.conn, p.r = out, bufio.NewReader(in)
		p.ends = runtimeapi.Ends{in, out}
	}
	b.mu.Lock()
	b.procs = append(b.procs, p)
	b.mu.Unlock()
	go p.run(b.d.program)
	if b.d.tardy {
		<-p.done
	}
	return p, nil
}

func dup(f *os.File) *os.File {
	var fd int
	raw, err := f.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }), err)
	}
	if err != nil {
		panic(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that closing it ends a read
		panic(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

func (b *standinBox) Listen(context.Context, netip.AddrPort) (net.Listener, error) {
	if err := b.d.fail("listen"); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	b.listener = l
	return l, err
}

func (b *standinBox) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if err := b.d.fail("dial"); err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr.String())
}

func (b *standinBox) Attach(_ context.Context, a sandbox.Attachment) error {
	if err := b.d.fail("attach"); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spec.Mounts, b.spec.Limits = append(b.spec.Mounts, a.Mounts...), a.Limits
	return nil
}

func (b *standinBox) Kill(context.Context) error {
	if err := b.d.fail("kill"); err != nil {
		return err
	}
	b.kills.Add(1)
	b.killAll()
	return nil
}

func (b *standinBox) killAll() {
	b.mu.Lock()
	procs := b.procs
	b.procs = nil
	b.mu.Unlock()
	for _, p := range procs {
		p.Signal(syscall.SIGKILL)
		<-p.done
	}
}

func (b *standinBox) SetCPUs(_ context.Context, cores float64) error {
	if err := b.d.fail("cpus"); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spec.Limits.CPUs = cores
	return nil
}

func (b *standinBox) Yield(context.Context, bool) error { return b.d.fail("yield") }

func (b *standinBox) Freeze(context.Context) error {
	if err := b.d.fail("freeze"); err != nil {
		return err
	}
	b.freezes.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frozen = true
	return nil
}

func (b *standinBox) Thaw(context.Context) error {
	if err := b.d.fail("thaw"); err != nil {
		return err
	}
	b.thaws.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frozen = false
	return nil
}

func (b *standinBox) PeakMemory(ctx context.Context) (int64, error) {
	u, err := b.Usage(ctx)
	return u.MaxMemoryBytes, err
}

func (b *standinBox) Usage(context.Context) (sandbox.Usage, error) {
	u := b.d.usage
	u.CPUNanoseconds += int64(b.usages.Add(1)) * int64(b.d.burns)
	return u, b.d.fail("usage")
}

func (b *standinBox) Destroy(context.Context) error {
	b.killAll()
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	delete(b.d.boxes, b.spec.ID)
	return nil
}

// standinProcess is one process. Its exit is what its program returns, or SIGKILL if it was killed before.
type standinProcess struct {
	box    *standinBox
	cmd    sandbox.Command
	ctx    context.Context
	kill   context.CancelFunc
	stdout *os.File
	ends   runtimeapi.Ends
	conn   *os.File
	r      *bufio.Reader
	killed atomic.Bool
	done   chan struct{}
	exit   sandbox.Exit
}

func (p *standinProcess) run(main program) {
	defer close(p.done)
	stop := context.AfterFunc(p.ctx, p.closeFiles)
	p.exit = main(p)
	if p.killed.Load() {
		p.exit = sandbox.Exit{Code: -1, Signal: syscall.SIGKILL}
	}
	if stop() {
		p.closeFiles()
	}
	p.kill()
}

func (p *standinProcess) closeFiles() {
	p.stdout.Close()
	if p.conn != nil {
		p.ends.Close()
	}
}

func (p *standinProcess) Done() <-chan struct{} { return p.done }
func (p *standinProcess) Exit() sandbox.Exit    { return p.exit }
func (p *standinProcess) Signal(syscall.Signal) error {
	p.killed.Store(true)
	p.kill()
	return nil
}

// Below: what programs use.

func (p *standinProcess) print(s string) { io.WriteString(p.stdout, s) }

func (p *standinProcess) send(kind byte, body string) bool {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 5+len(body)), uint32(1+len(body)))
	_, err := p.conn.Write(append(append(b, kind), body...))
	return err == nil
}

// event waits for an event; it returns false when the process is killed.
func (p *standinProcess) event() (meta []string, payload string, ok bool) {
	var head [9]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return nil, "", false
	}
	rest := make([]byte, binary.LittleEndian.Uint32(head[:])-5)
	if _, err := io.ReadFull(p.r, rest); err != nil {
		return nil, "", false
	}
	n := binary.LittleEndian.Uint32(head[5:])
	return strings.Split(string(rest[:n]), "\x00"), string(rest[n:]), true
}

var killed = sandbox.Exit{Code: -1, Signal: syscall.SIGKILL}

// serve is a program of a good runtime whose handler returns its answer, as kind and body.
func serve(handler func(p *standinProcess, payload string) (kind byte, body string)) program {
	return func(p *standinProcess) sandbox.Exit {
		for ok := p.send('N', ""); ok; {
			var payload string
			if _, payload, ok = p.event(); ok {
				kind, body := handler(p, payload)
				ok = kind != 0 && p.send(kind, body)
			}
		}
		return killed
	}
}

// echo answers with the event.
func echo(_ *standinProcess, payload string) (byte, string) { return 'R', payload }
