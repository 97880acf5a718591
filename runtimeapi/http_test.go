package runtimeapi

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/lambda"
)

const base = "/2018-06-01/runtime/"

// serve gives an API behind a real server, and the server's address.
func serve(t testing.TB) (*API, string) {
	t.Helper()
	api := New(Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := api.NewServer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		api.Close()
		server.Close()
		<-done
	})
	return api, l.Addr().String()
}

// call makes one request and returns status, headers and body.
func call(t testing.TB, addr, method, path, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func expect(t *testing.T, addr, method, path, body string, status int, answer string) {
	t.Helper()
	gotStatus, h, got := call(t, addr, method, path, body)
	if gotStatus != status || got != answer {
		t.Errorf("%s %s: %d %q, want %d %q", method, path, gotStatus, got, status, answer)
	}
	if strings.HasPrefix(answer, "{") && h.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s: content type %q", method, path, h.Get("Content-Type"))
	}
}

const (
	accepted    = "{\"status\":\"OK\"}\n"
	invalidID   = "{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}\n"
	notAllowed  = "{\"errorMessage\":\"State transition from %s to %s failed for runtime. Error: State transition is not allowed\",\"errorType\":\"InvalidStateTransition\"}\n"
	tooLarge    = "{\"errorMessage\":\"Exceeded maximum allowed payload size (6291556 bytes).\",\"errorType\":\"RequestEntityTooLarge\"}\n"
	invalidMode = "{\"errorMessage\":\"Invalid function response mode\",\"errorType\":\"InvalidFunctionResponseMode\"}\n"
)

func TestHTTPInvocation(t *testing.T) {
	api, addr := serve(t)
	expect(t, addr, "GET", "/2018-06-01/ping", "", 200, "pong")
	expect(t, addr, "POST", base+"invocation/x/response", "1", 400, invalidID)

	ev := &Event{RequestID: "id-1", Deadline: time.UnixMilli(99), InvokedARN: "arn:x", TraceID: "Root=1", ClientContext: "{\"a\":\r\n\"ü\"}",
		CognitoIdentity: `{"i":1}`, Tenant: "blue", TenantToken: "e.y.J", Payload: []byte(`{"k":1}`)}
	done := invoke(short(t), api, ev)
	status, h, body := call(t, addr, "GET", base+"invocation/next", "")
	if status != 200 || body != `{"k":1}` {
		t.Errorf("next: %d %q", status, body)
	}
	for name, want := range map[string]string{
		"Lambda-Runtime-Aws-Request-Id": "id-1", "Lambda-Runtime-Deadline-Ms": "99", "Lambda-Runtime-Invoked-Function-Arn": "arn:x",
		"Lambda-Runtime-Trace-Id": "Root=1", "Lambda-Runtime-Client-Context": `{"a":  "ü"}`, "Lambda-Runtime-Cognito-Identity": `{"i":1}`,
		"Lambda-Runtime-Aws-Tenant-Id": "blue", TokenHeader: "e.y.J", "Content-Type": "application/json", "Content-Length": "7",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	if err := api.WaitReady(short(t)); err != nil {
		t.Error(err)
	}
	if status, _, body := call(t, addr, "GET", base+"invocation/next", ""); status != 200 || body != `{"k":1}` {
		t.Errorf("next once more: %d %q, want the same event", status, body)
	}
	expect(t, addr, "POST", base+"invocation/id-2/response", "1", 400, invalidID)
	expect(t, addr, "POST", base+"init/error", "{}", 403, fmt.Sprintf(notAllowed, "Running", "InitError"))
	expect(t, addr, "POST", base+"invocation/id-1/response", `"ok"`, 202, accepted)
	if got := <-done; got.err != nil || string(got.resp.Payload) != `"ok"` || got.resp.IsError {
		t.Errorf("%+v", got)
	}
	expect(t, addr, "POST", base+"invocation/id-1/response", "2", 403, fmt.Sprintf(notAllowed, "RuntimeResponseSentState", "InvocationResponse"))
	expect(t, addr, "POST", base+"invocation/id-1/error", "2", 403, fmt.Sprintf(notAllowed, "RuntimeResponseSentState", "InvocationErrorResponse"))

	for path, status := range map[string]int{base + "restore/next": 404, "/": 404, base + "invocation/id/x": 404, "/2018-06-01/extension/register": 404} {
		if got, _, _ := call(t, addr, "GET", path, ""); got != status {
			t.Errorf("GET %s: %d, want %d", path, got, status)
		}
	}
	if got, _, _ := call(t, addr, "POST", base+"invocation/next", ""); got != 405 {
		t.Errorf("POST next: %d", got)
	}
}

// next asks for the next event in the background.
func next(t testing.TB, addr string) <-chan string {
	body := make(chan string, 1)
	go func() {
		_, _, b := call(t, addr, "GET", base+"invocation/next", "")
		body <- b
	}()
	return body
}

func TestHTTPAnswers(t *testing.T) {
	api, addr := serve(t)
	big := strings.Repeat("x", lambda.MaxPayload+1)
	for i, c := range []struct {
		verb, body, answer string
		status             int
		want               Response
		headers            []string
	}{
		{"response", "", accepted, 202, Response{}, nil},
		{"error", `{"errorMessage":"m"}`, accepted, 202, Response{Payload: []byte(`{"errorMessage":"m"}`), IsError: true, ErrorType: "My.Error"},
			[]string{"Lambda-Runtime-Function-Error-Type", "My.Error"}},
		{"error", `{"errorMessage":"m","errorType":"t","stackTrace":["a"],"cause":{"x":1}}`, accepted, 202,
			Response{Payload: []byte(`{"errorMessage":"m","errorType":"t","stackTrace":["a"]}`), IsError: true},
			[]string{"Content-Type", "application/vnd.aws.lambda.error.cause+json"}},
		{"error", "x", accepted, 202, Response{Payload: []byte("x"), IsError: true, ErrorType: strings.Repeat("t", 256)},
			[]string{"Lambda-Runtime-Function-Error-Type", strings.Repeat("t", 5000)}},
		{"response", big, tooLarge, 413, Response{TooLarge: true}, nil},
		{"error", big, tooLarge, 413, Response{TooLarge: true, IsError: true}, nil},
		{"response", big[1:], accepted, 202, Response{Payload: []byte(big[1:])}, nil},
		{"response", "streamed", accepted, 202, Response{Payload: []byte("streamed")}, []string{"Lambda-Runtime-Function-Response-Mode", "streaming"}},
		{"response", "x", invalidMode, 400, Response{IsError: true, ErrorType: "Runtime.InvalidResponseModeHeader"},
			[]string{"Lambda-Runtime-Function-Response-Mode", "buffered"}},
	} {
		id := fmt.Sprintf("id-%d", i)
		event := next(t, addr)
		done := invoke(short(t), api, &Event{RequestID: id})
		<-event
		status, _, answer := call(t, addr, "POST", base+"invocation/"+id+"/"+c.verb, c.body, c.headers...)
		if status != c.status || answer != c.answer {
			t.Errorf("%d: %d %q", i, status, answer)
		}
		got := (<-done).resp
		if string(got.Payload) != string(c.want.Payload) || got.IsError != c.want.IsError || got.TooLarge != c.want.TooLarge || got.ErrorType != c.want.ErrorType {
			t.Errorf("%d: %.100q %v %v %q", i, got.Payload, got.IsError, got.TooLarge, got.ErrorType)
		}
	}
}

func TestHTTPInitErrorAndReset(t *testing.T) {
	api, addr := serve(t)
	waiting := make(chan error, 1)
	go func() { waiting <- api.WaitReady(short(t)) }()
	status, _, body := call(t, addr, "POST", base+"init/error", `{"errorMessage":"m"}`, "Lambda-Runtime-Function-Error-Type", "Runtime.X")
	if status != 202 || body != accepted {
		t.Errorf("%d %q", status, body)
	}
	var initErr *InitError
	if err := <-waiting; !errors.As(err, &initErr) || initErr.ErrorType != "Runtime.X" || string(initErr.Payload) != `{"errorMessage":"m"}` {
		t.Errorf("%v", err)
	}
	expect(t, addr, "GET", base+"invocation/next", "", 403, fmt.Sprintf(notAllowed, "InitError", "Ready"))
	api.Reset()

	event := next(t, addr)
	done := invoke(short(t), api, &Event{RequestID: "old"})
	<-event
	api.Reset()
	if got := <-done; got.err != ErrReset {
		t.Errorf("%v", got.err)
	}
	expect(t, addr, "POST", base+"invocation/old/response", "late", 400, invalidID)

	waitingNext := next(t, addr) // of a process that is reset while it waits
	if err := api.WaitReady(short(t)); err != nil {
		t.Fatal(err)
	}
	api.Reset()
	if got := <-waitingNext; !strings.Contains(got, "InvalidStateTransition") {
		t.Errorf("a waiting request after a reset: %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := api.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after a reset the runtime is starting: %v", err)
	}
}

// A request for the next event whose client goes away counts for nothing; the newest of two gets the event.
func TestHTTPNextClients(t *testing.T) {
	api, addr := serve(t)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET "+base+"invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := api.WaitReady(short(t)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for deadline := time.Now().Add(10 * time.Second); api.WaitReady(expired()) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("a client that left still counts")
		}
	}
	first := next(t, addr)
	if err := api.WaitReady(short(t)); err != nil {
		t.Fatal(err)
	}
	second := next(t, addr)
	if got := <-first; !strings.Contains(got, "InvalidStateTransition") {
		t.Errorf("the older request: %q", got)
	}
	done := invoke(short(t), api, &Event{RequestID: "a", Payload: []byte("1")})
	if got := <-second; got != "1" {
		t.Errorf("the newer request: %q", got)
	}
	expect(t, addr, "POST", base+"invocation/a/response", "2", 202, accepted)
	<-done
}

// expired is a context that is over: what waits on it returns at once.
func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// An answer that breaks off is no answer: the invocation goes on until the process is found dead, or answers again.
func TestHTTPTruncatedAndStreamedAnswers(t *testing.T) {
	api, addr := serve(t)
	event := next(t, addr)
	done := invoke(short(t), api, &Event{RequestID: "a"})
	<-event
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST %sinvocation/a/response HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", base)
	c.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 400 {
		t.Errorf("truncated: %v %v", resp, err)
	}
	c.Close()

	c, err = net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST %sinvocation/a/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"+
		"Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n4\r\nhalf\r\n0\r\n"+
		"Lambda-Runtime-Function-Error-Type: Mid.Stream\r\nLambda-Runtime-Function-Error-Body: %s\r\n\r\n", base, base64.StdEncoding.EncodeToString([]byte(`{"m":1}`)))
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 202 {
		t.Errorf("streamed: %v %v", resp, err)
	}
	if got := <-done; !got.resp.IsError || got.resp.ErrorType != "Mid.Stream" || string(got.resp.Payload) != `{"m":1}` {
		t.Errorf("%+v", got)
	}
}

func TestHTTPConnectionsAreBounded(t *testing.T) {
	_, addr := serve(t)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range UsualConns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		io.WriteString(c, "GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("one connection more was served: %d", n)
	}
	c.Close()
	conns[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := http.Get("http://" + addr + "/2018-06-01/ping")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a connection that ended still counts: %v", err)
		}
	}
}

func FuzzRuntimeAPIRequest(f *testing.F) {
	f.Add([]byte("GET " + base + "invocation/next HTTP/1.1\r\nHost: x\r\n\r\nPOST " + base + "invocation/fuzz/response HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"))
	f.Add([]byte("POST " + base + "init/error HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"))
	f.Add([]byte("POST " + base + "invocation/fuzz/error HTTP/1.0\r\nContent-Type: application/vnd.aws.lambda.error.cause+json\r\nContent-Length: 2\r\n\r\n{}"))
	f.Add([]byte("POST " + base + "invocation/fuzz/response HTTP/1.1\r\nHost: x\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"2;x\r\n{}\r\n0\r\nLambda-Runtime-Function-Error-Type: t\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		api := New(Config{})
		server := api.NewServer()
		ours, theirs := net.Pipe()
		done := invoke(t.Context(), api, &Event{RequestID: "fuzz", Payload: []byte("{}")})
		var work sync.WaitGroup
		work.Go(func() { // the client: sends it all and takes what comes
			work.Go(func() {
				_, _ = theirs.Write(data)
				_ = theirs.Close()
			})
			r := bufio.NewReader(theirs)
			for {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					return
				}
				if resp.StatusCode < 200 && resp.StatusCode != 100 || resp.StatusCode > 505 {
					t.Errorf("status %d", resp.StatusCode)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					return
				}
			}
		})
		server.admit(ours).serve()
		api.Close()
		work.Wait()
		if got := <-done; len(got.resp.Payload) > lambda.MaxPayload || len(got.resp.ErrorType) > maxErrorType {
			t.Errorf("bounds: %d, %d", len(got.resp.Payload), len(got.resp.ErrorType))
		}
		if len(server.conns) != 0 {
			t.Error("a connection is left")
		}
	})
}
