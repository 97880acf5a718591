package wire

import (
	"fmt"
	"sync/atomic"
	"time"

	"berth/lambda"
)

// A streamed response goes over the call's own connection, in parts of at most maxChunk bytes, each read by the client when its
// reader has taken the one before. So what a slow reader does not take waits in the socket's buffers, and then in
// the function: nothing grows here.

// streamSink gives what comes to a caller's stream.
type streamSink struct {
	stream lambda.ResponseStream
	conn   *clientConn
	begun  bool
	left   bool // the stream has failed: the rest is dropped
	chunk  []byte
}

// take reads one frame's raw bytes and passes them on. An error is the connection's.
func (s *streamSink) take(h head) (err error) {
	if h.name > 0 || h.doc > 0 || s.begun == (h.kind == beginFrame) {
		return fmt.Errorf("a frame of kind %d is out of place in a streamed response", h.kind)
	}
	if s.chunk, err = readPart(s.conn.reader, s.chunk, h.raw); err != nil {
		return err
	}
	s.begun = true
	if s.left {
		return nil
	}
	if h.kind == beginFrame {
		err = s.stream.Begin(string(s.chunk))
	} else {
		_, err = s.stream.Write(s.chunk)
	}
	if err == nil {
		return nil
	}
	s.left = true
	s.conn.writer.start("")
	_ = s.conn.writer.send(head{kind: leaveFrame}, nil) // else the worker finds out at the answer
	return nil
}

// streamSource is the stream that a worker writes a response to; it goes to the caller over the call's connection.
type streamSource struct {
	conn *serverConn
	left atomic.Bool // the caller wants no more
}

var errLeft = fmt.Errorf("the reader of the response has left")

// Begin sends the response's type.
func (s *streamSource) Begin(contentType string) error {
	if len(contentType) > maxChunk {
		return fmt.Errorf("a content type of %d bytes is too large for the wire (limit %d)", len(contentType), maxChunk)
	}
	return s.send(beginFrame, []byte(contentType))
}

// Write sends p in one part or several, and waits while the caller is slow.
func (s *streamSource) Write(p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(n+maxChunk, len(p))]
		if err := s.send(chunkFrame, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// interruptGrace is how long a part may still take when the invocation's time is over.
const interruptGrace = 500 * time.Millisecond

// Interrupt implements lambda.Interrupter. A connection whose reader does not take its part by then is lost, and the caller learns
// nothing more; a part that is taken leaves it as it was.
func (s *streamSource) Interrupt() {
	s.conn.hurried.Store(true)
	_ = s.conn.conn.SetWriteDeadline(time.Now().Add(interruptGrace))
}

func (s *streamSource) send(k kind, raw []byte) error {
	if s.left.Load() {
		return errLeft
	}
	if err := s.conn.send(head{kind: k}, raw); err != nil {
		s.left.Store(true)
		return fmt.Errorf("%w: %w", errLeft, err)
	}
	return nil
}
