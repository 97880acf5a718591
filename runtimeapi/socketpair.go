//go:build unix

package runtimeapi

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// SocketPair makes the channel of a frames runtime: ours is for ServeConn, theirs becomes the process's descriptor
// runtimes.FrameFD and is then closed here. Both close on exec, so that no other child inherits them. theirs blocks, which
// the bootstraps rely on; so it must not be made a net.Conn.
func SocketPair() (ours net.Conn, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "runtime")
	f := os.NewFile(uintptr(fds[0]), "berth")
	ours, err = net.FileConn(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return ours, theirs, nil
}
