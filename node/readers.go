package node

import (
	"net"
	"sync/atomic"
	"time"
)

// readerLimit is how long a client of the public API may read nothing of what waits for it, at most; at least half of it. Then its
// connection is cut off, so that nobody can hold answers, goroutines or functions that stream up for ever.
const readerLimit = time.Minute

// maxWrite is how many bytes go out under one time limit: a client on a slow line has it for each part anew.
const maxWrite = 64 << 10

// patientListener gives its connections a limit.
type patientListener struct {
	net.Listener
	limit time.Duration
}

// Accept implements net.Listener.
func (l patientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &patientConn{Conn: conn, limit: l.limit}, nil
}

// patientConn sets its write deadline as it writes, but not each time: that would cost every answer.
type patientConn struct {
	net.Conn
	limit time.Duration
	armed atomic.Int64 // when the deadline was set, in nanoseconds since 1970; 0: set it anew
}

// Write writes in parts, each of which must be taken in time.
func (c *patientConn) Write(p []byte) (n int, err error) {
	for {
		if now := time.Now(); now.UnixNano()-c.armed.Load() > int64(c.limit/2) {
			if err := c.Conn.SetWriteDeadline(now.Add(c.limit)); err != nil {
				return n, err
			}
			c.armed.Store(now.UnixNano())
		}
		written, err := c.Conn.Write(p[n:min(n+maxWrite, len(p))])
		if n += written; err != nil || n == len(p) {
			return n, err
		}
	}
}

// SetWriteDeadline holds for what is being written now; the next write sets its own again. No deadline at all, which is what
// net/http sets after each answer, changes nothing: the limit stays.
func (c *patientConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	c.armed.Store(0)
	return c.Conn.SetWriteDeadline(t)
}
