package namespace

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// prepare lets the init make a process that lacks its program only (await_program in init/supervise.c), for the first Exec. In a
// call's time that leaves the execve: without a fork, credentials and the page faults of both some 0.4 ms less, off an idle
// machine's processors. Failing, Exec starts one as ever.
func (b *box) prepare() {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fds[1])
	p := &process{b: b, done: make(chan struct{}), channel: fds[0]}
	b.mu.Lock()
	b.next++
	p.id = b.next
	b.processes[p.id], b.prepared = p, p
	b.mu.Unlock()
	if b.ctl.send(packet{kind: msgPrepare, id: p.id, fds: fds[1:]}) != nil {
		b.drop(p)
		b.dismiss()
	}
}

// execPrepared gives the prepared process its program; nil without an error: there is none, or it is gone.
func (b *box) execPrepared(cmd sandbox.Command, request packet) (*process, error) {
	b.mu.Lock() // the channel stays open meanwhile; nothing here waits
	defer b.mu.Unlock()
	p := b.prepared
	if p == nil || b.ended || b.frozen {
		return nil, nil
	}
	b.prepared = nil
	buf, err := request.encode()
	if err != nil {
		return nil, err
	}
	p.path, p.dir = cmd.Path, cmd.Dir
	send := func() (int, error) {
		return 0, unix.Sendmsg(p.channel, buf, unix.UnixRights(request.fds...), nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	}
	if _, err := again(send); err != nil { // it was killed
		p.closeChannel()
		return nil, nil
	}
	return p, nil
}

// dismiss ends the prepared process, if there is one: it must not stand beside others that run.
func (b *box) dismiss() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.prepared != nil {
		b.prepared.closeChannel()
		b.prepared = nil
	}
}

// closeChannel closes the daemon's end; b.mu is held.
func (p *process) closeChannel() {
	if p.channel >= 0 {
		unix.Close(p.channel)
		p.channel = -1
	}
}

// lastReport is why a prepared process that has ended could not run its program; nil if it could. Nobody waits for that before:
// the wake-up would take the processor from the program's start.
func (p *process) lastReport() error {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if p.channel < 0 {
		return nil
	}
	var report [8]byte
	n, err := again(func() (int, error) {
		n, _, err := unix.Recvfrom(p.channel, report[:], unix.MSG_DONTWAIT)
		return n, err
	})
	p.closeChannel()
	if err != nil || n < len(report) || p.path == "" {
		return nil
	}
	return fmt.Errorf("sandbox %s: %w", p.b.id, execError(report[:], sandbox.Command{Path: p.path, Dir: p.dir}))
}

// nullFor opens /dev/null for a command that has no file for its output; the caller closes it.
func nullFor(cmd sandbox.Command) (*os.File, error) {
	if cmd.Stdout != nil && cmd.Stderr != nil {
		return nil, nil
	}
	return os.OpenFile(os.DevNull, os.O_RDWR, 0)
}
