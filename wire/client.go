package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/lambda"
)

const (
	dialLimit   = 500 * time.Millisecond // for TCP; TLS and HTTP come after
	hailLimit   = 2 * time.Second
	idleLimit   = time.Minute // the server's is longer, so that a connection is not closed while a call is on its way
	idlePerHost = 512

	// deadAfter is how long a peer may leave what TCP sends unacknowledged, its probes of a silent connection included: a
	// machine that vanished is noticed, a function that takes long is not.
	deadAfter     = 20 * time.Second
	probeInterval = 5 * time.Second
)

// Client calls the roles of other processes. One is shared by all edges of a process.
type Client struct {
	token    string
	security *tls.Config
	codec    *codec
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	open     openConns

	mu     sync.Mutex
	idle   map[string][]*clientConn // by address; the last was used last
	reaper *time.Timer              // set while connections are idle
	closed bool
}

// NewClient makes a client that shows the cluster's token, over TLS when security is not nil.
func NewClient(token string, security *tls.Config) *Client {
	codec, err := newCodec()
	if err != nil {
		panic(err) // a type that cannot travel: every test of this package finds it
	}
	dialer := &net.Dialer{Timeout: dialLimit, Control: noticeDeath,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeInterval, Interval: probeInterval, Count: int(deadAfter / probeInterval)}}
	return &Client{token: token, security: security, codec: codec, dial: dialer.DialContext, idle: map[string][]*clientConn{}}
}

// noticeDeath bounds how long sent bytes may stay unacknowledged. Without it the kernel tries for 15 minutes.
func noticeDeath(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// Close closes idle connections, and those in use when their calls end.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.reaper != nil {
		c.reaper.Stop()
	}
	for _, conns := range c.idle {
		for _, conn := range conns {
			conn.close()
		}
	}
	clear(c.idle)
}

// take returns the idle connection that was used last; nil when there is none that lives.
func (c *Client) take(addr string) *clientConn {
	for {
		c.mu.Lock()
		conns := c.idle[addr]
		if len(conns) == 0 {
			c.mu.Unlock()
			return nil
		}
		conn := conns[len(conns)-1]
		conns[len(conns)-1] = nil
		c.idle[addr] = conns[:len(conns)-1]
		c.mu.Unlock()
		if conn.quiet() {
			return conn
		}
		conn.close()
	}
}

// put keeps a connection for the next call.
func (c *Client) put(conn *clientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle[conn.addr]) >= idlePerHost {
		conn.close()
		return
	}
	conn.idleSince = time.Now()
	c.idle[conn.addr] = append(c.idle[conn.addr], conn)
	if c.reaper == nil {
		c.reaper = time.AfterFunc(idleLimit, c.reap)
	}
}

// reap closes connections that nobody has needed for idleLimit.
func (c *Client) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reaper = nil
	if c.closed {
		return
	}
	now := time.Now()
	for addr, conns := range c.idle {
		n := 0
		for n < len(conns) && now.Sub(conns[n].idleSince) >= idleLimit {
			conns[n].close()
			n++
		}
		if n == len(conns) {
			delete(c.idle, addr)
			continue
		}
		clear(conns[:n])
		c.idle[addr] = conns[n:]
	}
	if len(c.idle) > 0 {
		c.reaper = time.AfterFunc(idleLimit/2, c.reap)
	}
}

// errUnsent marks an error of a call that never reached the other process in full: nothing has happened there.
var errUnsent = errors.New("the call was not sent")

// unreachable is the error of a call that may have arrived.
func unreachable(err error) error { return fmt.Errorf("%w: %w", lambda.ErrUnreachable, err) }

// unsent is the error of a call that has not.
func unsent(err error) error { return fmt.Errorf("%w, %w: %w", lambda.ErrUnreachable, errUnsent, err) }

// nothing is the document of a call or an answer that says nothing but that it is one.
type nothing struct{}

// call makes one call, within the context's time limit. When no answer comes the error is lambda.ErrUnreachable, and
// errUnsent too if the call never got there. In and Out are JSON unless the codec knows them.
func call[Out any](ctx context.Context, c *Client, addr, operation string, in any, raw []byte) (Out, []byte, error) {
	return exchange[Out](ctx, c, &request{addr: addr, operation: operation, in: pointer(in), raw: raw})
}

// request is one call.
type request struct {
	addr, operation string
	in              any // a pointer
	raw             []byte
	limit           time.Duration         // beside the context's; 0 is none
	sent            func()                // called when the call is on its way; may be nil
	stream          lambda.ResponseStream // may be nil
}

// exchange makes one call over an idle connection or a new one.
func exchange[Out any](ctx context.Context, c *Client, r *request) (out Out, raw []byte, err error) {
	var deadline time.Time
	if r.limit > 0 {
		deadline = time.Now().Add(r.limit)
	}
	if limit, ok := ctx.Deadline(); ok && (deadline.IsZero() || limit.Before(deadline)) {
		deadline = limit
	}
	if err := ctx.Err(); err != nil {
		return out, nil, unsent(err)
	}
	for {
		conn := c.take(r.addr)
		fresh := conn == nil
		if fresh {
			if conn, err = c.connect(ctx, r.addr, deadline); err != nil {
				return out, nil, err
			}
		}
		raw, err = conn.exchange(ctx, deadline, r, &out)
		if conn.reusable {
			c.put(conn)
		} else {
			conn.close()
		}
		if fresh || ctx.Err() != nil || !errors.Is(err, errUnsent) {
			return out, raw, err
		}
	}
}
