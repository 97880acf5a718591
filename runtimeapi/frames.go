package runtimeapi

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"berth/lambda"
)

// # Frames
//
// Berth's own bootstraps read frames from descriptor 3 and write them to descriptor 4, instead of HTTP over TCP. All
// numbers are little-endian. A frame is
//
//	u32 length of what follows · u8 kind · body
//
// From Berth to the runtime there is one kind:
//
//	'V' invoke   u32 length of meta · meta · payload
//
// meta is UTF-8: deadline in Unix milliseconds, request id, function ARN, trace id, client context, Cognito identity,
// tenant, tenant token, separated by NUL bytes; what is absent is empty. From the runtime to Berth:
//
//	'N' next         empty: wants its first event, or the next one after 'r' or 'e'
//	'R' response     payload; at the same time asks for the next event
//	'E' error        u8 length of type · type · payload; at the same time asks for the next event
//	'r', 'e'         as 'R' and 'E', but without asking for the next event
//	'B' begin        content type, at most 256 bytes; "" if none: a response follows in parts
//	'C' chunk        some bytes of it
//	'F', 'f' finish  empty: that was all of it; asking for the next event at the same time, or not
//	'I' init error   body as 'E', with an empty request id in its payload; only before the first 'N'
//
// After 'B' come any number of 'C', and then 'F', 'f', or, when the function fails in the middle of its response, 'E' or 'e'.
//
// So an invocation costs one write and one wake-up each way. An answer always belongs to the one event under way, hence
// carries no id. Anything else is a violation: the connection is useless then, and so is the process behind it.
const (
	frameInvoke    = 'V'
	frameNext      = 'N'
	frameResponse  = 'R'
	frameError     = 'E'
	frameInitError = 'I'
	frameBegin     = 'B'
	frameChunk     = 'C'
	frameFinish    = 'F'
	quietly        = 0x20 // set in 'r', 'e' and 'f': does not ask for the next event
)

const (
	frameHeader = 5       // length and kind
	readBuffer  = 4 << 10 // small answers arrive in it with one read; larger ones go past it
	inlineSize  = 8 << 10 // payloads up to this size are copied beside their meta for one write
)

// ErrProtocol is wrapped by what ServeConn returns when the runtime breaks the frames protocol.
var ErrProtocol = errors.New("the runtime broke the frames protocol")

// frameConn is one connected runtime.
type frameConn struct {
	c           Conn
	interrupted atomic.Bool
	back        chan struct{} // capacity 1: the turn is ServeConn's again

	// Guarded by API.mu.
	turn    turn
	lends   uint64          // counts turns of Invokes
	err     error           // why the last of them could not read
	watched context.Context // the last of them's
	unwatch func() bool

	// For whose turn it is.
	r *bufio.Reader
	// Of a streamed response under way.
	to        *stream // nil: it is collected
	collected []byte
	size      int
}

// interrupt ends what is read and written now and later.
func (f *frameConn) interrupt() {
	f.interrupted.Store(true)
	_ = f.c.SetDeadline(time.Unix(1, 0)) // fails only on a closed connection, which is as good
}

// ServeConn is the frames face: it serves c until the runtime is gone (io.EOF, io.ErrUnexpectedEOF or the channel's error),
// breaks the protocol (ErrProtocol), is reset (ErrReset) or ctx ends (its error). It never returns nil and does not close
// c. One connection at a time: serve a process's connection before the next process's, with Reset in between. When ended
// is closed the process has ended, and what it said last is read at once; nil if nobody knows.
func (a *API) ServeConn(ctx context.Context, c Conn, ended <-chan struct{}) error {
	f := &frameConn{c: c, back: make(chan struct{}, 1), r: bufio.NewReaderSize(c, readBuffer)}
	a.mu.Lock()
	switch {
	case a.closed:
		a.mu.Unlock()
		return ErrReset
	case a.conn != nil:
		a.mu.Unlock()
		return errors.New("a runtime is already connected: Reset comes first")
	}
	a.conn = f
	a.mu.Unlock()
	defer a.detach(f)

	stop := context.AfterFunc(ctx, f.interrupt)
	defer stop()
	for {
		err := a.serveFrame(f)
		if err == nil {
			a.standBack(ctx, f, ended)
			err = f.err // of the Invoke that gave the turn back
		}
		if err != nil {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case f.interrupted.Load():
				return ErrReset
			}
			return err
		}
	}
}

// detach forgets a connection that ended by itself. A runtime that waited on it waits no more.
func (a *API) detach(f *frameConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.unwatch != nil {
		f.unwatch()
	}
	if a.conn != f {
		return
	}
	a.conn = nil
	if a.phase == ready && a.poll == nil {
		a.enter(starting)
	}
}

// serveFrame reads one frame and does what it says.
func (a *API) serveFrame(f *frameConn) error {
	r := f.r
	header, err := r.Peek(frameHeader)
	if err != nil {
		if len(header) > 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	length, kind := binary.LittleEndian.Uint32(header), header[4]
	if _, err := r.Discard(frameHeader); err != nil {
		return err
	}
	if length == 0 {
		return fmt.Errorf("%w: a frame of length 0", ErrProtocol)
	}
	n := int64(length) - 1
	switch kind {
	case frameNext:
		if n != 0 {
			return fmt.Errorf("%w: 'next' with a body of %d bytes", ErrProtocol, n)
		}
		return a.frameNext(f)
	case frameResponse, frameResponse | quietly:
		return a.frameResponse(f, r, n, kind&quietly == 0)
	case frameError, frameError | quietly:
		return a.frameError(f, r, n, kind&quietly == 0)
	case frameInitError:
		return a.frameInitError(f, r, n)
	case frameBegin:
		return a.frameBegin(f, r, n)
	case frameChunk:
		return a.frameChunk(f, r, n)
	case frameFinish, frameFinish | quietly:
		return a.frameFinish(f, n, kind&quietly == 0)
	}
	return fmt.Errorf("%w: unknown kind %#x", ErrProtocol, kind)
}

func (a *API) frameNext(f *frameConn) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != f {
		return ErrReset
	}
	if a.phase != starting && a.phase != answered {
		return fmt.Errorf("%w: 'next' in state %s", ErrProtocol, a.phase)
	}
	a.event = nil
	a.enter(ready)
	return nil
}

func (a *API) frameResponse(f *frameConn, r *bufio.Reader, n int64, next bool) error {
	if n > lambda.MaxPayload {
		return a.frameTooLarge(f, r, n, next, Response{TooLarge: true}, running)
	}
	payload, err := readExact(r, int(n))
	if err != nil {
		return err
	}
	return a.frameAnswer(f, Response{Payload: payload}, next, running)
}

func (a *API) frameError(f *frameConn, r *bufio.Reader, n int64, next bool) error {
	errorType, n, err := readErrorType(r, n)
	if err != nil {
		return err
	}
	if n > lambda.MaxPayload {
		return a.frameTooLarge(f, r, n, next, Response{IsError: true, ErrorType: errorType, TooLarge: true}, running, answering)
	}
	payload, err := readExact(r, int(n))
	if err != nil {
		return err
	}
	return a.frameAnswer(f, Response{IsError: true, ErrorType: errorType, Payload: payload}, next, running, answering)
}

// frameTooLarge answers at once, and then lets the runtime get rid of its n bytes.
func (a *API) frameTooLarge(f *frameConn, r *bufio.Reader, n int64, next bool, resp Response, in ...phase) error {
	if err := a.frameAnswer(f, resp, false, in...); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, r, n); err != nil {
		return err
	}
	if next {
		return a.frameNext(f)
	}
	return nil
}

// frameAnswer hands resp to the waiting Invoke. The runtime must be in one of the given phases.
func (a *API) frameAnswer(f *frameConn, resp Response, next bool, in ...phase) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != f {
		return ErrReset
	}
	if !slices.Contains(in, a.phase) {
		return fmt.Errorf("%w: an answer in state %s", ErrProtocol, a.phase)
	}
	resp.Streamed = a.streamed
	f.to, f.collected = nil, nil
	if next {
		a.event = nil
		a.enter(ready)
	} else {
		a.enter(answered)
	}
	a.finish(result{resp: resp})
	return nil
}

func (a *API) frameInitError(f *frameConn, r *bufio.Reader, n int64) error {
	errorType, n, err := readErrorType(r, n)
	if err != nil {
		return err
	}
	payload, err := readExact(r, int(min(n, lambda.MaxPayload)))
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, r, n-int64(len(payload))); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != f {
		return ErrReset
	}
	if a.phase != starting {
		return fmt.Errorf("%w: an init error in state %s", ErrProtocol, a.phase)
	}
	a.fail(payload, errorType)
	return nil
}

// readErrorType reads the error type that leads a body of n bytes, and returns how many bytes are left.
func readErrorType(r *bufio.Reader, n int64) (string, int64, error) {
	size, err := r.ReadByte()
	if err != nil {
		return "", 0, err
	}
	if int64(size)+1 > n {
		return "", 0, fmt.Errorf("%w: an error type of %d bytes in a body of %d", ErrProtocol, size, n)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", 0, err
	}
	return cleanErrorType(string(b)), n - 1 - int64(size), nil
}

// send writes one event. A runtime that does not read is waited for until the deadline; the zero time is for who is interrupted then.
func (f *frameConn) send(deadline time.Time, ev *Event, with *eventWriter) error {
	if deadline.IsZero() {
		return with.frame(f.c, ev)
	}
	if err := f.limitWrites(deadline); err != nil {
		return err
	}
	return errors.Join(with.frame(f.c, ev), f.limitWrites(time.Time{}))
}

func (f *frameConn) limitWrites(deadline time.Time) error {
	if err := f.c.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if f.interrupted.Load() { // the line above may have undone the interruption
		f.interrupt()
	}
	return nil
}

// appendInvoke appends an invoke frame without its payload.
func appendInvoke(b []byte, ev *Event) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, frameInvoke, 0, 0, 0, 0)
	b = strconv.AppendInt(b, ev.Deadline.UnixMilli(), 10)
	for _, field := range [...]string{ev.RequestID, ev.InvokedARN, ev.TraceID, ev.ClientContext, ev.CognitoIdentity, ev.Tenant, ev.TenantToken} {
		b = append(b, 0)
		b = append(b, headerValue(field)...)
	}
	meta := len(b) - start - frameHeader - 4
	binary.LittleEndian.PutUint32(b[start:], uint32(1+4+meta+len(ev.Payload)))
	binary.LittleEndian.PutUint32(b[start+frameHeader:], uint32(meta))
	return b
}
