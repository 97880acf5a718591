package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"

	"berth/lambda"
)

// clientConn is one connection; it belongs to one call at a time, or to the idle ones.
type clientConn struct {
	client    *Client
	addr      string
	conn      net.Conn
	raw       syscall.RawConn // of the socket; nil for a connection that is none
	reader    *bufio.Reader
	writer    frameWriter
	doc       []byte // used again
	compact   bool
	reusable  bool // after a call: it is in order
	use       atomic.Int32
	idleSince time.Time
}

func (c *clientConn) close() {
	c.client.open.remove(c)
	_ = c.conn.Close() // it is given up whatever close says
}

// past makes whoever reads or writes give up now.
var past = time.Unix(1, 0)

// connect opens a connection and has it turned from HTTP to frames.
func (c *Client) connect(ctx context.Context, addr string, deadline time.Time) (*clientConn, error) {
	conn, err := c.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, unsent(err)
	}
	cc := &clientConn{client: c, addr: addr, conn: conn}
	if socket, ok := conn.(syscall.Conn); ok {
		if cc.raw, err = socket.SyscallConn(); err != nil {
			cc.close()
			return nil, unsent(err)
		}
	}
	if limit := time.Now().Add(hailLimit); deadline.IsZero() || limit.Before(deadline) {
		deadline = limit
	}
	_ = conn.SetDeadline(deadline) // the read below fails where it does
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	defer stop()
	if err := cc.hail(ctx); err != nil {
		cc.close()
		return nil, err
	}
	if !stop() {
		cc.close()
		return nil, unsent(context.Cause(ctx))
	}
	_ = conn.SetWriteDeadline(time.Time{}) // reads get one with each call
	c.open.add(cc)
	return cc, nil
}

// hail shows the token and asks for the protocol.
func (c *clientConn) hail(ctx context.Context) error {
	if security := c.client.security; security != nil {
		if security.ServerName == "" {
			host, _, err := net.SplitHostPort(c.addr)
			if err != nil {
				return unsent(err)
			}
			security = security.Clone()
			security.ServerName = host
		}
		secure := tls.Client(c.conn, security)
		if err := secure.HandshakeContext(ctx); err != nil {
			return unsent(err)
		}
		c.conn = secure
	}
	c.reader = bufio.NewReaderSize(c.conn, readBuffer)
	c.writer.conn = c.conn
	_, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\nAuthorization: Bearer %s\r\n%s: %s\r\n\r\n",
		connectPath, c.addr, protocol, c.client.token, documentsHeader, c.client.codec.digest)
	if err != nil {
		return unsent(err)
	}
	res, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return unsent(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != protocol {
		message, _ := io.ReadAll(io.LimitReader(res.Body, 512)) // as much as there is
		return fmt.Errorf("%s answered %s, want a switch to %s: %s", c.addr, res.Status, protocol, bytes.TrimSpace(message))
	}
	c.compact = res.Header.Get(documentsHeader) == c.client.codec.digest
	return nil
}

// quiet reports whether an idle connection has nothing to say. What it could say is that it ends.
func (c *clientConn) quiet() bool {
	if c.reader.Buffered() > 0 {
		return false
	}
	if c.raw == nil {
		return true
	}
	quiet := false
	err := c.raw.Control(func(fd uintptr) { // not Read: the last call's deadline has passed perhaps
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && quiet
}

// exchange sends a call and reads its answer into out, a pointer.
func (c *clientConn) exchange(ctx context.Context, deadline time.Time, r *request, out any) (raw []byte, err error) {
	c.reusable = true
	w := &c.writer
	w.start(r.operation)
	h := head{kind: callFrame, name: len(r.operation)}
	if w.buf, h.compact, err = c.client.codec.append(w.buf, r.in, c.compact); err != nil {
		return nil, err
	}
	if err := checkSizes(len(w.buf)-headSize-h.name, len(r.raw)); err != nil {
		return nil, err
	}
	c.reusable = false
	if err := c.conn.SetDeadline(deadline); err != nil {
		return nil, unsent(err)
	}
	c.use.Store(useOf(r.operation))
	defer func() {
		if c.use.Swap(idleUse) == abandonedUse {
			c.reusable = false
		}
	}()
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(past) })
		defer func() { c.reusable = stop() && c.reusable }()
	}
	if err := w.send(h, r.raw); err != nil {
		return nil, unsent(ended(ctx, err))
	}
	if r.sent != nil {
		r.sent()
	}
	raw, err = c.answer(r.stream, out)
	if errors.Is(err, lambda.ErrUnreachable) {
		err = ended(ctx, err)
	}
	return raw, err
}

// ended says that the time limit has run out or the caller's context ended, where that is the reason.
func ended(ctx context.Context, err error) error {
	cause := ctx.Err()
	if cause == nil && isTimeout(err) { // the connection's clock was a little earlier than the context's, or a call has its own limit
		cause = context.DeadlineExceeded
	}
	if cause == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", err, cause)
}

// answer reads what the server sends for one call, to its end.
func (c *clientConn) answer(stream lambda.ResponseStream, out any) (raw []byte, err error) {
	last, sink := false, streamSink{stream: stream, conn: c}
	for {
		h, err := readHead(c.reader)
		if err != nil {
			return nil, unreachable(err)
		}
		switch {
		case h.kind == byeFrame:
			last = true
		case (h.kind == beginFrame || h.kind == chunkFrame) && stream != nil:
			if err := sink.take(h); err != nil {
				return nil, unreachable(err)
			}
		case h.kind == answerFrame || h.kind == failureFrame:
			raw, err := c.conclude(h, out)
			c.reusable = !last && !errors.Is(err, lambda.ErrUnreachable) && !sink.left
			return raw, err
		default:
			return nil, unreachable(fmt.Errorf("a frame of kind %d came where an answer was expected", h.kind))
		}
	}
}

// conclude reads the frame that ends a call.
func (c *clientConn) conclude(h head, out any) (raw []byte, err error) {
	if h.name > 0 {
		return nil, unreachable(errors.New("an answer with a name"))
	}
	if cap(c.doc) > joinBelow {
		c.doc = nil // a large document is rare
	}
	if c.doc, err = readPart(c.reader, c.doc, h.doc); err != nil {
		return nil, unreachable(err)
	}
	if raw, err = readRaw(c.reader, h.raw); err != nil {
		return nil, unreachable(err)
	}
	if h.kind == failureFrame {
		var f failure
		if err := json.Unmarshal(c.doc, &f); err != nil {
			return nil, unreachable(fmt.Errorf("decoding a failure: %w", err))
		}
		return nil, f.err()
	}
	if err := c.client.codec.decode(c.doc, out, h.compact); err != nil {
		return nil, unreachable(fmt.Errorf("decoding an answer: %w", err))
	}
	return raw, nil
}

// pointer returns in if it is a pointer, and a pointer to a copy of it if not.
func pointer(in any) any {
	v := reflect.ValueOf(in)
	if v.Kind() == reflect.Pointer {
		return in
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p.Interface()
}
