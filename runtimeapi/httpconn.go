package runtimeapi

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// usualBuffer holds the heads of usual requests, and with them the bodies of short answers.
const usualBuffer = 4 << 10

var buffers = sync.Pool{New: func() any { return new([usualBuffer]byte) }}

// httpConn is one connection of a Server. Its fields belong to the goroutine that serves it.
type httpConn struct {
	net.Conn
	s      *Server
	pooled *[usualBuffer]byte
	buf    []byte // what came: buf[r:w]
	r, w   int
	before phase // where the runtime stood before this connection asked for the next event; guarded by API.mu
	last   bool  // the connection ends after the next answer
	body   body  // of the request under way
}

func newHTTPConn(s *Server, raw net.Conn) *httpConn {
	c := &httpConn{Conn: raw, s: s, pooled: buffers.Get().(*[usualBuffer]byte)}
	c.buf = c.pooled[:]
	return c
}

// serve serves the connection's requests, one after the other, until it ends.
func (c *httpConn) serve() {
	defer func() {
		c.s.api.leave(c)
		_ = c.Close()
		c.s.forget(c)
		buffers.Put(c.pooled)
	}()
	for {
		h, ok := c.readHead()
		if !ok || c.last || c.s.api.polls(c) { // a request behind one that is not answered yet: no client does that
			return
		}
		c.body = body{c: c, left: h.length, chunked: h.length == chunkedLength, expects: h.expects}
		c.last = h.last
		if !c.route(&h, &c.body) {
			c.closeSoftly()
			return
		}
		c.shrink()
	}
}

// fill reads more into the buffer, which must have room.
func (c *httpConn) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if c.w == len(c.buf) {
		c.w = copy(c.buf, c.buf[c.r:])
		c.r = 0
	}
	n, err := c.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// readHead waits for the next request's head. It returns false when the connection is of no further use; the client has been told.
func (c *httpConn) readHead() (h head, ok bool) {
	timed := false
	for searched := 0; ; {
		if c.w-c.r >= 2 && searched == 0 && bytes.HasPrefix(c.buf[c.r:c.w], lineEnd) {
			c.r += 2 // an empty line before a request means nothing (RFC 9112, 2.2)
		}
		window := c.buf[c.r:c.w]
		if i := bytes.Index(window[max(0, searched-3):], headEnd); i >= 0 {
			end := max(0, searched-3) + i + len(headEnd)
			c.r += end
			h, status := parseHead(window[:end])
			if status != 0 {
				c.refuse(status)
				return h, false
			}
			return h, !timed || c.SetReadDeadline(time.Time{}) == nil
		}
		searched = len(window)
		if searched > 0 && !timed {
			timed = true
			if c.SetReadDeadline(time.Now().Add(headerTimeout)) != nil {
				return h, false
			}
		}
		if searched == len(c.buf) && !c.grow() {
			c.refuse(http.StatusRequestHeaderFieldsTooLarge)
			return h, false
		}
		if c.fill() != nil {
			return h, false
		}
	}
}

// grow doubles the buffer, up to maxHeaderBytes.
func (c *httpConn) grow() bool {
	if len(c.buf) >= maxHeaderBytes {
		return false
	}
	bigger := make([]byte, min(2*len(c.buf), maxHeaderBytes))
	c.w = copy(bigger, c.buf[c.r:c.w])
	c.r, c.buf = 0, bigger
	return true
}

// shrink gives a grown buffer back when what is left fits into the usual one.
func (c *httpConn) shrink() {
	if len(c.buf) > usualBuffer && c.w-c.r <= usualBuffer {
		c.w = copy(c.pooled[:], c.buf[c.r:c.w])
		c.r, c.buf = 0, c.pooled[:]
	}
}

// refuse answers a request that could not be read, before the connection is closed.
func (c *httpConn) refuse(status int) {
	if c.s.api.polls(c) {
		return
	}
	c.last = true
	c.reply(reply{status: status, contentType: plainText, body: []byte(strconv.Itoa(status) + " " + http.StatusText(status) + "\n")}, false)
	c.closeSoftly()
}

// closeSoftly ends our side, and reads what still comes: the client would lose the answer if we closed with bytes unread.
func (c *httpConn) closeSoftly() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	for total := 0; total < lingerBytes; {
		n, err := c.Read(c.buf)
		if err != nil {
			return
		}
		total += n
	}
}

// How long and for how many bytes a connection is read after its last answer.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

const (
	jsonText  = "application/json"
	plainText = "text/plain; charset=utf-8"
)

// reply is a short answer.
type reply struct {
	status      int
	contentType string
	allow       string // for 405
	body        []byte
}

// accepted202 is the whole answer to most posts.
var accepted202 = []byte("HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: " +
	strconv.Itoa(len(acceptedBody)) + "\r\n\r\n" + acceptedBody)

// reply writes a short answer. A client that is gone is noticed by the next read.
func (c *httpConn) reply(r reply, headOnly bool) { writeReply(c.Conn, r, headOnly, c.last) }

func writeReply(c net.Conn, r reply, headOnly, last bool) {
	if r.status == http.StatusAccepted && !last {
		_, _ = c.Write(accepted202)
		return
	}
	b := make([]byte, 0, 256+len(r.body))
	b = append(append(append(b, "HTTP/1.1 "...), strconv.Itoa(r.status)...), ' ')
	b = append(append(b, http.StatusText(r.status)...), lineEnd...)
	for _, f := range [...]struct{ name, value string }{{"Content-Type", r.contentType}, {"Allow", r.allow}} {
		if f.value != "" {
			b = append(append(append(append(b, f.name...), ": "...), f.value...), lineEnd...)
		}
	}
	if last {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(r.body)), 10), headEnd...)
	if !headOnly {
		b = append(b, r.body...)
	}
	_, _ = c.Write(b)
}

// poll is a connection whose request for the next event is still to be answered; the zero value is none. Who has taken it out of the
// API owes the answer, and touches nothing of the connection but its socket: a client that sends too early keeps the connection's
// own goroutine busy meanwhile.
type poll struct {
	conn net.Conn
	last bool // the connection ends after the answer
}

// takePoll takes out the connection that waits for an event. The caller holds mu.
func (a *API) takePoll() (p poll) {
	if a.poll != nil {
		p = poll{a.poll.Conn, a.poll.last}
		a.poll = nil
	}
	return p
}

// dismiss refuses a request for the next event that waits in vain.
func (p poll) dismiss() {
	if p.conn == nil {
		return
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(lingerTime)) // fails on a closed connection only
	writeReply(p.conn, refuseTransition(ready, ready.String()), false, p.last)
	_ = p.conn.SetWriteDeadline(time.Time{})
}

// event answers with ev. A runtime that does not read is waited for until the deadline; half an event ends the connection.
func (p poll) event(deadline time.Time, ev *Event, with *eventWriter) error {
	err := p.conn.SetWriteDeadline(deadline)
	if err == nil {
		err = with.http(p.conn, ev, p.last)
	}
	if half, ok := p.conn.(interface{ CloseWrite() error }); ok && p.last {
		_ = half.CloseWrite() // the client's end follows, and ends serve
	}
	if err != nil {
		_ = p.conn.Close()
	}
	return err
}

// appendEventHead appends the head of the answer that carries ev.
func appendEventHead(b []byte, ev *Event, last bool) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Deadline-Ms: "...)
	b = strconv.AppendInt(b, ev.Deadline.UnixMilli(), 10)
	for _, f := range [...]struct{ name, value string }{
		{"\r\nLambda-Runtime-Aws-Request-Id: ", ev.RequestID},
		{"\r\nLambda-Runtime-Trace-Id: ", ev.TraceID},
		{"\r\nLambda-Runtime-Client-Context: ", ev.ClientContext},
		{"\r\nLambda-Runtime-Cognito-Identity: ", ev.CognitoIdentity},
		{"\r\nLambda-Runtime-Invoked-Function-Arn: ", ev.InvokedARN},
		{"\r\nLambda-Runtime-Aws-Tenant-Id: ", ev.Tenant},
		{"\r\n" + TokenHeader + ": ", ev.TenantToken},
	} {
		if f.value != "" {
			b = append(append(b, f.name...), headerValue(f.value)...)
		}
	}
	if last {
		b = append(b, "\r\nConnection: close"...)
	}
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(ev.Payload)), 10)
	return append(b, headEnd...)
}
