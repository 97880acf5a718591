// Package quick serves HTTP/1.1 requests that must be cheap, and leaves all others to net/http. net/http reads ahead in a goroutine of
// its own during each request, to see the client leave; it makes some twenty objects and writes headers in order of name.
// For an answer that takes a few microseconds to find that is most of the cost.
//
// A connection begins here. The first request on it that is not plainly one of the quick ones (another path, a large or
// chunked body, anything at all that is unusual) goes to the http.Server with the connection and what was read of it, and
// the connection stays there. So nothing is refused here, and nothing is understood in two ways: FuzzParse holds what is taken to what
// net/http makes of it.
package quick

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config configures a Server. All members are required.
type Config struct {
	// HTTP serves what is not quick, and both use its Handler, ReadHeaderTimeout and IdleTimeout. Nobody else serves with it.
	// It must have none of the hooks ConnState, ConnContext, BaseContext, and no WriteTimeout.
	HTTP *http.Server
	// Quick says which requests are served here, by their path as it came, without the query. They are POSTs. Beginning is
	// what all such paths begin with.
	Quick     func(path string) bool
	Beginning string
	Log       *slog.Logger
}

// Server serves one listener.
type Server struct {
	cfg     Config
	begins  string // of a quick request
	others  *handover
	closing atomic.Bool
	running sync.WaitGroup // goroutines of connections

	mu       sync.Mutex
	listener net.Listener
	conns    map[*conn]struct{}
}

// New makes a Server. It starts nothing.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, begins: "POST " + cfg.Beginning, others: &handover{conns: make(chan net.Conn), closed: make(chan struct{})}, conns: map[*conn]struct{}{}}
}

// Serve serves until Shutdown or Close, and returns http.ErrServerClosed then.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener, s.others.addr = l, l.Addr()
	if s.closing.Load() {
		l.Close()
	}
	s.mu.Unlock()
	served := make(chan error, 1)
	go func() { served <- s.cfg.HTTP.Serve(s.others) }()
	err := s.accept(l)
	l.Close()
	s.others.Close()
	if other := <-served; !s.closing.Load() {
		return errors.Join(err, other)
	}
	return http.ErrServerClosed
}

// Bounds of the pause after an Accept that failed for want of something, descriptors for one.
const (
	shortestPause = 5 * time.Millisecond
	longestPause  = time.Second
)

func (s *Server) accept(l net.Listener) error {
	pause := shortestPause
	for {
		raw, err := l.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = shortestPause
			s.start(raw)
			continue
		case s.closing.Load() || !errors.As(err, &temporary) || !temporary.Temporary():
			return err
		}
		s.cfg.Log.Warn("no connection could be accepted; trying again", "error", err, "after", pause)
		time.Sleep(pause)
		pause = min(2*pause, longestPause)
	}
}

func (s *Server) start(raw net.Conn) {
	c := &conn{Conn: raw, s: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		raw.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Go(c.serve)
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// stop closes the listener and gives all connections to f.
func (s *Server) stop(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true) // with mu, so that nothing is started any more
	if s.listener != nil {
		s.listener.Close()
	}
	for c := range s.conns {
		f(c)
	}
}

// Shutdown takes no more connections, closes those that are idle, and waits until the others have their answers, or until ctx
// ends; then it returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop((*conn).closeIdle)
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	err := s.cfg.HTTP.Shutdown(ctx)
	select {
	case <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes everything at once. Handlers run to their ends.
func (s *Server) Close() error {
	s.stop(func(c *conn) { c.Close() })
	return s.cfg.HTTP.Close()
}

// handover is the listener of the http.Server: connections that are not for us.
type handover struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
	addr   net.Addr
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }

// pass hands a connection over with what was read of it.
func (h *handover) pass(c net.Conn, read []byte) {
	select {
	case h.conns <- &begun{Conn: c, read: read}:
	case <-h.closed:
		c.Close()
	}
}

// begun is a connection of which some was read already.
type begun struct {
	net.Conn
	read []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.read) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.read)
	if b.read = b.read[n:]; len(b.read) == 0 {
		b.read = nil
	}
	return n, nil
}
