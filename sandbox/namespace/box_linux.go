package namespace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// destroyLimit bounds the wait for the kernel to end a killed sandbox: long only when a process is stuck in a device.
const destroyLimit = 30 * time.Second

// box is one sandbox. Its control socket is read by one goroutine (listen), which ends when the init does.
type box struct {
	d    *Driver
	id   string
	slot uint32
	spec sandbox.Spec // Limits are those of now

	group   *group // nil without root
	scratch *scratch
	covered *scratch // the /tmp under the one of Attach
	network *network // nil without root
	ctl     *conn
	pid     int      // of the init, on the host
	pidfd   *os.File // of the init

	listening bool          // set once, by build
	gone      chan struct{} // closed by listen: the init is dead or dying, and every process is reported

	mu        sync.Mutex
	next      uint32 // id of the next request
	waiting   map[uint32]chan packet
	processes map[uint32]*process
	prepared  *process // for the first Exec; also in processes
	frozen    bool
	ended     bool // no more requests

	destroying sync.Mutex
	destroyed  bool
	attached   bool
	yields     bool // its processes leave the processor to others
}

func newBox(d *Driver, spec sandbox.Spec, slot uint32) *box {
	return &box{d: d, id: spec.ID, slot: slot, spec: spec, gone: make(chan struct{}), waiting: map[uint32]chan packet{}, processes: map[uint32]*process{}}
}

// ID implements sandbox.Sandbox.
func (b *box) ID() string { return b.id }

// build makes the sandbox. What it made before an error, Destroy takes apart.
func (b *box) build(ctx context.Context, groups *cgroups, spec sandbox.Spec) error {
	var err error
	extra := int64(0)
	if b.d.scratch != nil {
		if b.scratch, err = b.d.scratch.take(ctx, spec.Limits.ScratchBytes); err != nil {
			return err
		}
	}
	if b.scratch == nil {
		// /tmp in memory: room for it comes on top, or a 128 MB function could not fill its 512 MB. The price is that it may
		// use that room as memory.
		extra = spec.Limits.ScratchBytes
	}
	if b.d.networks != nil {
		if b.network, err = b.d.networks.take(); err != nil {
			return err
		}
	}
	if groups != nil {
		if b.group, err = groups.take(spec.Limits, extra); err != nil {
			return err
		}
	}
	if err := b.start(ctx, spec); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { b.ctl.deadline(time.Unix(1, 0)) })
	defer stop()
	if err := b.confine(); err != nil {
		return err
	}
	if !stop() {
		return ctx.Err()
	}
	b.listening = true
	go b.listen()
	if spec.Prepared {
		b.prepare()
	}
	return nil
}

// start queues the set-up packet and clones the init, which finds it waiting.
func (b *box) start(ctx context.Context, spec sandbox.Spec) error {
	setup, err := b.setupPacket(spec)
	if err != nil {
		return err
	}
	ctl, theirs, err := socketPair("sandbox-init")
	if err != nil {
		return err
	}
	b.ctl = ctl
	defer unix.Close(theirs)
	err = ctl.send(setup)
	b.closeSetup(setup)
	if err != nil {
		return fmt.Errorf("send the set-up: %w", err)
	}
	cgroup := -1
	if b.group != nil {
		cgroup = b.group.v2
	}
	pid, pidfd, err := b.d.spawner.spawn(ctx, theirs, cgroup, b.d.rootless)
	if err != nil {
		return err
	}
	b.pid = pid
	if err := unix.SetNonblock(pidfd, true); err != nil { // so that os.NewFile gives it to the poller
		unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		unix.Close(pidfd)
		return fmt.Errorf("pidfd: %w", err)
	}
	b.pidfd = os.NewFile(uintptr(pidfd), "sandbox-init")
	return nil
}

func (b *box) setupPacket(spec sandbox.Spec) (packet, error) {
	next := uint32(0)
	if b.network != nil {
		next = 1
	}
	p, err := newPlan(b.d.host, spec, next, b.scratch != nil)
	if err != nil {
		return packet{}, err
	}
	setup := packet{kind: msgSetup, b: uint32(len(b.d.filter)), body: append([]byte(nil), b.d.filter...)}
	if b.d.rootless {
		setup.a |= setupRootless
		setup.body = fmt.Appendf(setup.body, "0 %d 1\x000 %d 1\x00", os.Geteuid(), os.Getegid())
	}
	setup.body = append(setup.body, p.body...)
	if b.network == nil {
		return setup, nil
	}
	setup.fds = append(setup.fds, b.network.ns)
	if b.scratch != nil {
		fd, err := b.scratch.mount()
		if err != nil {
			return packet{}, err
		}
		setup.fds = append(setup.fds, fd)
	}
	for _, source := range p.binds {
		fd, err := openTree(source)
		if err != nil {
			b.closeSetup(setup)
			return packet{}, err
		}
		setup.fds = append(setup.fds, fd)
	}
	return setup, nil
}

// closeSetup closes the mounts that go with a set-up packet; the network namespace is the sandbox's.
func (b *box) closeSetup(setup packet) {
	if len(setup.fds) > 0 {
		setup.fds = setup.fds[1:]
		setup.closeFDs()
	}
}

// confine puts the init, which builds the file system meanwhile, into its cgroups and its user namespace.
func (b *box) confine() error {
	if b.group != nil {
		if err := b.group.join(b.pid); err != nil {
			return b.setupError(err) // no such process: it has failed, and says why
		}
	}
	if err := b.ctl.send(packet{kind: msgGo}); err != nil {
		return b.setupError(err)
	}
	if !b.d.rootless {
		if err := b.expect(msgUnshared); err != nil {
			return err
		}
		if err := b.mapUsers(); err != nil {
			return err
		}
		if err := b.ctl.send(packet{kind: msgMapped}); err != nil {
			return b.setupError(err)
		}
	}
	return b.expect(msgReady)
}

// mapUsers gives the init's user namespace its two users: root of the namespace and the function's.
func (b *box) mapUsers() error {
	first := b.d.hostID(b.slot)
	proc := fmt.Sprintf("/proc/%d/", b.pid)
	if err := writeFile(proc+"uid_map", fmt.Sprintf("0 %d 1\n%d %d 1\n", first, sandbox.UserID, first+1)); err != nil {
		return err
	}
	if err := writeFile(proc+"setgroups", "deny"); err != nil {
		return err
	}
	return writeFile(proc+"gid_map", fmt.Sprintf("0 %d 1\n%d %d 1\n", first, sandbox.GroupID, first+1))
}

func (b *box) expect(kind uint32) error {
	p, err := b.ctl.receive()
	if err != nil {
		return b.setupError(err)
	}
	defer p.closeFDs()
	if p.kind == msgFailed {
		return fmt.Errorf("set-up of %s: %w", p.body, syscall.Errno(p.b))
	}
	if p.kind != kind {
		return fmt.Errorf("set-up: the init sent %d, expected %d", p.kind, kind)
	}
	return nil
}

// setupError finds the init's own report behind a broken connection.
func (b *box) setupError(err error) error {
	if p, rerr := b.ctl.receive(); rerr == nil && p.kind == msgFailed {
		return fmt.Errorf("set-up of %s: %w", p.body, syscall.Errno(p.b))
	}
	return fmt.Errorf("set-up: the init ended: %w", err)
}

// listen reads the init's messages until it is gone; then every process has ended too.
func (b *box) listen() {
	for {
		p, err := b.ctl.receive()
		if err != nil {
			break
		}
		b.mu.Lock()
		if p.kind == msgExit {
			proc := b.processes[p.id]
			delete(b.processes, p.id)
			b.mu.Unlock()
			if proc != nil {
				proc.finish(syscall.WaitStatus(p.a))
			}
			continue
		}
		answer := b.waiting[p.id]
		delete(b.waiting, p.id)
		b.mu.Unlock()
		if answer == nil {
			p.closeFDs() // whoever asked has given up
			continue
		}
		answer <- p
	}
	b.mu.Lock()
	b.ended = true
	left := b.processes
	b.processes = nil
	b.mu.Unlock()
	for _, proc := range left {
		proc.finish(syscall.WaitStatus(syscall.SIGKILL)) // the kernel killed them with the init
	}
	close(b.gone)
}

// request sends a packet and waits for its answer. On a nil error the descriptors of the answer are the caller's.
func (b *box) request(ctx context.Context, p packet, attach *process) (packet, error) {
	answer := make(chan packet, 1)
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return packet{}, b.goneError()
	}
	if b.frozen {
		b.mu.Unlock()
		return packet{}, fmt.Errorf("sandbox %s is frozen: thaw it first", b.id)
	}
	b.next++
	p.id = b.next
	b.waiting[p.id] = answer
	if attach != nil {
		attach.id = p.id
		b.processes[p.id] = attach
	}
	b.mu.Unlock()
	err := b.ctl.send(p)
	if err == nil {
		select {
		case got := <-answer:
			return got, nil
		case <-b.gone:
			err = b.goneError()
		case <-ctx.Done():
			err = ctx.Err()
		}
	} else if errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) {
		err = b.goneError()
	}
	b.mu.Lock()
	delete(b.waiting, p.id)
	if attach != nil {
		delete(b.processes, p.id)
	}
	b.mu.Unlock()
	select { // it may have come at the last moment
	case late := <-answer:
		late.closeFDs()
	default:
	}
	return packet{}, fmt.Errorf("sandbox %s: %w", b.id, err)
}

func (b *box) goneError() error { return fmt.Errorf("sandbox %s: %w", b.id, sandbox.ErrGone) }

// Destroy implements sandbox.Sandbox. A failed Destroy may be called again.
func (b *box) Destroy(ctx context.Context) error {
	b.destroying.Lock()
	defer b.destroying.Unlock()
	if b.destroyed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, destroyLimit)
	defer cancel()
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	if b.pidfd != nil {
		if b.group != nil {
			b.group.unleash() // in vain: it takes longer, as do these
			if b.yields && b.group.c.unified {
				b.group.hurry()
			} else if b.yields && b.group.c.cpu != "" {
				b.group.moveTo(b.group.dir(b.group.c.cpu), b.pid)
			}
		}
		if b.group == nil || !b.group.once || !b.group.kill() { // who kills a group cannot clone into it any more
			b.signalInit()
		}
		if err := b.awaitDeath(ctx); err != nil {
			return fmt.Errorf("destroy sandbox %s: %w", b.id, err)
		}
		b.pidfd.Close()
		b.pidfd = nil
	}
	if b.listening {
		<-b.gone // its reader meets the end of the file, now that the init is dead; it still reads the groups
	}
	if b.ctl != nil {
		b.ctl.close()
	}
	if b.group != nil {
		if err := b.group.give(ctx); err != nil {
			return fmt.Errorf("destroy sandbox %s: %w", b.id, err)
		}
	}
	for _, s := range []*scratch{b.scratch, b.covered} {
		if s != nil {
			b.d.scratch.give(s)
		}
	}
	if b.network != nil {
		b.d.networks.give(b.network)
	}
	b.destroyed = true
	b.d.forget(b)
	return nil
}

func (b *box) signalInit() {
	raw, err := b.pidfd.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }) // ESRCH: it is dead already
}

// awaitDeath waits until the init has ended, which the kernel lets it do only after every other process of its pid namespace.
// A pidfd becomes readable then.
func (b *box) awaitDeath(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		b.pidfd.SetReadDeadline(deadline)
	}
	raw, err := b.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var perr error
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		var n int
		n, perr = unix.Poll(poll, 0)
		return n > 0 || perr != nil && !errors.Is(perr, unix.EINTR)
	})
	return errors.Join(err, perr)
}

// appendString adds one NUL-terminated string of an exec request.
func appendString(body []byte, s string) []byte { return append(append(body, s...), 0) }

// execError reads the report of a child that could not start; nil when it did.
func execError(report []byte, cmd sandbox.Command) error {
	if len(report) < 8 {
		return nil
	}
	errno := syscall.Errno(binary.NativeEndian.Uint32(report[4:]))
	switch step := binary.NativeEndian.Uint32(report); step {
	case 5:
		return &os.PathError{Op: "chdir", Path: cmd.Dir, Err: errno}
	case 6:
		return &os.PathError{Op: "exec", Path: cmd.Path, Err: errno}
	default:
		return fmt.Errorf("start %s, step %d: %w", cmd.Path, step, errno)
	}
}
