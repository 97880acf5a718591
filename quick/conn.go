package quick

import (
	"bytes"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// size is how large a quick request can be, head and body.
const size = 8 << 10

var buffers = sync.Pool{New: func() any { return new([size]byte) }}

// States of a connection.
const (
	idle int32 = iota // between requests, or while one is coming
	busy              // a handler runs
	over              // closed, or not ours any more
)

// conn is one connection. Its goroutine owns all but state.
type conn struct {
	net.Conn
	s     *Server
	state atomic.Int32
	buf   []byte // of size; used[:n] has come
	n     int
	until time.Time // the read deadline
}

// closeIdle closes the connection if no request is under way on it; else it is closed after that.
func (c *conn) closeIdle() {
	if c.state.CompareAndSwap(idle, over) {
		c.Close()
	}
}

// serve serves requests until the connection ends or turns out not to be for us.
func (c *conn) serve() {
	buf := buffers.Get().(*[size]byte)
	c.buf = buf[:]
	defer buffers.Put(buf)
	defer c.s.forget(c)
	for c.wait() {
		r, whole, verdict := parse(c.buf[:c.n], c.s.begins, c.s.cfg.Quick)
		switch verdict {
		case incomplete:
			if !c.more() {
				return
			}
		case notQuick:
			c.leave()
			return
		case quick:
			if !c.answer(&r) {
				c.Close()
				return
			}
			c.n = copy(c.buf, c.buf[whole:c.n])
		}
	}
}

// leave gives the connection to net/http.
func (c *conn) leave() {
	if !c.state.CompareAndSwap(idle, over) { // closed meanwhile
		return
	}
	if c.SetReadDeadline(time.Time{}) != nil {
		c.Close()
		return
	}
	c.s.others.pass(c.Conn, bytes.Clone(c.buf[:c.n]))
}

// wait waits until something of a request is there. The deadline is moved on once in a while only.
func (c *conn) wait() bool {
	if c.n > 0 {
		return true
	}
	limit := c.s.cfg.HTTP.IdleTimeout
	if now := time.Now(); limit > 0 && c.until.Sub(now) < limit*3/4 {
		c.until = now.Add(limit)
		if c.SetReadDeadline(c.until) != nil {
			c.Close()
			return false
		}
	}
	return c.read()
}

// more waits for more of a request, which has begun.
func (c *conn) more() bool {
	if limit := c.s.cfg.HTTP.ReadHeaderTimeout; limit > 0 {
		if now := time.Now(); c.until.IsZero() || c.until.Sub(now) > limit {
			c.until = now.Add(limit)
			if c.SetReadDeadline(c.until) != nil {
				c.Close()
				return false
			}
		}
	}
	return c.read()
}

func (c *conn) read() bool {
	n, err := c.Read(c.buf[c.n:])
	c.n += n
	if n == 0 && err != nil {
		c.Close()
		return false
	}
	return true
}

// answer runs the handler. It returns false when the connection must be closed.
func (c *conn) answer(r *request) (keep bool) {
	if !c.state.CompareAndSwap(idle, busy) {
		return false
	}
	ctx := &callContext{c: c}
	req := r.http(ctx)
	req.RemoteAddr = c.RemoteAddr().String()
	w := answer{c: c, header: make(http.Header, 8), last: r.last}
	if c.run(&w, req) {
		w.finish()
	} else {
		w.broken = true
	}
	ctx.end()
	c.state.Store(idle)
	if w.broken || w.last || c.s.closing.Load() {
		c.state.CompareAndSwap(idle, over)
		return false
	}
	return true
}

// run calls the handler and reports whether it returned. A panic ends the connection, as net/http has it.
func (c *conn) run(w *answer, r *http.Request) (returned bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			c.s.cfg.Log.Error("handler panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	c.s.cfg.HTTP.Handler.ServeHTTP(w, r)
	return true
}
