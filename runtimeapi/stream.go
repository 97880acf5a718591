package runtimeapi

import (
	"context"
	"io"
	"net/http"
	"sync"

	"berth/lambda"
)

const (
	// MaxStream is how long a streamed response can be, in bytes (developer guide, "Response streaming").
	MaxStream = 200 << 20
	// pieceSize is how much of a streamed response is passed on at once at most.
	pieceSize = 32 << 10
	// maxContentType bounds the content type of a streamed response, in bytes.
	maxContentType = 256
)

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// stream takes the parts of one streamed response from the goroutine that receives them to the one that called Invoke, so that
// only that one ever calls the Event's Stream, and never after Invoke has returned. A receiver goes on when its part was taken:
// what the caller does not take is not read from the runtime.
type stream struct {
	to    lambda.ResponseStream
	stop  func() // makes it give up; nil if it cannot wait
	parts chan part
	taken chan struct{}
	done  chan struct{} // closed when Invoke returns
	gone  bool          // the caller has left; Invoke's
	size  int64         // of what was taken, in bytes; Invoke's
}

// part begins a response, or is some bytes of it.
type part struct {
	begins      bool
	contentType string
	data        []byte // valid until it is taken
}

func newStream(to lambda.ResponseStream) *stream {
	s := &stream{to: to, parts: make(chan part), taken: make(chan struct{}), done: make(chan struct{})}
	if i, ok := to.(lambda.Interrupter); ok {
		s.stop = i.Interrupt
	}
	return s
}

// pass hands a part over and waits until it was taken. It returns false when nobody takes it any more.
func (s *stream) pass(p part) bool {
	select {
	case s.parts <- p:
	case <-s.done:
		return false
	}
	select {
	case <-s.taken:
		return true
	case <-s.done:
		return false
	}
}

// take gives one part to the caller's stream. Once that has failed the rest is dropped. A reader that does not read cannot hold the
// function's time limit up: when ctx ends, the stream is told to give up.
func (s *stream) take(ctx context.Context, p part) {
	var err error
	if s.stop != nil && !s.gone {
		defer context.AfterFunc(ctx, s.stop)()
	}
	s.size += int64(len(p.data))
	switch {
	case s.gone:
	case p.begins:
		err = s.to.Begin(p.contentType)
	default:
		_, err = s.to.Write(p.data)
	}
	s.gone = s.gone || err != nil
	s.taken <- struct{}{} // the receiver waits for it, as done is open
}

// wait is Invoke's wait for the answer to an event whose response may be streamed.
func (a *API) wait(ctx context.Context, s *stream) (Response, error) {
	for {
		select {
		case p := <-s.parts:
			s.take(ctx, p)
		case r := <-a.results:
			r.resp.StreamedBytes = s.size
			return r.resp, r.err
		case <-ctx.Done():
			resp, err := a.abandon(ctx.Err())
			resp.StreamedBytes = s.size
			return resp, err
		}
	}
}

// streamAnswer passes a streamed response on as it comes.
func (a *API) streamAnswer(gen uint64, s *stream, p *post, b *body) reply {
	err := passOn(s, p.contentType, b)
	resp, answer := Response{}, accept
	switch {
	case err == errTooLarge:
		resp, answer = Response{TooLarge: true}, refusal(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
			"Exceeded maximum allowed size of a streamed response.")
	case err == nil && len(b.trailerType) > 0:
		resp = b.broken()
	}
	resp.Streamed = true
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.gen != gen:
		return refuseID()
	case err != nil && err != errTooLarge: // as of other answers; what was passed on stays so
		a.enter(running)
		return refuseTruncated()
	}
	a.enter(answered)
	a.finish(result{resp: resp})
	return answer
}

// passOn passes r on to its end. Bytes that nobody takes any more are read all the same: the runtime does not know.
func passOn(s *stream, contentType string, r io.Reader) error {
	s.pass(part{begins: true, contentType: contentType})
	buf := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buf)
	for total := 0; ; {
		n, err := r.Read(buf[:])
		if n > 0 {
			if total += n; total > MaxStream {
				return errTooLarge
			}
			s.pass(part{data: buf[:n]})
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}
