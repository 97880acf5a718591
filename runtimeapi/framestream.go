package runtimeapi

import (
	"bufio"
	"fmt"

	"berth/lambda"
)

// frameBegin begins a streamed response. Where nobody waits for a stream it is collected, as far as it fits.
func (a *API) frameBegin(f *frameConn, r *bufio.Reader, n int64) error {
	if n > maxContentType {
		return fmt.Errorf("%w: a content type of %d bytes", ErrProtocol, n)
	}
	contentType, err := readExact(r, int(n))
	if err != nil {
		return err
	}
	a.mu.Lock()
	if a.conn != f {
		a.mu.Unlock()
		return ErrReset
	}
	if a.phase != running {
		p := a.phase
		a.mu.Unlock()
		return fmt.Errorf("%w: a response begins in state %s", ErrProtocol, p)
	}
	a.enter(answering)
	f.to, f.collected, f.size = a.stream, nil, 0
	a.streamed = f.to != nil
	a.mu.Unlock()
	if f.to != nil {
		f.to.pass(part{begins: true, contentType: clean(string(contentType), visible)})
	}
	return nil
}

// frameChunk takes some bytes of a streamed response. What is too much is read and thrown away.
func (a *API) frameChunk(f *frameConn, r *bufio.Reader, n int64) error {
	if err := a.inStream(f); err != nil {
		return err
	}
	buf := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buf)
	for n > 0 {
		m, err := r.Read(buf[:min(n, pieceSize)])
		if err != nil {
			return unexpected(err)
		}
		n -= int64(m)
		f.size = min(f.size+m, MaxStream+1)
		switch {
		case f.size > f.most():
			f.collected = nil
		case f.to != nil:
			f.to.pass(part{data: buf[:m]})
		default:
			f.collected = append(f.collected, buf[:m]...)
		}
	}
	return nil
}

// most is how long the response under way may be.
func (f *frameConn) most() int {
	if f.to != nil {
		return MaxStream
	}
	return lambda.MaxPayload
}

// frameFinish ends a streamed response.
func (a *API) frameFinish(f *frameConn, n int64, next bool) error {
	if n != 0 {
		return fmt.Errorf("%w: the end of a response with a body of %d bytes", ErrProtocol, n)
	}
	if err := a.inStream(f); err != nil {
		return err
	}
	resp := Response{Payload: f.collected, TooLarge: f.size > f.most()}
	return a.frameAnswer(f, resp, next, answering)
}

// inStream reports whether the runtime has begun a response.
func (a *API) inStream(f *frameConn) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != f {
		return ErrReset
	}
	if a.phase != answering {
		return fmt.Errorf("%w: a part of a response in state %s", ErrProtocol, a.phase)
	}
	return nil
}
