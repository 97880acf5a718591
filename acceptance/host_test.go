package acceptance_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"berth/wire"
)

// host is a process that serves a role on a real socket.
type host struct {
	net.Listener
	addr string

	mu     sync.Mutex
	conns  []net.Conn // all that were ever taken: a test has few
	killed bool
}

// listen serves a role until the test ends, or the host is killed.
func (c *cluster) listen(roles *wire.Server) *host {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	h := &host{Listener: l, addr: l.Addr().String()}
	front := &http.Server{Handler: roles}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := roles.Run(ctx); err != nil {
			c.t.Error(err)
		}
	})
	serving.Go(func() {
		if err := front.Serve(h); !errors.Is(err, net.ErrClosed) {
			c.t.Errorf("serving a role: %v", err)
		}
	})
	c.t.Cleanup(func() {
		h.kill() // the test is over: nobody waits for an answer
		cancel()
		serving.Wait()
	})
	return h
}

// Accept is the listener's. It remembers connections: net/http forgets those that are taken over.
func (h *host) Accept() (net.Conn, error) {
	conn, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	h.conns = append(h.conns, conn)
	return conn, nil
}

// kill ends the connections and refuses new ones, as the kernel does for a process that was killed.
func (h *host) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.killed = true
	_ = h.Close()
	for _, conn := range h.conns {
		_ = conn.Close()
	}
}
