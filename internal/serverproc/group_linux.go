package serverproc

import "syscall"

// ownGroup keeps a terminal's Ctrl-C away from the server, which its starter stops in good order, and ends the server
// when its starter is killed. (The signal comes when the starting thread ends; Go ends no thread that it has not locked.)
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
