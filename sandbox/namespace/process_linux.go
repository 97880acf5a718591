package namespace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

const (
	// callLimit bounds a call whose context has no earlier deadline.
	callLimit = 10 * time.Second
)

// process is one process of Exec.
type process struct {
	b     *box
	id    uint32
	kills int // the sandbox's out-of-memory kills before it started
	done  chan struct{}
	exit  sandbox.Exit // valid once done is closed

	channel   int    // of one that was prepared, else -1; under b.mu
	path, dir string // of its program
}

// Done implements sandbox.Process.
func (p *process) Done() <-chan struct{} { return p.done }

// Exit implements sandbox.Process.
func (p *process) Exit() sandbox.Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return sandbox.Exit{Code: -1}
	}
}

// Signal implements sandbox.Process.
func (p *process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	if sig <= 0 || sig > 64 {
		return fmt.Errorf("signal %d: %w", sig, syscall.EINVAL)
	}
	p.b.mu.Lock()
	frozen, ended := p.b.frozen, p.b.ended
	p.b.mu.Unlock()
	if ended {
		return p.b.goneError()
	}
	if frozen {
		return fmt.Errorf("sandbox %s is frozen: thaw it first", p.b.id)
	}
	return p.b.ctl.send(packet{kind: msgSignal, id: p.id, a: uint32(sig)})
}

func (p *process) finish(status syscall.WaitStatus) {
	p.exit.Err = p.lastReport()
	p.exit.Code = status.ExitStatus()
	if status.Signaled() {
		p.exit.Code, p.exit.Signal = -1, status.Signal()
	}
	if p.exit.Code != 0 && p.b.group != nil {
		p.exit.OOM = p.b.group.oomKills() > p.kills
	}
	close(p.done)
}

// Exec implements sandbox.Sandbox. It returns when the program runs, and a program that cannot be run is an error, unless the command
// is not waited for and a process was prepared.
func (b *box) Exec(ctx context.Context, cmd sandbox.Command) (sandbox.Process, error) {
	request, err := execPacket(cmd)
	if err != nil {
		return nil, err
	}
	null, err := nullFor(cmd)
	if err != nil {
		return nil, err
	}
	defer null.Close() // nil if every file is given: an error that says so
	for _, file := range append([]*os.File{cmp.Or(cmd.Stdout, null), cmp.Or(cmd.Stderr, null)}, cmd.Extra...) {
		request.fds = append(request.fds, int(rawFD(file)))
	}
	if cmd.NoWait {
		if p, err := b.execPrepared(cmd, request); p != nil || err != nil {
			return p, err
		}
	}
	b.dismiss()
	return b.execNew(ctx, cmd, request)
}

// execNew starts a process from nothing.
func (b *box) execNew(ctx context.Context, cmd sandbox.Command, request packet) (sandbox.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("status pipe: %w", err)
	}
	unix.SetNonblock(pipe[0], true) // ours alone: the flag is of this end
	status := os.NewFile(uintptr(pipe[0]), "exec-status")
	defer status.Close()
	request.fds = append([]int{pipe[1]}, request.fds...)
	p := &process{b: b, done: make(chan struct{}), channel: -1}
	if b.group != nil {
		p.kills = b.group.oomKills()
	}
	started, err := b.request(ctx, request, p)
	unix.Close(pipe[1])
	if err != nil {
		return nil, err
	}
	if started.b != 0 {
		b.drop(p)
		return nil, fmt.Errorf("sandbox %s: start %s: %w", b.id, cmd.Path, syscall.Errno(started.b))
	}
	return b.started(ctx, p, status, cmd)
}

// started waits until the child has become the program, or says why it could not.
func (b *box) started(ctx context.Context, p *process, status *os.File, cmd sandbox.Command) (sandbox.Process, error) {
	if deadline, ok := ctx.Deadline(); ok {
		status.SetReadDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { status.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var report [8]byte
	n, err := io.ReadFull(status, report[:])
	if err != nil && !errors.Is(err, io.EOF) {
		p.Signal(syscall.SIGKILL) // it was cloned but is stuck before its exec
		b.drop(p)
		return nil, fmt.Errorf("sandbox %s: start %s: %w", b.id, cmd.Path, err)
	}
	if err := execError(report[:n], cmd); err != nil {
		b.drop(p)
		return nil, fmt.Errorf("sandbox %s: %w", b.id, err)
	}
	return p, nil
}

func (b *box) drop(p *process) {
	b.mu.Lock()
	delete(b.processes, p.id)
	b.mu.Unlock()
}

// rawFD is a file's descriptor without the side effect of File.Fd, which takes the file from the poller by making it blocking.
func rawFD(file *os.File) (fd uintptr) {
	raw, err := file.SyscallConn()
	if err != nil {
		return ^uintptr(0)
	}
	raw.Control(func(n uintptr) { fd = n })
	return fd
}

func execPacket(cmd sandbox.Command) (packet, error) {
	if err := cmd.Check(); err != nil {
		return packet{}, err
	}
	dir := cmd.Dir
	if dir == "" {
		dir = "/"
	}
	request := packet{kind: msgExec, a: uint32(len(cmd.Args)), b: uint32(len(cmd.Env))}
	request.body = appendString(appendString(nil, dir), cmd.Path)
	for _, list := range [][]string{cmd.Args, cmd.Env} {
		for _, s := range list {
			request.body = appendString(request.body, s)
		}
	}
	return request, nil
}

// Listen implements sandbox.Sandbox. Addresses are IPv4; port 0 lets the kernel choose.
func (b *box) Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	if !addr.Addr().Is4() {
		return nil, fmt.Errorf("listen on %s: expected an IPv4 address of the sandbox's loopback", addr)
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	ip := addr.Addr().As4()
	port := addr.Port()
	request := packet{kind: msgListen, b: uint32(port>>8 | port<<8)}
	request.a = uint32(ip[0]) | uint32(ip[1])<<8 | uint32(ip[2])<<16 | uint32(ip[3])<<24
	answer, err := b.request(ctx, request, nil)
	if err != nil {
		return nil, err
	}
	defer answer.closeFDs()
	if answer.b != 0 || len(answer.fds) != 1 {
		return nil, fmt.Errorf("listen on %s in sandbox %s: %w", addr, b.id, syscall.Errno(answer.b))
	}
	file := os.NewFile(uintptr(answer.fds[0]), "sandbox-listener")
	answer.fds = nil
	defer file.Close() // FileListener has its own copy
	return net.FileListener(file)
}

// Kill implements sandbox.Sandbox. A frozen sandbox is thawed first, and stays so. The processes end without the limit of
// their processor share.
func (b *box) Kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := b.Thaw(ctx); err != nil {
		return err
	}
	if err := b.share((*group).unleash); err != nil {
		return err
	}
	err := b.killAll(ctx)
	if limited := b.share(func(g *group) error { return g.setCPUs(b.spec.Limits.CPUs) }); err == nil {
		err = limited
	}
	return err
}

func (b *box) killAll(ctx context.Context) error {
	answer, err := b.request(ctx, packet{kind: msgKill}, nil)
	if err != nil {
		return err
	}
	if answer.b != 0 {
		return fmt.Errorf("kill in sandbox %s: %w", b.id, syscall.Errno(answer.b))
	}
	return nil
}

// Freeze implements sandbox.Sandbox.
func (b *box) Freeze(ctx context.Context) error { return b.setFrozen(ctx, true) }

// Thaw implements sandbox.Sandbox.
func (b *box) Thaw(ctx context.Context) error { return b.setFrozen(ctx, false) }

func (b *box) setFrozen(ctx context.Context, frozen bool) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	b.destroying.Lock() // no freezing of what is being taken apart, and one change at a time
	defer b.destroying.Unlock()
	b.mu.Lock()
	now, ended := b.frozen, b.ended
	if frozen && !ended {
		b.frozen = true // from here on no request is sent that nobody would answer
	}
	b.mu.Unlock()
	if ended {
		return b.goneError()
	}
	if now == frozen {
		return nil
	}
	var err error
	if b.group != nil {
		err = b.group.freeze(ctx, frozen)
	} else {
		err = b.stopAll(ctx, frozen)
	}
	if err != nil && frozen {
		if b.group != nil {
			b.group.freeze(context.Background(), false) // half frozen is worse than not
		}
		frozen = false
	} else if err != nil {
		return err
	}
	b.mu.Lock()
	b.frozen = frozen
	b.mu.Unlock()
	return err
}

// stopAll is the freeze of a sandbox without cgroups: the init, which keeps running, stops its processes.
func (b *box) stopAll(ctx context.Context, stop bool) error {
	sig := syscall.SIGCONT
	if stop {
		sig = syscall.SIGSTOP
	}
	b.mu.Lock()
	b.frozen = false // the init answers in either state
	b.mu.Unlock()
	answer, err := b.request(ctx, packet{kind: msgSignalAll, a: uint32(sig)}, nil)
	if err == nil && answer.b != 0 {
		err = syscall.Errno(answer.b)
	}
	return err
}

// SetCPUs implements sandbox.Sandbox.
func (b *box) SetCPUs(_ context.Context, cores float64) error {
	if !(cores > 0) {
		return fmt.Errorf("the processor share must be above 0 cores, not %g", cores)
	}
	return b.share(func(g *group) error {
		b.spec.Limits.CPUs = cores
		return g.setCPUs(cores)
	})
}

// share changes the limit of the processor share, one change at a time.
func (b *box) share(change func(*group) error) error {
	b.destroying.Lock()
	defer b.destroying.Unlock()
	if b.destroyed {
		return b.goneError()
	}
	if b.group == nil {
		return nil // without root there are no limits
	}
	return change(b.group)
}

// PeakMemory implements sandbox.Sandbox.
func (b *box) PeakMemory(ctx context.Context) (int64, error) {
	if b.scratch == nil { // its size is to be taken off
		u, err := b.Usage(ctx)
		return u.MaxMemoryBytes, err
	}
	b.destroying.Lock()
	defer b.destroying.Unlock()
	if b.destroyed {
		return 0, b.goneError()
	}
	if b.group == nil {
		return 0, nil
	}
	peak, cache := b.group.peak()
	return max(0, peak-cache), nil
}

// Usage implements sandbox.Sandbox.
func (b *box) Usage(ctx context.Context) (sandbox.Usage, error) {
	b.destroying.Lock()
	defer b.destroying.Unlock()
	if b.destroyed {
		return sandbox.Usage{}, b.goneError()
	}
	var u sandbox.Usage
	if b.group != nil {
		u = b.group.usage()
	}
	if b.scratch != nil {
		u.ScratchBytes = b.scratch.used()
		return u, nil
	}
	// /tmp is a tmpfs of the init's mount namespace, and counts as memory.
	var fs unix.Statfs_t
	if err := unix.Statfs(fmt.Sprintf("/proc/%d/root/tmp", b.pid), &fs); err == nil {
		u.ScratchBytes = int64(fs.Blocks-fs.Bfree) * fs.Bsize
		u.MemoryBytes = max(0, u.MemoryBytes-u.ScratchBytes)
		u.MaxMemoryBytes = max(u.MemoryBytes, u.MaxMemoryBytes-u.ScratchBytes)
	}
	return u, nil
}
