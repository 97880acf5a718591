package runtimeapi

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxHeaderBytes lets through the X-Ray error cause, for which clients allow themselves 1 MiB.
	maxHeaderBytes = 1<<20 + 64<<10
	// headerTimeout is how long a head may take from its first bytes to its end, and a body that nobody wants.
	headerTimeout = 30 * time.Second
	// UsualConns bounds the connections of one environment if Config does not, and with maxHeaderBytes the memory that its function can make
	// the host hold. Runtimes use one to three.
	UsualConns = 16
)

// Server is the HTTP face of one API: the Runtime API 2018-06-01 as published, with the status codes and bodies of AWS's
// open-source emulator. It speaks as much of HTTP/1.1 as runtime clients use: persistent connections, bodies of known length
// or in chunks, trailers, "100 Continue"; not pipelining. What comes is not trusted: connections are bounded in number,
// the head of a request in size and time. Idle connections stay, because a frozen runtime comes back to its own after any length
// of time.
//
// One goroutine serves a connection. It waits for the client's next request while the connection's event is still to come:
// whoever has the event writes it (API.Invoke), so that an event costs one wake-up, the runtime's.
type Server struct {
	api *API

	mu       sync.Mutex
	listener net.Listener
	conns    map[*httpConn]struct{}
	closed   bool
}

// NewServer makes a server. It starts nothing.
func (a *API) NewServer() *Server { return &Server{api: a, conns: make(map[*httpConn]struct{})} }

// Serve serves l's connections until Close, and returns http.ErrServerClosed then; or until l fails. It closes l, and returns
// when all goroutines of the server have ended.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	closed := s.closed
	s.mu.Unlock()
	if closed {
		_ = l.Close()
		return http.ErrServerClosed
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		raw, err := l.Accept()
		if err == nil {
			if c := s.admit(raw); c != nil {
				serving.Go(c.serve)
			}
			continue
		}
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return http.ErrServerClosed
		}
		var temporary interface{ Temporary() bool }
		if errors.As(err, &temporary) && temporary.Temporary() { // out of descriptors, say
			s.api.log.Debug("a connection to the Runtime API was lost", "err", err)
			time.Sleep(acceptPause)
			continue
		}
		s.Close()
		return err
	}
}

// acceptPause is how long the server takes no connections after it could not take one for want of resources.
const acceptPause = 10 * time.Millisecond

// admit registers a connection, or closes it if there are too many.
func (s *Server) admit(raw net.Conn) *httpConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.api.conns {
		_ = raw.Close()
		return nil
	}
	c := newHTTPConn(s, raw)
	s.conns[c] = struct{}{}
	return c
}

func (s *Server) forget(c *httpConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Close closes the listener and all connections. Serve returns then.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var err error
	if s.listener != nil {
		err = s.listener.Close()
	}
	for c := range s.conns {
		_ = c.Close()
	}
	return err
}
