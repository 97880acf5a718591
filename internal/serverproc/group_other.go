//go:build unix && !linux

package serverproc

import "syscall"

// ownGroup keeps a terminal's Ctrl-C away from the server, which its starter stops in good order.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
