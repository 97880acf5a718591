//go:build unix

package runtimeapi

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is Berth's end of a frames runtime's channel. Each method may be called from several goroutines.
type Conn interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Ends are the runtime's ends of its channel: what it reads, and what it writes. They block, which the bootstraps rely on.
type Ends [2]*os.File

// Close closes both.
func (e Ends) Close() error { return errors.Join(e[0].Close(), e[1].Close()) }

// pipes is a Conn.
type pipes struct {
	in, out *os.File
	unread  *unread // of in
}

// Pipes makes the channel of a frames runtime: ours is for ServeConn, theirs become the process's descriptors from
// runtimes.FrameFD on and are then closed here. All close on exec, so that no other child inherits them.
//
// Two pipes, and not a socket: whoever takes bytes out of a Unix socket wakes both who waits to write into it and who sleeps
// reading at its other end (the kernel does not look what for), so each call would wake the runtime and Berth's poller once
// more, in vain: 24 µs a round trip where pipes take 18.
func Pipes() (ours Conn, theirs Ends, err error) {
	there, ourOut, err := pipe(1)
	if err != nil {
		return nil, Ends{}, err
	}
	ourIn, back, err := pipe(0)
	if err != nil {
		return nil, Ends{}, errors.Join(err, there.Close(), ourOut.Close())
	}
	in, err := newUnread(ourIn)
	if err != nil {
		return nil, Ends{}, errors.Join(err, there.Close(), ourOut.Close(), ourIn.Close(), back.Close())
	}
	return pipes{ourIn, ourOut, in}, Ends{there, back}, nil
}

// unread looks whether a pipe holds anything. One look at a time.
type unread struct {
	raw   syscall.RawConn
	bytes int
	ask   func(fd uintptr) // made once, or each look would make garbage
}

func newUnread(f *os.File) (*unread, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	u := &unread{raw: raw}
	u.ask = func(fd uintptr) {
		if u.bytes, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ); err != nil {
			u.bytes = 0
		}
	}
	return u, nil
}

// any reports whether bytes wait; not of a closed pipe, where reading tells.
func (u *unread) any() bool { return u.raw.Control(u.ask) == nil && u.bytes > 0 }

// Unread reports whether something was sent that has not been read.
func (p pipes) Unread() bool { return p.unread.any() }

// pipe makes one whose end ours (0 or 1) is for Go's poller.
func pipe(ours int) (r, w *os.File, err error) {
	var fds [2]int
	syscall.ForkLock.RLock()
	if err = syscall.Pipe(fds[:]); err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err == nil {
		if err = syscall.SetNonblock(fds[ours], true); err == nil {
			return os.NewFile(uintptr(fds[0]), "frames"), os.NewFile(uintptr(fds[1]), "frames"), nil
		}
		syscall.Close(fds[0])
		syscall.Close(fds[1])
	}
	return nil, nil, fmt.Errorf("pipe of a runtime: %w", err)
}

func (p pipes) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p pipes) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p pipes) Close() error                { return errors.Join(p.in.Close(), p.out.Close()) }

func (p pipes) SetReadDeadline(t time.Time) error  { return p.in.SetReadDeadline(t) }
func (p pipes) SetWriteDeadline(t time.Time) error { return p.out.SetWriteDeadline(t) }
func (p pipes) SetDeadline(t time.Time) error {
	return errors.Join(p.in.SetReadDeadline(t), p.out.SetWriteDeadline(t))
}
