package runtimeapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/lambda"
)

// dial opens a connection of the test's own.
func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

func TestHTTPRefusesWhatIsAmbiguous(t *testing.T) {
	_, addr := serve(t)
	for request, status := range map[string]int{
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n":                                                                200,
		"\r\nGET /2018-06-01/ping HTTP/1.1\r\nhost:x\r\n\r\n":                                                             200,
		"GET /2018-06-01/ping HTTP/1.0\r\n\r\n":                                                                           200,
		"GET /2018-06-01/ping?x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nT: y\r\n\r\n": 200,
		"GET /2018-06-01/ping HTTP/1.1\r\n\r\n":                                                                           400,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n":                                                     400,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost : x\r\n\r\n":                                                               400,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n y\r\n\r\n":                                                          400,
		"GET /2018-06-01/ping HTTP/1.1\nHost: x\r\n\r\n":                                                                  400,
		"GET  /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n":                                                               400,
		"GET http://x/2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n":                                                        400,
		"G@T /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n":                                                                400,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx":                     400,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\nx":                                         400,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":    400,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n":    400,
		"GET /2018-06-01/ping HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":                         400,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n":                            501,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nExpect: gold\r\n\r\n":                                                417,
		"GET /2018-06-01/ping HTTP/2.0\r\nHost: x\r\n\r\n":                                                                505,
		"GET /" + strings.Repeat("a", maxTarget) + " HTTP/1.1\r\nHost: x\r\n\r\n":                                         414,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", maxHeaders) + "\r\n":                  431,
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", maxHeaderBytes):                           431,
		"HEAD /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n":                                                               405,
	} {
		c, r := dial(t, addr)
		go func() { _, _ = io.WriteString(c, request) }() // a large one is answered before all of it is sent
		resp, err := http.ReadResponse(r, &http.Request{Method: request[:4]})
		if err != nil || resp.StatusCode != status {
			t.Errorf("%.100q: %v %v, want %d", request, resp, err, status)
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		if status >= 400 && status != 405 || strings.Contains(request, "HTTP/1.0") {
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("%.100q: the connection is open: %v", request, err)
			}
		}
		c.Close()
	}
}

// A client that waits to be told to send its answer is told so; one whose answer is not wanted is not.
func TestHTTPContinue(t *testing.T) {
	api, addr := serve(t)
	event := next(t, addr)
	done := invoke(short(t), api, &Event{RequestID: "a"})
	<-event
	post := "POST " + base + "invocation/%s/response HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
	for _, c := range []struct {
		id     string
		length int
		status int
	}{{"b", 2, 400}, {"a", 2, 100}} {
		conn, r := dial(t, addr)
		fmt.Fprintf(conn, post, c.id, c.length)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != c.status {
			t.Fatalf("%v %v, want %d", resp, err, c.status)
		}
		if c.status == 100 {
			io.WriteString(conn, "{}")
			if resp, err = http.ReadResponse(r, nil); err != nil || resp.StatusCode != 202 {
				t.Errorf("%v %v", resp, err)
			}
		} else if !resp.Close {
			t.Error("the connection stays, though its body may come or not")
		}
	}
	if got := <-done; string(got.resp.Payload) != "{}" {
		t.Errorf("%+v", got)
	}
}

// Requests of one connection are answered in their order; one that comes before the event is there ends the connection.
func TestHTTPRequestsBeforeTheirTurn(t *testing.T) {
	api, addr := serve(t)
	c, r := dial(t, addr)
	ping := "GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n"
	io.WriteString(c, ping+ping)
	for range 2 {
		if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		} else if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(c, "GET "+base+"invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"+ping)
	if n, err := io.Copy(io.Discard, r); err != nil || n != 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
	event := next(t, addr) // the environment is none the worse for it
	done := invoke(short(t), api, &Event{RequestID: "a", Payload: []byte("1")})
	if got := <-event; got != "1" {
		t.Error(got)
	}
	expect(t, addr, "POST", base+"invocation/a/response", "2", 202, accepted)
	<-done
}

func TestOtherPaths(t *testing.T) {
	left := make(chan struct{})
	api := New(Config{Other: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
			close(left)
			return
		}
		w.Header().Set("X-Seen", r.Header.Get("X-Sent"))
		fmt.Fprintf(w, "%s %s %s %v", r.Method, r.URL.Path, body, err)
	})})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := api.NewServer()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	addr := l.Addr().String()
	for range 2 {
		status, h, body := call(t, addr, "PUT", "/2022-07-01/telemetry", "x", "X-Sent", "y")
		if status != 200 || body != "PUT /2022-07-01/telemetry x <nil>" || h.Get("X-Seen") != "y" {
			t.Error(status, h, body)
		}
	}
	if status, _, _ := call(t, addr, "PUT", "/large", strings.Repeat("x", maxOtherBody+1)); status != 413 {
		t.Error(status)
	}
	expect(t, addr, "GET", "/2018-06-01/ping", "", 200, "pong")
	c, _ := dial(t, addr)
	io.WriteString(c, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	c.Close()
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the handler does not hear that its client has left")
	}
	server.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// collected is a lambda.ResponseStream that says what it got, and when.
type collected struct {
	parts chan string
	fail  bool
}

func newCollected() *collected { return &collected{parts: make(chan string, 100)} }

func (c *collected) Begin(contentType string) error {
	c.parts <- "begin " + contentType
	return nil
}

func (c *collected) Write(p []byte) (int, error) {
	c.parts <- string(p)
	if c.fail {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestHTTPStream(t *testing.T) {
	api, addr := serve(t)
	for _, end := range []struct {
		name, trailer string
		want          Response
	}{
		{"good", "0\r\n\r\n", Response{Streamed: true}},
		{"error", "0\r\nLambda-Runtime-Function-Error-Type: Mid.Stream\r\nlambda-runtime-function-error-body: eyJtIjoxfQ==\r\n\r\n",
			Response{Streamed: true, IsError: true, ErrorType: "Mid.Stream", Payload: []byte(`{"m":1}`)}},
	} {
		to := newCollected()
		event := next(t, addr)
		done := invoke(short(t), api, &Event{RequestID: "a", Stream: to})
		<-event
		c, r := dial(t, addr)
		fmt.Fprintf(c, "POST %sinvocation/a/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: text/html\r\n"+
			"Lambda-Runtime-Function-Response-Mode: streaming\r\nTrailer: x\r\n\r\n", base)
		for _, want := range []string{"begin text/html", "one", "two"} { // each is here before the next is sent
			if want[0] != 'b' {
				fmt.Fprintf(c, "3\r\n%s\r\n", want)
			}
			if got := <-to.parts; got != want {
				t.Errorf("%s: %q, want %q", end.name, got, want)
			}
		}
		io.WriteString(c, end.trailer)
		if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 202 {
			t.Errorf("%s: %v %v", end.name, resp, err)
		}
		if got := <-done; got.err != nil || !got.resp.equal(end.want) {
			t.Errorf("%s: %+v", end.name, got)
		}
	}
}

func (r Response) equal(o Response) bool {
	return r.Streamed == o.Streamed && r.IsError == o.IsError && r.ErrorType == o.ErrorType && r.TooLarge == o.TooLarge && bytes.Equal(r.Payload, o.Payload)
}

// A response that was begun is never begun again; an error may follow it.
func TestHTTPStreamBreaksOff(t *testing.T) {
	api, addr := serve(t)
	to := newCollected()
	event := next(t, addr)
	done := invoke(short(t), api, &Event{RequestID: "a", Stream: to})
	<-event
	c, r := dial(t, addr)
	head := "POST " + base + "invocation/a/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n\r\n"
	io.WriteString(c, head+"3\r\none\r\nnonsense\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 400 {
		t.Errorf("%v %v", resp, err)
	}
	expect(t, addr, "POST", base+"invocation/a/response", "again", 403, fmt.Sprintf(notAllowed, "Running", "InvocationResponse"))
	status, _, _ := call(t, addr, "POST", base+"invocation/a/error", "{}", "Lambda-Runtime-Function-Error-Type", "E")
	if got := <-done; status != 202 || !got.resp.equal(Response{Streamed: true, IsError: true, ErrorType: "E", Payload: []byte("{}")}) {
		t.Errorf("%d %+v", status, got)
	}
	if a, b := <-to.parts, <-to.parts; a != "begin " || b != "one" {
		t.Errorf("%q %q", a, b)
	}
}

func TestFramesStream(t *testing.T) {
	api, p, _ := connect(t)
	p.send('N', "")
	for _, c := range []struct {
		name   string
		frames func()
		want   Response
	}{
		{"good", func() { p.send('C', "one"); p.send('C', "two"); p.send('F', "") }, Response{Streamed: true}},
		{"quiet", func() { p.send('C', "one"); p.send('C', "two"); p.send('f', ""); p.send('N', "") }, Response{Streamed: true}},
		{"error", func() { p.send('C', "one"); p.send('C', "two"); p.send('E', "\x01t{}") },
			Response{Streamed: true, IsError: true, ErrorType: "t", Payload: []byte("{}")}},
	} {
		for _, streams := range []bool{true, false} {
			ev, to := &Event{RequestID: "a"}, newCollected()
			if streams {
				ev.Stream = to
			}
			done := invoke(short(t), api, ev)
			p.event()
			p.send('B', "text/html")
			c.frames()
			got, want := <-done, c.want
			if !streams {
				want.Streamed = false
				if !want.IsError {
					want.Payload = []byte("onetwo")
				}
			}
			if got.err != nil || !got.resp.equal(want) {
				t.Errorf("%s, streams %v: %+v", c.name, streams, got)
			}
			close(to.parts)
			var parts []string
			for part := range to.parts {
				parts = append(parts, part)
			}
			if streams && !slices.Equal(parts, []string{"begin text/html", "one", "two"}) {
				t.Errorf("%s: %q", c.name, parts)
			}
		}
	}
}

// What is collected for want of a stream is bounded; the next response is none the worse for it.
func TestFramesStreamTooLarge(t *testing.T) {
	api, p, _ := connect(t)
	p.send('N', "")
	for i, want := range []Response{{TooLarge: true}, {Payload: []byte("x")}} {
		done := invoke(short(t), api, &Event{RequestID: "a"})
		p.event()
		p.send('B', "")
		if i == 0 {
			p.send('C', strings.Repeat("x", lambda.MaxPayload))
		}
		p.send('C', "x")
		p.send('F', "")
		if got := <-done; got.err != nil || !got.resp.equal(want) {
			t.Errorf("%.200v", got)
		}
	}
}

// A caller that has left costs the runtime nothing, and a reset in the middle of a response says what was streamed.
func TestStreamWithoutCaller(t *testing.T) {
	api, p, served := connect(t)
	p.send('N', "")
	to := newCollected()
	to.fail = true
	done := invoke(short(t), api, &Event{RequestID: "a", Stream: to})
	p.event()
	p.send('B', "")
	for range 3 {
		p.send('C', "x")
	}
	p.send('F', "")
	if got := <-done; got.err != nil || !got.resp.Streamed || len(to.parts) != 2 {
		t.Errorf("%+v, %d parts", got, len(to.parts))
	}
	to = newCollected()
	done = invoke(short(t), api, &Event{RequestID: "b", Stream: to})
	p.event()
	p.send('B', "")
	<-to.parts
	api.Reset()
	if got := <-done; got.err != ErrReset || !got.resp.Streamed {
		t.Errorf("%+v", got)
	}
	<-served
}

// A reader that does not read does not hold up the invocation's time limit.
func TestStreamWithoutReader(t *testing.T) {
	api, p, served := connect(t)
	p.send('N', "")
	to := &stuck{writing: make(chan struct{}), given: make(chan struct{})}
	ctx, cancel := context.WithCancel(short(t))
	done := invoke(ctx, api, &Event{RequestID: "a", Stream: to})
	p.event()
	p.send('B', "")
	p.send('C', "x")
	<-to.writing
	cancel()
	if got := <-done; !errors.Is(got.err, context.Canceled) || !got.resp.Streamed {
		t.Errorf("%+v", got)
	}
	api.Reset()
	<-served
}

// stuck is a stream whose reader does not read.
type stuck struct{ writing, given chan struct{} }

func (s *stuck) Begin(string) error { return nil }
func (s *stuck) Write([]byte) (int, error) {
	close(s.writing)
	<-s.given
	return 0, errors.New("interrupted")
}
func (s *stuck) Interrupt() { close(s.given) }

func TestFramesStreamProtocol(t *testing.T) {
	for _, frames := range []string{"C", "F", "B B", "BR", "BI"} {
		api, p, served := connect(t)
		p.send('N', "")
		done := invoke(short(t), api, &Event{RequestID: "a"})
		p.event()
		for _, kind := range strings.ReplaceAll(frames, " ", "") {
			body := ""
			if kind == 'I' {
				body = "\x00"
			}
			p.send(byte(kind), body)
		}
		if err := <-served; !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", frames, err)
		}
		api.Reset()
		<-done
	}
}

// What our parser takes, net/http takes too, and sees the same in it.
func FuzzHead(f *testing.F) {
	f.Add([]byte("GET /a?b HTTP/1.1\r\nHost: x\r\nContent-Type: y\r\nContent-Length: 5\r\nConnection: a, Close\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHOST:x\r\nTransfer-Encoding: chunked\r\nExpect: 100-Continue\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		i := bytes.Index(data, headEnd)
		if i < 0 {
			return
		}
		data = data[:i+len(headEnd)]
		h, status := parseHead(data)
		if status != 0 {
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			if !strings.Contains(err.Error(), "parse \"") && !strings.Contains(err.Error(), "Host") { // a target that is no URL
				t.Fatalf("%q is taken, but net/http says: %v", data, err)
			}
			return
		}
		if req.Method != string(h.method) || req.RequestURI != string(h.target) || req.ContentLength != h.length ||
			req.Header.Get("Content-Type") != "" && !bytes.Contains(data, h.contentType) {
			t.Errorf("%q: %+v, net/http: %+v", data, h, req)
		}
		if req.Close && !h.last {
			t.Errorf("%q: net/http closes", data)
		}
	})
}

// httpRuntime is a runtime on HTTP that makes no garbage: it asks, and answers with the same bytes.
func httpRuntime(t testing.TB, addr string, id string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ask := []byte("GET " + base + "invocation/next HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\n\r\n")
	answer := []byte("POST " + base + "invocation/" + id + "/response HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n\"hello\"")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var buf [16 << 10]byte
		for {
			for _, request := range [...][]byte{ask, answer} {
				if _, err := c.Write(request); err != nil {
					return
				}
				if _, err := c.Read(buf[:]); err != nil { // each answer is one write
					return
				}
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-ended
	})
}

func httpRound(t testing.TB) func() {
	api, addr := serve(t)
	ev := &Event{RequestID: "5c9f4cbc-8c4e-4bd8-a2b8-8a5f6a3a3b3c", Deadline: time.Now().Add(time.Hour), InvokedARN: "arn:aws:lambda:us-east-1:000000000001:function:hello",
		TraceID: "Root=1", Payload: []byte(`{"name":"world"}`)}
	httpRuntime(t, addr, ev.RequestID)
	ctx := short(t)
	return func() {
		if r, err := api.Invoke(ctx, ev); err != nil || string(r.Payload) != `"hello"` {
			t.Fatal(r, err)
		}
	}
}

func BenchmarkHTTP(b *testing.B) {
	round := httpRound(b)
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
}

// TestGarbage holds both faces to their budgets, the runtime's side included. HTTP: the payload, and waiting for the next request.
func TestGarbage(t *testing.T) {
	rounds := map[string]func(testing.TB) func(){"HTTP": httpRound, "frames": framesRound}
	for face, budget := range map[string]float64{"HTTP": 4, "frames": 1} {
		round := rounds[face](t)
		for range 10 {
			round()
		}
		if got := testing.AllocsPerRun(200, round); got > budget {
			t.Errorf("%s: %.1f allocations, budget %.0f", face, got, budget)
		}
	}
}
