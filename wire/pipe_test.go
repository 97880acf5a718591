package wire

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// pipes connects clients and a server in memory, so that both can live in a bubble of virtual time.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once

	dialed  atomic.Int64
	written atomic.Int64 // bytes that clients have sent, and the server has read

	stuck      atomic.Pointer[chan int] // when set, clients' writes of more than stuckAbove bytes wait until it is closed
	stuckAbove atomic.Int64
	down       atomic.Bool // nobody can connect
}

func newPipes() *pipes { return &pipes{accept: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accept:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if p.down.Load() {
		return nil, &net.OpError{Op: "dial", Err: net.ErrClosed}
	}
	p.dialed.Add(1)
	ours, theirs := net.Pipe()
	select {
	case p.accept <- theirs:
		return &pipeEnd{ours, p}, nil
	case <-p.closed:
		return nil, &net.OpError{Op: "dial", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
}

type pipeEnd struct {
	net.Conn
	pipes *pipes
}

func (e *pipeEnd) Write(p []byte) (int, error) {
	if stuck := e.pipes.stuck.Load(); stuck != nil && int64(len(p)) > e.pipes.stuckAbove.Load() {
		<-*stuck
	}
	n, err := e.Conn.Write(p)
	e.pipes.written.Add(int64(n))
	return n, err
}

// serve starts a server on the pipes and returns a client. Both end with the test.
func (p *pipes) serve(t testing.TB, d bothRoles) *Client {
	t.Helper()
	roles := NewHandler(token, d, d)
	running(t, roles.Run)
	return p.connect(t, roles)
}

// connect is serve for a server that runs already.
func (p *pipes) connect(t testing.TB, roles http.Handler) *Client {
	t.Helper()
	s := &http.Server{Handler: roles}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(p) }()
	c := NewClient(token, nil)
	c.dial = p.dial
	t.Cleanup(func() {
		c.Close()
		_ = s.Close()
		<-done
	})
	return c
}

type bothRoles interface {
	ManagerRole
	WorkerRole
}
