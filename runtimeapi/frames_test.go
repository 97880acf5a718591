package runtimeapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/lambda"
)

// peer is the runtime's end of the frames.
type peer struct {
	t testing.TB
	c Conn
	r *bufio.Reader
}

// connect gives an API with one connected peer, and the channel that gets ServeConn's error.
func connect(t testing.TB) (*API, *peer, <-chan error) {
	t.Helper()
	api := New(Config{})
	p, served := attach(t, api)
	return api, p, served
}

func attach(t testing.TB, api *API) (*peer, <-chan error) {
	t.Helper()
	ours, ends, err := Pipes()
	if err != nil {
		t.Fatal(err)
	}
	theirs := pipes{in: polled(t, ends[0]), out: polled(t, ends[1])}
	served := make(chan error, 1)
	go func() {
		served <- api.ServeConn(context.Background(), ours, nil)
		ours.Close()
	}()
	t.Cleanup(func() { theirs.Close() })
	return &peer{t, theirs, bufio.NewReader(theirs)}, served
}

// polled is f for Go's poller, so that closing it ends what waits for it.
func polled(t testing.TB, f *os.File) *os.File {
	t.Helper()
	fd, err := syscall.Dup(int(f.Fd()))
	if err == nil {
		err = errors.Join(f.Close(), syscall.SetNonblock(fd, true))
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "runtime")
}

func frame(kind byte, body string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(1+len(body)))
	return append(append(b, kind), body...)
}

func (p *peer) send(kind byte, body string) {
	p.t.Helper()
	if _, err := p.c.Write(frame(kind, body)); err != nil {
		p.t.Fatal(err)
	}
}

// event reads one invoke frame.
func (p *peer) event() (meta []string, payload string) {
	p.t.Helper()
	head := make([]byte, 9)
	if _, err := io.ReadFull(p.r, head); err != nil {
		p.t.Fatal(err)
	}
	rest := make([]byte, binary.LittleEndian.Uint32(head)-5)
	if _, err := io.ReadFull(p.r, rest); err != nil {
		p.t.Fatal(err)
	}
	n := binary.LittleEndian.Uint32(head[5:])
	return strings.Split(string(rest[:n]), "\x00"), string(rest[n:])
}

func short(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

type outcome struct {
	resp Response
	err  error
}

func invoke(ctx context.Context, api *API, ev *Event) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		r, err := api.Invoke(ctx, ev)
		done <- outcome{r, err}
	}()
	return done
}

func TestFramesRoundTrip(t *testing.T) {
	api, p, served := connect(t)
	ev := &Event{RequestID: "id-1", Deadline: time.UnixMilli(1234567), InvokedARN: "arn:x", TraceID: "Root=1",
		ClientContext: "{\"a\":\n\"\x00\"}", Tenant: "blue", TenantToken: "e.y.J", Payload: []byte(`{"k":1}`)}
	done := invoke(short(t), api, ev) // before the runtime is ready: waits
	p.send('N', "")
	if err := api.WaitReady(short(t)); err != nil {
		t.Fatal(err)
	}
	meta, payload := p.event()
	want := []string{"1234567", "id-1", "arn:x", "Root=1", `{"a": " "}`, "", "blue", "e.y.J"}
	if strings.Join(meta, "|") != strings.Join(want, "|") || payload != `{"k":1}` {
		t.Errorf("event %q %q", meta, payload)
	}
	p.send('R', `"ok"`)
	if got := <-done; got.err != nil || string(got.resp.Payload) != `"ok"` || got.resp.IsError {
		t.Errorf("got %+v", got)
	}
	if err := api.WaitNext(short(t)); err != nil {
		t.Fatal(err)
	}

	ev.Payload = bytes.Repeat([]byte("x"), 3<<20) // past the inline size and the socket's buffers
	done = invoke(short(t), api, ev)
	if _, payload := p.event(); payload != string(ev.Payload) {
		t.Errorf("large event arrived with %d bytes", len(payload))
	}
	p.send('e', "\x05Erreu"+string(ev.Payload))
	got := <-done
	if got.err != nil || !got.resp.IsError || got.resp.ErrorType != "Erreu" || !bytes.Equal(got.resp.Payload, ev.Payload) {
		t.Errorf("error answer: %v %q %d bytes", got.err, got.resp.ErrorType, len(got.resp.Payload))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := api.WaitNext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("'e' must not ask for the next event: %v", err)
	}
	p.send('N', "")
	if err := api.WaitNext(short(t)); err != nil {
		t.Fatal(err)
	}
	p.c.Close()
	if err := <-served; err != io.EOF {
		t.Errorf("ServeConn: %v", err)
	}
}

func TestFramesTooLarge(t *testing.T) {
	api, p, _ := connect(t)
	p.send('N', "")
	done := invoke(short(t), api, &Event{RequestID: "a"})
	p.event()
	big := strings.Repeat("x", lambda.MaxPayload+1)
	go p.send('R', big)
	if got := <-done; !got.resp.TooLarge || len(got.resp.Payload) != 0 {
		t.Errorf("got %v, %d bytes", got.resp.TooLarge, len(got.resp.Payload))
	}
	done = invoke(short(t), api, &Event{RequestID: "b"}) // the same process goes on
	p.event()
	p.send('R', big[:lambda.MaxPayload])
	if got := <-done; got.resp.TooLarge || len(got.resp.Payload) != lambda.MaxPayload {
		t.Errorf("the largest answer came back with %d bytes", len(got.resp.Payload))
	}
}

func TestFramesInitErrorAndReset(t *testing.T) {
	api, p, served := connect(t)
	p.send('I', "\x14Runtime.HandlerNot\xff\n"+`{"errorMessage":"m"}`)
	var initErr *InitError
	if err := api.WaitReady(short(t)); !errors.As(err, &initErr) || initErr.ErrorType != "Runtime.HandlerNot  " ||
		string(initErr.Payload) != `{"errorMessage":"m"}` {
		t.Errorf("WaitReady: %v %+v", err, initErr)
	}
	if _, err := api.Invoke(short(t), &Event{}); !errors.As(err, &initErr) {
		t.Errorf("Invoke after an init error: %v", err)
	}
	api.Reset()
	if err := <-served; err != ErrReset {
		t.Errorf("ServeConn: %v", err)
	}

	p, served = attach(t, api)
	p.send('N', "")
	done := invoke(short(t), api, &Event{RequestID: "a"})
	p.event()
	api.Reset()
	if got := <-done; got.err != ErrReset {
		t.Errorf("Invoke across a reset: %v", got.err)
	}
	<-served
	p, _ = attach(t, api)
	p.send('N', "")
	done = invoke(short(t), api, &Event{RequestID: "b"})
	p.event()
	p.send('R', "1")
	if got := <-done; string(got.resp.Payload) != "1" {
		t.Errorf("after a reset: %+v", got)
	}
	api.Close()
	if err := api.WaitNext(short(t)); err != ErrReset {
		t.Errorf("WaitNext after Close: %v", err)
	}
}

// A runtime that reports an init error ends at once, so that Reset follows closely. Who waits must still get the error.
func TestInitErrorIsNotLostToReset(t *testing.T) {
	for range 200 {
		api, p, served := connect(t)
		ready := make(chan error, 1)
		waiting := make(chan struct{})
		go func() {
			close(waiting)
			ready <- api.WaitReady(short(t))
		}()
		<-waiting
		for api.waiters() == 0 {
			runtime.Gosched()
		}
		p.send('I', "\x01x{}")
		p.c.Close()
		<-served
		api.Reset()
		if err := <-ready; !errors.As(err, new(*InitError)) {
			t.Fatalf("WaitReady: %v", err)
		}
	}
}

// waiters is 1 when somebody awaits a change of phase.
func (a *API) waiters() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		return 0
	}
	return 1
}

func TestFramesViolations(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"length 0":          {0, 0, 0, 0, 'N'},
		"unknown kind":      frame('V', ""),
		"next with a body":  frame('N', "x"),
		"next twice":        append(frame('N', ""), frame('N', "")...),
		"answer unasked":    frame('R', "1"),
		"answer when ready": append(frame('N', ""), frame('R', "1")...),
		"init error late":   append(frame('N', ""), frame('I', "\x00{}")...),
		"error type":        frame('E', "\xff"),
	} {
		_, p, served := connect(t)
		if _, err := p.c.Write(bytes); err != nil {
			t.Fatal(err)
		}
		if err := <-served; !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, p, served := connect(t)
	if _, err := p.c.Write([]byte{9, 0}); err != nil {
		t.Fatal(err)
	}
	p.c.Close()
	if err := <-served; err != io.ErrUnexpectedEOF {
		t.Errorf("half a header: %v", err)
	}
}

// An answer that nobody asked for is never taken for that of the next event, however soon that comes.
func TestFramesSpeakUnasked(t *testing.T) {
	for name, send := range map[string]func(p *peer, done <-chan outcome) outcome{
		"at once": func(p *peer, done <-chan outcome) outcome {
			if _, err := p.c.Write(append(frame('R', "1"), frame('R', "2")...)); err != nil {
				p.t.Fatal(err)
			}
			return <-done
		},
		"later": func(p *peer, done <-chan outcome) outcome {
			p.send('R', "1")
			got := <-done
			p.send('R', "2")
			return got
		},
	} {
		for range 20 {
			api, p, served := connect(t)
			p.send('N', "")
			for range 3 { // so that Invoke reads
				done := invoke(short(t), api, &Event{RequestID: "a"})
				p.event()
				p.send('R', "0")
				<-done
			}
			done := invoke(short(t), api, &Event{RequestID: "b"})
			p.event()
			if got := send(p, done); string(got.resp.Payload) != "1" {
				t.Fatalf("%s: %q, %v", name, got.resp.Payload, got.err)
			}
			go func() { // as the worker does
				if err := <-served; !errors.Is(err, ErrProtocol) {
					t.Errorf("%s: ServeConn: %v", name, err)
				}
				api.Reset()
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // the reset may be over already, and then no process comes
			if resp, err := api.Invoke(ctx, &Event{RequestID: "c"}); err == nil {
				t.Fatalf("%s: the next event is answered %q", name, resp.Payload)
			}
			cancel()
		}
	}
}

// A runtime that answers without ever reading its events must not hold Invoke beyond its time.
func TestFramesPeerThatDoesNotRead(t *testing.T) {
	api, p, _ := connect(t)
	p.send('N', "")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := api.Invoke(ctx, &Event{RequestID: "a", Payload: make([]byte, lambda.MaxPayload)})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	api.Reset()
}

func TestServeConnEndsWithContext(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- New(Config{}).ServeConn(ctx, ours, nil) }()
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(append(frame('N', ""), frame('R', "{}")...))
	f.Add(frame('I', "\x03abc{}"))
	f.Add(append(frame('N', ""), frame('e', "\x01x{}")...))
	f.Add([]byte{255, 255, 255, 255, 'R', 1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		api := New(Config{})
		ours, theirs := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- api.ServeConn(context.Background(), ours, nil) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := invoke(ctx, api, &Event{RequestID: "fuzz", Deadline: time.Now().Add(time.Second), Payload: []byte("{}")})
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		_, _ = theirs.Write(data)
		theirs.Close()
		if err := <-served; err == nil {
			t.Error("ServeConn returned nil")
		}
		api.Close()
		if r := <-done; len(r.resp.Payload) > lambda.MaxPayload || len(r.resp.ErrorType) > maxErrorType {
			t.Errorf("bounds: %d, %d", len(r.resp.Payload), len(r.resp.ErrorType))
		}
	})
}

func BenchmarkFrames(b *testing.B) {
	round := framesRound(b)
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
}

// framesRound gives a function that makes one invocation with a runtime that makes no garbage.
func framesRound(t testing.TB) func() {
	api, p, _ := connect(t)
	p.send('N', "")
	answer := frame('R', `{"message":"hello"}`)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			if _, err := p.c.Read(buf); err != nil {
				return
			}
			if _, err := p.c.Write(answer); err != nil {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	ev := &Event{RequestID: "5c9f4cbc-8c4e-4bd8-a2b8-8a5f6a3a3b3c", Deadline: time.Now().Add(time.Minute), InvokedARN: "arn:aws:lambda:us-east-1:000000000001:function:hello",
		Payload: []byte(`{"name":"world"}`)}
	return func() {
		if _, err := api.Invoke(ctx, ev); err != nil {
			t.Fatal(err)
		}
		if err := api.WaitNext(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
