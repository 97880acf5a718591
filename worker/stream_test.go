package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"berth/lambda"
	"berth/sandbox"
)

// caller is the lambda.ResponseStream of a caller.
type caller struct {
	got   strings.Builder
	wrote chan struct{} // nil: not told
}

func (c *caller) Begin(contentType string) error {
	c.got.WriteString("[" + contentType + "]")
	return nil
}

func (c *caller) Write(p []byte) (int, error) {
	c.got.Write(p)
	if c.wrote != nil {
		c.wrote <- struct{}{}
	}
	return len(p), nil
}

func (h *harness) stream(res lambda.Reservation, to lambda.ResponseStream, payload string) *lambda.Outcome {
	h.t.Helper()
	eventually(h.t, "the environment is not busy", func() bool { s, _ := h.registry.find(res.Environment).look(); return s != Running })
	out, err := h.Invoke(context.Background(), res, &lambda.Invocation{RequestID: "req-1", Payload: []byte(payload), Stream: to})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// A response flows while the function makes it; whatever ends it in the middle is the function's error, and says so.
func TestStream(t *testing.T) {
	more := make(chan struct{})
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		for ok := p.send('N', ""); ok; {
			var payload string
			if _, payload, ok = p.event(); !ok {
				break
			}
			if payload == "plain" {
				ok = p.send('R', payload)
				continue
			}
			p.send('B', "text/html")
			p.send('C', "one ")
			<-more
			p.send('C', "two")
			switch payload {
			case "fails":
				ok = p.send('E', "\x01T{}")
			case "exits":
				<-more
				return sandbox.Exit{Code: 3}
			case "hangs":
				<-p.ctx.Done()
			default:
				ok = p.send('F', "")
			}
		}
		return killed
	})
	v := testVersion()
	v.Timeout = 1e9
	res := h.start(v)
	for _, c := range []struct {
		payload string
		class   lambda.Class
		answer  string // part of it
	}{
		{"good", lambda.OK, ""},
		{"fails", lambda.HandlerErr, "{}"},
		{"exits", lambda.Exited, "exit status 3"},
		{"hangs", lambda.TimedOut, "Task timed out"},
		{"good", lambda.OK, ""},
	} {
		to := &caller{wrote: make(chan struct{})}
		go func() {
			<-to.wrote // "one " is here before "two" is sent
			more <- struct{}{}
			<-to.wrote
			if c.payload == "exits" {
				more <- struct{}{}
			}
		}()
		out := h.stream(res, to, c.payload)
		if !out.Streamed || out.Class != c.class || !strings.Contains(string(out.Payload), c.answer) || (out.FunctionError == "") != (c.class == lambda.OK) {
			t.Errorf("%s: %+v %s", c.payload, out, out.Payload)
		}
		if got := to.got.String(); got != "[text/html]one two" {
			t.Errorf("%s: streamed %q", c.payload, got)
		}
	}
	to := &caller{}
	if out := h.stream(res, to, "plain"); out.Streamed || string(out.Payload) != "plain" || to.got.Len() > 0 {
		t.Errorf("not streamed: %+v, %q", out, to.got.String())
	}
	go func() { more <- struct{}{} }()
	h.wantOutcome(h.call(res, "good"), lambda.OK, "one two") // nobody waits for a stream
}

// A caller that has left does not end the invocation.
func TestStreamCallerLeaves(t *testing.T) {
	h := newHarness(t, serve(func(p *standinProcess, payload string) (byte, string) {
		p.send('B', "")
		for range 3 {
			p.send('C', "x")
		}
		return 'F', ""
	}))
	to := &leaver{}
	if out := h.stream(h.start(testVersion()), to, "1"); !out.Streamed || out.Class != lambda.OK || to.writes != 1 {
		t.Errorf("%+v, %d writes", out, to.writes)
	}
}

type leaver struct{ writes int }

func (l *leaver) Begin(string) error { return nil }
func (l *leaver) Write([]byte) (int, error) {
	l.writes++
	return 0, errors.New("gone")
}

// A client that does not read delays its outcome, but not the end of the function at its time limit.
func TestStreamTimeLimitWithSlowReader(t *testing.T) {
	ended := make(chan struct{})
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		p.send('N', "")
		if _, _, ok := p.event(); ok {
			p.send('B', "")
			p.send('C', "x")
			<-p.ctx.Done()
			close(ended)
		}
		return killed
	})
	v := testVersion()
	v.Timeout = 50 * time.Millisecond
	to := &stuck{release: make(chan struct{})}
	out := make(chan *lambda.Outcome, 1)
	res := h.start(v)
	go func() { out <- h.stream(res, to, "1") }()
	<-ended // while the client is still stuck
	close(to.release)
	if o := <-out; o.Class != lambda.TimedOut || !o.Streamed {
		t.Errorf("%+v %s", o, o.Payload)
	}
}

type stuck struct{ release chan struct{} }

func (s *stuck) Begin(string) error { return nil }
func (s *stuck) Write(p []byte) (int, error) {
	<-s.release
	return len(p), nil
}
