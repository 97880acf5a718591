package quick

import (
	"context"
	"sync"
	"syscall"
	"time"
)

// callContext is the context of one request. It ends when the client leaves, or when the handler has returned. Whether the client
// leaves is watched from the first Done on: who never waits never asks.
type callContext struct {
	c *conn

	mu      sync.Mutex
	err     error
	done    chan struct{}
	watched chan struct{} // closed when nobody watches any more; nil: nobody did
}

func (*callContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (*callContext) Value(any) any               { return nil }

func (x *callContext) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

func (x *callContext) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done == nil {
		x.done = make(chan struct{})
		if x.err != nil {
			close(x.done)
		} else if raw, ok := x.c.Conn.(syscall.Conn); ok {
			_ = x.c.SetReadDeadline(time.Time{}) // a handler may take longer than a connection may be idle
			x.watched = make(chan struct{})
			go x.watch(raw)
		}
	}
	return x.done
}

// cancel ends the context, once.
func (x *callContext) cancel() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == nil {
		x.err = context.Canceled
		if x.done != nil {
			close(x.done)
		}
	}
}

// watch waits for the end of what the client sends, without taking any of it.
func (x *callContext) watch(sc syscall.Conn) {
	defer close(x.watched)
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	gone := false
	_ = raw.Read(func(fd uintptr) bool { // fails when end wants it to
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		for err == syscall.EINTR {
			n, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		}
		gone = n == 0 && err == nil || err != nil && err != syscall.EAGAIN // else it is the next request, early: it stays where it is
		return err != syscall.EAGAIN
	})
	if gone {
		x.cancel()
	}
}

// end ends the context and the watch, after the handler has returned. The connection's read deadline is gone then.
func (x *callContext) end() {
	x.cancel()
	x.mu.Lock()
	watched := x.watched
	x.mu.Unlock()
	if watched == nil {
		return
	}
	_ = x.c.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection
	<-watched
	x.c.until = time.Time{}
	_ = x.c.SetReadDeadline(time.Time{})
}
