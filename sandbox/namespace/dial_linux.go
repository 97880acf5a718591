package namespace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dial implements sandbox.Sandbox. The init makes the socket, which so belongs to the sandbox's network for good; the daemon
// connects it. Addresses are IPv4.
func (b *box) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if !addr.Addr().Is4() {
		return nil, fmt.Errorf("dial %s: expected an IPv4 address of the sandbox's loopback", addr)
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := b.request(ctx, packet{kind: msgSocket}, nil)
	if err != nil {
		return nil, err
	}
	defer answer.closeFDs()
	if answer.b != 0 || len(answer.fds) != 1 {
		return nil, fmt.Errorf("socket in sandbox %s: %w", b.id, syscall.Errno(answer.b))
	}
	file := os.NewFile(uintptr(answer.fds[0]), "sandbox-socket")
	answer.fds = nil
	defer file.Close() // FileConn has its own copy
	if err := connect(ctx, file, addr); err != nil {
		return nil, fmt.Errorf("dial %s in sandbox %s: %w", addr, b.id, err)
	}
	return net.FileConn(file)
}

// connect connects a socket that does not block.
func connect(ctx context.Context, file *os.File, addr netip.AddrPort) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	var cerr error
	if err := raw.Control(func(fd uintptr) { cerr = unix.Connect(int(fd), to) }); err != nil {
		return err
	}
	if cerr == nil || !errors.Is(cerr, unix.EINPROGRESS) && !errors.Is(cerr, unix.EINTR) {
		return cerr
	}
	stop := context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	err = raw.Write(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, perr := unix.Poll(poll, 0)
		if perr != nil || n == 0 {
			cerr = perr
			return perr != nil && !errors.Is(perr, unix.EINTR)
		}
		code, gerr := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if cerr = gerr; gerr == nil && code != 0 {
			cerr = syscall.Errno(code)
		}
		return true
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, cerr)
}
