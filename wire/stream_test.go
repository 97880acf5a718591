package wire

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
)

// streamer is a worker whose invocations write to their stream as the test says.
type streamer struct {
	double
	run func(s lambda.ResponseStream) (*lambda.Outcome, error)
}

func (s *streamer) Invoke(_ context.Context, _ lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	return s.run(inv.Stream)
}

// reader is a caller's stream: it keeps what comes, and fails when told to.
type reader struct {
	contentType string
	begun       int
	got         bytes.Buffer
	parts       int
	came        func() // after each part; may be nil
	err         error
}

func (r *reader) Begin(contentType string) error {
	r.begun++
	r.contentType = contentType
	return r.err
}

func (r *reader) Write(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	r.parts++
	r.got.Write(p)
	if r.came != nil {
		r.came()
	}
	return len(p), nil
}

var streamed = &lambda.Outcome{Class: lambda.OK, Version: "3", Streamed: true}

func streamWorker(t *testing.T, run func(lambda.ResponseStream) (*lambda.Outcome, error)) *Worker {
	return NewWorker(newPipes().serve(t, &streamer{run: run}), "pipe:1")
}

// TestAStreamComesAsItIsMade: the reader has the first part before the function makes the second.
func TestAStreamComesAsItIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := make(chan struct{})
		w := streamWorker(t, func(s lambda.ResponseStream) (*lambda.Outcome, error) {
			if err := s.Begin("text/event-stream"); err != nil {
				return nil, err
			}
			for _, part := range []string{"first", "second", "third"} {
				if n, err := s.Write([]byte(part)); n != len(part) || err != nil {
					t.Errorf("Write = %d, %v", n, err)
				}
				<-read
			}
			return streamed, nil
		})
		r := &reader{came: func() { read <- struct{}{} }}
		for range 2 { // the connection is in order afterwards
			*r = reader{came: r.came}
			out, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{Stream: r})
			if err != nil || !out.Streamed || out.Version != "3" || len(out.Payload) != 0 {
				t.Errorf("Invoke = %+v, %v", out, err)
			}
			if r.begun != 1 || r.contentType != "text/event-stream" || r.got.String() != "firstsecondthird" || r.parts != 3 {
				t.Errorf("the reader got %+v", r)
			}
		}
	})
}

// TestAStreamOfMuch: parts larger than a frame arrive whole, and an error after the beginning is the outcome's.
func TestAStreamOfMuch(t *testing.T) {
	much := bytes.Repeat([]byte("0123456789abcdef"), 20*maxChunk/16+1)
	d := &streamer{run: func(s lambda.ResponseStream) (*lambda.Outcome, error) {
		_ = s.Begin("")
		n, err := s.Write(much)
		if n != len(much) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		return &lambda.Outcome{Payload: []byte(`{"errorType":"E"}`), FunctionError: "Unhandled", Class: lambda.HandlerErr, Streamed: true}, nil
	}}
	c := NewClient(token, nil)
	defer c.Close()
	r := &reader{}
	out, err := NewWorker(c, listen(t, d, d).addr).Invoke(t.Context(), reservation, &lambda.Invocation{Stream: r})
	if err != nil || out.FunctionError != "Unhandled" || string(out.Payload) != `{"errorType":"E"}` {
		t.Errorf("Invoke = %+v, %v", out, err)
	}
	if r.begun != 1 || !bytes.Equal(r.got.Bytes(), much) {
		t.Errorf("%d of %d bytes arrived", r.got.Len(), len(much))
	}
}

// TestARuntimeThatDoesNotStream: the response is in the payload, as without a stream.
func TestARuntimeThatDoesNotStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := streamWorker(t, func(lambda.ResponseStream) (*lambda.Outcome, error) {
			return &lambda.Outcome{Payload: []byte("1")}, nil
		})
		r := &reader{}
		out, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{Stream: r})
		if err != nil || out.Streamed || string(out.Payload) != "1" || r.begun != 0 {
			t.Errorf("Invoke = %+v, %v", out, err)
		}
	})
}

// TestASlowReaderHoldsTheFunctionBack: what it does not take waits in the function, not in memory.
func TestASlowReaderHoldsTheFunctionBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := 0
		w := streamWorker(t, func(s lambda.ResponseStream) (*lambda.Outcome, error) {
			_ = s.Begin("")
			for range 1000 {
				if _, err := s.Write(make([]byte, maxChunk)); err != nil {
					return nil, err
				}
				written++
			}
			return streamed, nil
		})
		// Pipes hold nothing, so that only what is being read is under way.
		release := make(chan struct{})
		r := &reader{}
		r.came = func() {
			if r.parts == 3 {
				<-release
			}
		}
		done := make(chan error, 1)
		go func() {
			_, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{Stream: r})
			done <- err
		}()
		synctest.Wait()
		if written > 4 {
			t.Errorf("%d parts were written while the reader had taken 3", written)
		}
		close(release)
		if err := <-done; err != nil || written != 1000 {
			t.Errorf("%d parts, %v", written, err)
		}
	})
}

// TestAnInterruptedStream: a worker whose invocation's time is over need not wait for a reader. One that reads after all loses nothing.
func TestAnInterruptedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type written struct {
			took time.Duration
			err  error
		}
		last := make(chan written, 1) // of an invocation's writes
		w := streamWorker(t, func(s lambda.ResponseStream) (*lambda.Outcome, error) {
			_ = s.Begin("")
			var w written
			for range 3 { // pipes hold nothing: the third waits for the second to be taken
				begin := time.Now()
				stop := time.AfterFunc(time.Second, s.(lambda.Interrupter).Interrupt)
				_, w.err = s.Write([]byte("part"))
				w.took = time.Since(begin)
				stop.Stop()
			}
			last <- w
			return streamed, nil
		})
		r := &reader{}
		r.came = func() {
			if r.parts == 2 {
				time.Sleep(time.Second + interruptGrace/2)
			}
		}
		if out, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{Stream: r}); err != nil || !out.Streamed || r.parts != 3 {
			t.Errorf("a reader that is late: %+v, %v, %d parts", out, err, r.parts)
		}
		<-last
		release := make(chan struct{})
		r = &reader{}
		r.came = func() {
			if r.parts == 2 {
				<-release
			}
		}
		done := make(chan error, 1)
		go func() {
			_, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{Stream: r})
			done <- err
		}()
		if w := <-last; w.err == nil || w.took > time.Second+interruptGrace {
			t.Errorf("the stream waited %s for its reader: %v", w.took, w.err)
		}
		close(release)
		if err := <-done; lambda.CodeOf(err) != lambda.ServiceFailure || err == nil {
			t.Errorf("Invoke: %v; want that the outcome is not known", err)
		}
	})
}

// TestAReaderThatLeaves: the stream says so, the invocation runs on, and its outcome is known all the same.
func TestAReaderThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writes := 0
		w := streamWorker(t, func(s lambda.ResponseStream) (*lambda.Outcome, error) {
			if err := s.Begin("text/plain"); err != nil {
				return nil, err
			}
			for ; ; writes++ {
				if _, err := s.Write([]byte("part")); err != nil {
					break
				}
				time.Sleep(time.Second)
			}
			time.Sleep(time.Minute)
			return streamed, nil
		})
		r := &reader{}
		r.came = func() { r.err = errors.New("the caller has closed its connection") }
		out, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{Stream: r})
		if err != nil || !out.Streamed {
			t.Errorf("Invoke = %+v, %v", out, err)
		}
		if r.parts != 1 || writes > 3 {
			t.Errorf("%d parts came, %d were written", r.parts, writes)
		}
		out, err = w.Invoke(t.Context(), reservation, &lambda.Invocation{Stream: &reader{err: errors.New("gone")}})
		if err != nil || !out.Streamed {
			t.Errorf("a reader that left at the beginning: %+v, %v", out, err)
		}
	})
}

// TestAFrontendThatDiesDuringAStream: the stream fails, and the invocation runs on.
func TestAFrontendThatDiesDuringAStream(t *testing.T) {
	d := &streamer{}
	ended := make(chan error, 1)
	d.run = func(s lambda.ResponseStream) (*lambda.Outcome, error) {
		err := s.Begin("")
		for err == nil {
			_, err = s.Write([]byte("part"))
		}
		ended <- err
		return streamed, nil
	}
	s := listen(t, d, d)
	c := NewClient(token, nil)
	defer c.Close()
	conn, err := c.connect(t.Context(), s.addr, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{came: func() { conn.close() }}
	call := &request{operation: "worker/invoke", in: &invokeMeta{Stream: true}, stream: r}
	if _, err := conn.exchange(t.Context(), time.Time{}, call, &outcomeMeta{}); !errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("the dead frontend got %v", err)
	}
	if err := <-ended; !errors.Is(err, errLeft) {
		t.Errorf("the stream says %v", err)
	}
}

// TestAWorkerThatDiesDuringAStream: nobody knows how it ended.
func TestAWorkerThatDiesDuringAStream(t *testing.T) {
	addr := imposter(t, jsonFrame(beginFrame, "", "", "text/plain")+jsonFrame(chunkFrame, "", "", "part"))
	c := NewClient(token, nil)
	defer c.Close()
	r := &reader{}
	_, err := NewWorker(c, addr).Invoke(t.Context(), reservation, &lambda.Invocation{Stream: r})
	if lambda.CodeOf(err) != lambda.ServiceFailure || r.got.String() != "part" {
		t.Errorf("%q came, and %v", r.got.String(), err)
	}
}

func TestDamagedStreams(t *testing.T) {
	for name, frames := range map[string]string{
		"a part before the beginning": jsonFrame(chunkFrame, "", "", "x"),
		"two beginnings":              strings.Repeat(jsonFrame(beginFrame, "", "", "x"), 2),
		"a part with a document":      jsonFrame(beginFrame, "", "", "x") + jsonFrame(chunkFrame, "", "{}", "x"),
		"a part too large":            jsonFrame(beginFrame, "", "", "x") + frame(chunkFrame, "", "", 0, maxChunk+1, "x"),
	} {
		c := NewClient(token, nil)
		_, err := NewWorker(c, imposter(t, frames+jsonFrame(answerFrame, "", "{}", ""))).Invoke(t.Context(), reservation, &lambda.Invocation{Stream: &reader{}})
		if lambda.CodeOf(err) != lambda.ServiceFailure {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
}
