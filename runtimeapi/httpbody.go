package runtimeapi

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// body reads the body of one request, whichever way it is sent. After io.EOF the connection stands at the next request.
type body struct {
	c       *httpConn
	left    int64 // of the body, or of the chunk under way
	chunked bool
	begun   bool  // a chunk was begun: its end is still to be read
	ended   error // io.EOF after the good end, else why the rest cannot be read
	expects bool  // the client waits to be told to go on

	trailerType []byte // Lambda-Runtime-Function-Error-Type of the trailer; own
	trailerBody []byte // Lambda-Runtime-Function-Error-Body of the trailer; own
}

// maxChunkLine bounds the line that leads a chunk, in bytes; extensions on it are passed over.
const maxChunkLine = 1 << 10

var errMalformed = errors.New("malformed chunks")

// Read reads a part of the body. Errors: io.EOF at its good end, io.ErrUnexpectedEOF, errMalformed, or the connection's.
func (b *body) Read(p []byte) (int, error) {
	if err := b.advance(); err != nil {
		return 0, err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if b.c.r < b.c.w {
		n := copy(p, b.c.buf[b.c.r:b.c.w])
		b.c.r += n
		b.left -= int64(n)
		return n, nil
	}
	n, err := b.c.Read(p)
	b.left -= int64(n)
	if n == 0 && err != nil {
		b.ended = unexpected(err)
		return 0, b.ended
	}
	return n, nil
}

// advance goes on to where bytes of the body stand; io.EOF if there are no more.
func (b *body) advance() error {
	if b.ended == nil && b.expects && (b.left > 0 || b.chunked) {
		b.expects = false
		_, b.ended = io.WriteString(b.c.Conn, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	if b.ended == nil && b.left <= 0 {
		b.ended = b.nextChunk()
	}
	return b.ended
}

// nextChunk goes on to the next chunk, or past the end of the body (io.EOF).
func (b *body) nextChunk() error {
	if !b.chunked {
		return io.EOF
	}
	if b.begun {
		if line, err := b.line(len(lineEnd)); err != nil || len(line) > 0 {
			return malformed(err)
		}
	}
	b.begun = true
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, ok := parseChunkSize(line)
	switch {
	case !ok:
		return errMalformed
	case size > 0:
		b.left = size
		return nil
	}
	b.left = 0
	return b.trailer()
}

// trailer reads what follows the last chunk, and returns io.EOF if that is well-formed.
func (b *body) trailer() error {
	size := 0
	for n := 0; n <= maxHeaders; n++ {
		line, err := b.line(maxHeaderBytes - size)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		size += len(line) + len(lineEnd)
		name, value, ok := parseField(line)
		switch {
		case !ok:
			return errMalformed
		case isNamed(name, "lambda-runtime-function-error-type"):
			b.trailerType = bytes.Clone(value)
		case isNamed(name, "lambda-runtime-function-error-body"):
			b.trailerBody = bytes.Clone(value)
		}
	}
	return errMalformed
}

// line reads one line and returns it without its end; it is valid until the next read. Longer ones are malformed.
func (b *body) line(limit int) ([]byte, error) {
	c := b.c
	for searched := 0; ; {
		window := c.buf[c.r:c.w]
		if i := bytes.Index(window[max(0, searched-1):], lineEnd); i >= 0 {
			i += max(0, searched-1)
			if i > limit {
				return nil, errMalformed
			}
			c.r += i + len(lineEnd)
			return window[:i], nil
		}
		searched = len(window)
		if searched > limit+1 {
			return nil, errMalformed
		}
		if searched == len(c.buf) && !c.grow() {
			return nil, errMalformed
		}
		if err := c.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
}

// parseChunkSize reads the hexadecimal size that leads a chunk: at most 15 digits, then nothing or an extension.
func parseChunkSize(line []byte) (n int64, ok bool) {
	digits, _, _ := bytes.Cut(line, []byte{';'})
	digits = bytes.TrimRight(digits, " \t")
	if len(digits) == 0 || len(digits) > 15 {
		return 0, false
	}
	for _, c := range digits {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | int64(c)
	}
	return n, true
}

func malformed(err error) error {
	if err == nil {
		err = errMalformed
	}
	return err
}

func unexpected(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// finish leaves the connection at the next request: it passes over what is left of the body, within drainLimit and headerTimeout.
// It returns false when the connection cannot be used again.
func (b *body) finish() bool {
	if b.expects && (b.left > 0 || b.chunked) {
		return false // the body may come or not
	}
	if err := b.advance(); err != nil {
		return err == io.EOF
	}
	if b.c.SetReadDeadline(time.Now().Add(headerTimeout)) != nil {
		return false
	}
	var waste [512]byte
	for total := 0; total <= drainLimit; {
		n, err := b.Read(waste[:])
		if err == io.EOF {
			return b.c.SetReadDeadline(time.Time{}) == nil
		}
		if err != nil {
			return false
		}
		total += n + maxChunkLine/64 // a chunk of one byte costs more than its byte
	}
	return false
}

// all reads the body to its end; errTooLarge if it has more bytes than limit. Where it announces no length it grows in scratch;
// kept is what may be used as scratch again, and payload is a copy then.
func (b *body) all(scratch []byte, limit int) (payload, kept []byte, err error) {
	if !b.chunked {
		if b.left > int64(limit) {
			return nil, scratch, errTooLarge
		}
		payload, err = readExact(b, int(b.left))
		return payload, scratch, unexpected(err)
	}
	grown, err := readAll(b, scratch, limit)
	if err != nil || cap(grown) > keepScratch {
		return grown, nil, err
	}
	return bytes.Clone(grown), grown[:0], nil
}
