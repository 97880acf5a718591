package wire

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	serverIdleLimit = 5 * time.Minute
	frameLimit      = 30 * time.Second // from a call's first byte to its last
	writeLimit      = time.Minute      // how long a reader may take nothing before it counts as gone
	// drainLimit is how long calls under way may go on when the server stops; then they are cut off.
	drainLimit = 10 * time.Second
	// goodbye is how long a connection without a call is served after its client was told to use another.
	goodbye = 100 * time.Millisecond
	// refreshAfter saves setting a deadline anew for each frame: limits are that much shorter at times.
	refreshAfter = 10 * time.Second
)

// Server serves the roles of this process to the others. It is an http.Handler, because connections begin as HTTP.
type Server struct {
	want  []byte // the Authorization header
	open  bool   // there is a token to compare with
	ops   routes
	codec *codec
	ctx   context.Context // of the calls
	stop  context.CancelFunc

	mu       sync.Mutex
	conns    map[*serverConn]struct{}
	draining bool
	running  sync.WaitGroup
}

// ServeHTTP begins a connection. Who does not show the cluster's token is refused.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch {
	case !s.open || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), s.want) != 1:
		http.Error(rw, "the cluster token is missing or wrong", http.StatusUnauthorized)
	case r.URL.Path != connectPath:
		http.NotFound(rw, r)
	case r.Header.Get("Upgrade") != protocol:
		rw.Header().Set("Upgrade", protocol)
		http.Error(rw, "roles speak "+protocol+" here: ask for it with Upgrade", http.StatusUpgradeRequired)
	default:
		s.take(rw)
	}
}

// take turns an HTTP connection into one of frames.
func (s *Server) take(rw http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		http.Error(rw, "this connection cannot be taken over: "+err.Error(), http.StatusHTTPVersionNotSupported)
		return
	}
	sc := &serverConn{server: s, conn: conn, reader: bufio.NewReaderSize(conn, readBuffer)}
	sc.writer.conn = conn
	if buffered.Reader.Buffered() > 0 || !s.add(sc) { // nobody speaks before the answer
		_ = conn.Close()
		return
	}
	sc.extend()
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %s\r\n\r\n",
		protocol, documentsHeader, s.codec.digest)
	if err != nil {
		s.remove(sc)
		return
	}
	go sc.serve() // not here: net/http's buffers would live as long
}

// add counts a connection in; not while the server stops.
func (s *Server) add(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.running.Add(1)
	s.conns[c] = struct{}{}
	return true
}

// remove closes a connection and counts it out.
func (s *Server) remove(c *serverConn) {
	_ = c.conn.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

// Run serves until ctx ends. Then clients are told to call nobody here any more, and calls under way have 10 s to end. It returns when
// all connections are closed.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.draining = true
	for c := range s.conns {
		c.sayBye()
	}
	s.mu.Unlock()
	cut := time.AfterFunc(drainLimit, func() {
		s.stop()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			_ = c.conn.Close()
		}
	})
	defer cut.Stop()
	s.running.Wait()
	s.stop()
	return nil
}

// serverConn is one connection of a client. Its calls come one after the other.
type serverConn struct {
	server *Server
	conn   net.Conn
	reader *bufio.Reader
	doc    []byte // used again

	leaving atomic.Bool // the client must use another connection

	// Two locks: who waits for a slow reader must not hold up who looks whether it has left.
	reading sync.Mutex // of the read deadline
	idle    bool       // between two calls
	readBy  time.Time

	writing sync.Mutex // goodbyes come from another goroutine
	writer  frameWriter
	said    bool // the client knows that it must use another connection
	writeBy time.Time
	hurried atomic.Bool // the connection's write deadline is not writeBy
}

// sayBye tells the client that the next call must go elsewhere. What it has sent meanwhile is served. Who is being
// written to hears of it at the end of the frame.
func (c *serverConn) sayBye() {
	c.leaving.Store(true)
	if c.writing.TryLock() {
		c.bye()
		c.writing.Unlock()
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.idle {
		_ = c.conn.SetReadDeadline(time.Now().Add(goodbye))
	}
}

// bye sends the goodbye if it is due; c.writing is held.
func (c *serverConn) bye() {
	if c.said || !c.leaving.Load() {
		return
	}
	c.said = true
	_ = c.conn.SetWriteDeadline(time.Now().Add(goodbye))
	c.writeBy = time.Time{}
	c.writer.start("")
	_ = c.writer.send(head{kind: byeFrame}, nil) // who does not hear it finds the connection closed
}

// extend lets the client be silent for some time more, between two calls.
func (c *serverConn) extend() {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.idle = true
	now := time.Now()
	switch {
	case c.leaving.Load():
		c.readBy = now.Add(goodbye)
	case c.readBy.Sub(now) > serverIdleLimit-refreshAfter:
		return
	default:
		c.readBy = now.Add(serverIdleLimit)
	}
	_ = c.conn.SetReadDeadline(c.readBy)
}

// begin marks the connection busy with a call of the given size, of which the rest must come in time.
func (c *serverConn) begin(size int) {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.idle = false
	if c.leaving.Load() || c.reader.Buffered() < size {
		c.readBy = time.Now().Add(frameLimit)
		_ = c.conn.SetReadDeadline(c.readBy)
	}
}

// send sends one frame without a document.
func (c *serverConn) send(h head, raw []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.writer.start("")
	return c.write(h, raw)
}

// write completes a frame; c.writing is held.
func (c *serverConn) write(h head, raw []byte) error {
	if now := time.Now(); c.writeBy.Sub(now) < writeLimit-refreshAfter || c.hurried.Swap(false) {
		c.writeBy = now.Add(writeLimit)
		_ = c.conn.SetWriteDeadline(c.writeBy) // the write fails where it does
	}
	err := c.writer.send(h, raw)
	if err == nil {
		c.bye()
	}
	return err
}

// serve takes calls until the client leaves, or breaks the protocol.
func (c *serverConn) serve() {
	defer c.server.remove(c)
	for {
		c.extend()
		h, err := readHead(c.reader)
		switch {
		case err != nil:
			return
		case h.kind == leaveFrame: // it crossed the answer
		case h.kind != callFrame || c.call(h) != nil:
			return
		}
	}
}

// call reads one call, makes it, and answers it. An error is the connection's.
func (c *serverConn) call(h head) error {
	c.begin(h.name + h.doc + h.raw)
	name, err := c.reader.Peek(h.name)
	if err != nil {
		return err
	}
	op, known := c.server.ops[string(name)]
	if !known {
		refused := fmt.Errorf("no role here serves %q", name)
		op = func(*serverConn, *incoming) (any, []byte, error) { return nil, nil, refused }
	}
	if _, err := c.reader.Discard(h.name); err != nil {
		return err
	}
	if cap(c.doc) > joinBelow {
		c.doc = nil // a large document is rare
	}
	if c.doc, err = readPart(c.reader, c.doc, h.doc); err != nil {
		return err
	}
	raw, err := readRaw(c.reader, h.raw)
	if err != nil {
		return err
	}
	out, raw, err := op(c, &incoming{doc: c.doc, compact: h.compact, raw: raw})
	if err != nil {
		return c.fail(err)
	}
	return c.reply(out, h.compact, raw)
}

// reply sends an answer, compact if the question was.
func (c *serverConn) reply(out any, compact bool, raw []byte) (err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	h := head{kind: answerFrame}
	c.writer.start("")
	if c.writer.buf, h.compact, err = c.server.codec.append(c.writer.buf, out, compact); err == nil {
		err = checkSizes(len(c.writer.buf)-headSize, len(raw))
	}
	if err != nil {
		return c.refuse(err)
	}
	return c.write(h, raw)
}

// fail sends an error as the end of a call.
func (c *serverConn) fail(err error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.refuse(err)
}

// maxMessage bounds an error's text on the wire, in bytes.
const maxMessage = 16 << 10

func (c *serverConn) refuse(err error) error {
	f := failureOf(err)
	f.Message = f.Message[:min(len(f.Message), maxMessage)]
	document, err := json.Marshal(f)
	if err == nil {
		err = checkSizes(len(document), 0)
	}
	if err != nil {
		return err
	}
	c.writer.start("")
	c.writer.buf = append(c.writer.buf, document...)
	return c.write(head{kind: failureFrame}, nil)
}

// watchAfter is how long a call takes before its client is watched. Most have ended by then, and it costs them nothing.
const watchAfter = 20 * time.Millisecond

// watched runs a call and tells left, from another goroutine, when the client closes the connection or leaves the response
// meanwhile.
func (c *serverConn) watched(after time.Duration, left func(), run func()) {
	done, over := make(chan struct{}), false
	timer := time.AfterFunc(after, func() {
		defer close(done)
		c.reading.Lock()
		if !over {
			_ = c.conn.SetReadDeadline(time.Time{})
		}
		c.reading.Unlock()
		if _, err := c.reader.Peek(headSize); !isTimeout(err) {
			left() // a client that speaks now can only say that it leaves
		}
	})
	run()
	if timer.Stop() {
		return
	}
	c.reading.Lock()
	over = true
	c.readBy = past // it is set anew before the next read
	_ = c.conn.SetReadDeadline(past)
	c.reading.Unlock()
	<-done
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
