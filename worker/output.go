package worker

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeBytes is the kernel's default capacity of a pipe: whatever a function had printed when it answered is in there.
const pipeBytes = 64 << 10

var readBuffers = sync.Pool{New: func() any { return new([pipeBytes]byte) }}

// output is the pipe to which all processes of an environment print, and the log stream that the lines go to.
//
// Two goroutines read the pipe: follow, as data comes, and the holder of the turn, who drains it when an invocation is
// over. Both read and take over what they read under the stream's lock, so that lines stay in order, and a drain knows
// that everything printed before it is in the stream. The descriptor does not block; a drain of an empty pipe is one
// system call.
type output struct {
	*logStream
	r      *os.File
	w      *os.File // the processes' end; kept open here, so that the pipe outlives them
	raw    syscall.RawConn
	fd     int
	closed bool // guarded by logStream.mu; fd is not to be used any more
}

// openOutput makes the pipe. The log stream is to be set before anything is read.
func openOutput() (*output, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("log pipe: %w", err)
	}
	o := &output{fd: fds[0], w: os.NewFile(uintptr(fds[1]), "log pipe, functions' end")}
	// Our end only: the flag belongs to each end by itself, and functions expect that writing blocks.
	err := unix.SetNonblock(o.fd, true)
	o.r = os.NewFile(uintptr(o.fd), "log pipe")
	if err == nil {
		o.raw, err = o.r.SyscallConn()
	}
	if err != nil {
		o.r.Close()
		o.w.Close()
		return nil, fmt.Errorf("log pipe: %w", err)
	}
	return o, nil
}

// follow reads until close.
func (o *output) follow() {
	o.raw.Read(func(uintptr) bool { // ends with an error when the file is closed
		for o.chunk(true, time.Time{}) {
		}
		return false
	})
}

// drain takes what the pipe holds, as lines of the given time. A function that goes on printing meanwhile is not followed for
// ever.
func (o *output) drain(at time.Time) {
	if !o.chunk(false, at) {
		return
	}
	for left := o.waiting(); left > 0; left -= pipeBytes { // a function may have made its pipe larger
		o.chunk(false, at)
	}
}

// waiting is how many bytes the pipe holds.
func (o *output) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return 0
	}
	n, err := unix.IoctlGetInt(o.fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// chunk reads at most pipeBytes, as lines of the given time or else of now, and reports whether there may be more.
func (o *output) chunk(flush bool, at time.Time) (more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at.IsZero() {
		at = time.Now()
	}
	buf := readBuffers.Get().(*[pipeBytes]byte)
	defer readBuffers.Put(buf)
	for total := 0; !o.closed && total < pipeBytes; {
		n, err := unix.Read(o.fd, buf[:pipeBytes-total])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			break // EAGAIN
		}
		total += n
		more = total == pipeBytes
		o.write(buf[:n], at)
	}
	if flush {
		o.flush()
	}
	return more && !o.closed
}

// close ends follow. What is still in the pipe is taken first.
func (o *output) close() {
	o.drain(time.Now())
	o.mu.Lock()
	o.closed = true
	o.endPartial(time.Now())
	o.flush()
	o.mu.Unlock()
	o.r.Close()
	o.w.Close()
}

// discard frees a pipe that never had a log stream.
func (o *output) discard() {
	o.r.Close()
	o.w.Close()
}
