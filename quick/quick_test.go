package quick

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func isQuick(path string) bool { return strings.HasSuffix(path, "/run") }

// start serves handler and returns the server and its address.
func start(t testing.TB, handler http.HandlerFunc) (*Server, string, <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{HTTP: &http.Server{Handler: handler, IdleTimeout: time.Minute, ReadHeaderTimeout: time.Minute}, Beginning: "/f/", Quick: isQuick, Log: slog.New(slog.DiscardHandler)})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return s, l.Addr().String(), served
}

// echo answers with what it was asked, and by whom.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	w.Header()["X-Writer"] = []string{fmt.Sprintf("%T", w)}
	fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
}

// exchange sends bytes and reads one answer.
func exchange(t *testing.T, c net.Conn, r *bufio.Reader, request string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func connect(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c, bufio.NewReader(c)
}

// TestBothServe: one connection serves quick requests, in whatever pieces they come, until one is not quick.
func TestBothServe(t *testing.T) {
	_, addr, _ := start(t, echo)
	c, r := connect(t, addr)
	for i, step := range []struct {
		request, answer string
		quick           bool
	}{
		{"POST /f/a/run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "POST /f/a/run {}", true},
		{"POST /f/a/run?q=1 HTTP/1.1\r\nhost: x\r\n\r\n", "POST /f/a/run ", true},
		{"POST /f/b/run HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n1", "POST /f/b/run 1", true},
		{"POST /f/b/run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "POST /f/b/run x", false},
		{"POST /f/a/run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "POST /f/a/run {}", false}, // stays there
	} {
		resp, text := exchange(t, c, r, step.request)
		if quick := resp.Header.Get("X-Writer") == "*quick.answer"; text != step.answer || resp.StatusCode != 200 || quick != step.quick || resp.Header.Get("Date") == "" {
			t.Errorf("%d: %s %q %v", i, resp.Status, text, resp.Header)
		}
	}
	c, r = connect(t, addr)
	request := "POST /f/a/run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	for _, part := range []string{request[:3], request[3:40], request[40 : len(request)-1]} {
		io.WriteString(c, part)
		time.Sleep(time.Millisecond) // so that it comes in pieces; nothing depends on it
	}
	if _, text := exchange(t, c, r, request[len(request)-1:]+request); text != "POST /f/a/run {}" {
		t.Errorf("in pieces: %q", text)
	}
	if _, text := exchange(t, c, r, ""); text != "POST /f/a/run {}" {
		t.Errorf("the second of two at once: %q", text)
	}
	large := strings.Repeat("x", 2*size)
	if _, text := exchange(t, c, r, fmt.Sprintf("POST /f/l/run HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(large), large)); text != "POST /f/l/run "+large {
		t.Errorf("a large one: %d bytes", len(text))
	}
	for _, other := range []string{"GET /f/a/run", "POST /f/a", "POST /g/a/run", "PUT /"} {
		c, r := connect(t, addr)
		resp, text := exchange(t, c, r, other+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if text != other+" " || resp.Header.Get("X-Writer") == "*quick.answer" {
			t.Errorf("%s: %q %v", other, text, resp.Header)
		}
	}
}

// TestAnswers: however a handler writes, clients read the same as from net/http.
func TestAnswers(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	for name, handler := range map[string]http.HandlerFunc{
		"nothing":    func(http.ResponseWriter, *http.Request) {},
		"status":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) },
		"no content": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); w.Write([]byte("x")) },
		"parts": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			w.Write([]byte("a"))
			w.Header().Set("Late", "x")
			w.Write([]byte("b"))
		},
		"length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			w.Write(large[:7])
			w.Write(large[7:])
			if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		},
		"large": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			w.Write(large)
		},
		"values": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-A"] = []string{"1", "2\r\nX-B: 3"}
			w.Header().Set("Content-Type", "a/b")
			w.Write([]byte("x"))
		},
		"close": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") },
		"panic": func(http.ResponseWriter, *http.Request) { panic("x") },
		"short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			w.Header().Set("Content-Length", "9")
			w.Write([]byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, addr, _ := start(t, handler)
			plain := httptest.NewServer(handler)
			defer plain.Close()
			plain.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			var got [2]string
			for i, a := range []string{addr, plain.Listener.Addr().String()} {
				c, r := connect(t, a)
				io.WriteString(c, "POST /f/a/run HTTP/1.1\r\nHost: x\r\n\r\n")
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					got[i] = "none"
					continue
				}
				text, err := io.ReadAll(resp.Body)
				resp.Header.Del("Date")
				got[i] = fmt.Sprintln(resp.Status, resp.Header, resp.ContentLength, resp.Close, err, string(text))
			}
			if got[0] != got[1] {
				t.Errorf("got  %.300s\nwant %.300s", got[0], got[1])
			}
		})
	}
}

// TestClientLeaves: a handler that waits learns that its client has left; one whose client stays does not.
func TestClientLeaves(t *testing.T) {
	left := make(chan error, 1)
	_, addr, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "stay" {
			select {
			case <-r.Context().Done():
				left <- r.Context().Err()
			case <-time.After(20 * time.Millisecond):
			}
			return
		}
		<-r.Context().Done()
		left <- r.Context().Err()
	})
	c, r := connect(t, addr)
	for range 3 {
		exchange(t, c, r, "POST /f/a/run?stay HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	if len(left) > 0 {
		t.Fatal("a client left that did not")
	}
	io.WriteString(c, "POST /f/a/run HTTP/1.1\r\nHost: x\r\n\r\n")
	c.Close()
	select {
	case err := <-left:
		if err != context.Canceled {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("nobody noticed that the client left")
	}
}

// TestShutdown waits for the answer under way, and for nothing else.
func TestShutdown(t *testing.T) {
	in, out := make(chan struct{}), make(chan struct{})
	s, addr, served := start(t, func(w http.ResponseWriter, _ *http.Request) {
		in <- struct{}{}
		<-out
	})
	connect(t, addr)
	c, r := connect(t, addr)
	io.WriteString(c, "POST /f/a/run HTTP/1.1\r\nHost: x\r\n\r\n")
	<-in
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a call under way: %v", err)
	}
	close(out)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("the call under way: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("it still listens")
	}
}
