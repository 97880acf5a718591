package node

import (
	"errors"
	"net"
	"os"
	"sync"
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

// patientConn sets its write deadline as it writes, but not each time: that would cost every answer. Nor does it set each of the read
// deadlines that net/http asks for, which are five for each request: one that is set for an earlier time is left, and set anew when it has
// gone off.
type patientConn struct {
	net.Conn
	limit time.Duration

	reads  sync.Mutex
	wanted time.Time    // read deadline asked for; zero: none
	set    time.Time    // that of Conn; zero: none
	armed  atomic.Int64 // when the deadline was set, in nanoseconds since 1970; 0: set it anew
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

// Read implements net.Conn.
func (c *patientConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !c.early() {
			return n, err
		}
	}
}

// early reports whether a deadline went off that is not wanted, and sets the one that is.
func (c *patientConn) early() bool {
	c.reads.Lock()
	defer c.reads.Unlock()
	if !c.wanted.IsZero() && !time.Now().Before(c.wanted) {
		return false
	}
	return c.setRead(c.wanted) == nil
}

// SetReadDeadline implements net.Conn.
func (c *patientConn) SetReadDeadline(t time.Time) error {
	c.reads.Lock()
	defer c.reads.Unlock()
	c.wanted = t
	now := time.Now()
	goesOff := !c.set.IsZero() && c.set.After(now) // later, and Read looks then
	if goesOff && (t.IsZero() || !t.Before(c.set)) || c.set.IsZero() && t.IsZero() {
		return nil
	}
	return c.setRead(t)
}

// setRead sets Conn's read deadline. c.reads is held.
func (c *patientConn) setRead(t time.Time) error {
	c.set = t
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *patientConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
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
