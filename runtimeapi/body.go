package runtimeapi

import (
	"errors"
	"io"
)

const (
	// firstChunk is how much is set aside for a body before any of it has arrived; more only as it arrives, so that a
	// function cannot make the host hold memory by announcing a length.
	firstChunk = 64 << 10
	// keepScratch is the largest buffer that an idle environment keeps.
	keepScratch = 16 << 10
	// drainLimit is how much of an answer that is too large is read and thrown away, so that the runtime lives to be told.
	drainLimit = 64 << 20
	// maxErrorType bounds Lambda-Runtime-Function-Error-Type, in bytes.
	maxErrorType = 256
)

var errTooLarge = errors.New("more bytes than allowed")

// readExact reads exactly n bytes into a slice of its own; n is what the other side announced, already checked.
func readExact(r io.Reader, n int) ([]byte, error) {
	buf := make([]byte, min(n, firstChunk))
	for have := 0; ; {
		m, err := io.ReadFull(r, buf[have:])
		have += m
		if err != nil {
			return nil, err
		}
		if have == n {
			return buf, nil
		}
		grown := make([]byte, min(n, 2*have))
		copy(grown, buf)
		buf = grown
	}
}

// readAll reads to the end, at most limit bytes, into scratch (grown as needed), and returns it.
func readAll(r io.Reader, scratch []byte, limit int) ([]byte, error) {
	buf := scratch[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, max(4096, cap(buf)))...)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), limit+1)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > limit:
			return buf, errTooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}

// cleanErrorType makes an error type fit to stand in logs and headers: printable ASCII, at most maxErrorType bytes.
func cleanErrorType(s string) string {
	return clean(s[:min(len(s), maxErrorType)], visible)
}

func visible(c byte) bool { return c > ' ' && c < 0x7f }

// headerValue makes a value fit for one HTTP header. What it stands in for cannot be part of valid JSON text.
func headerValue(s string) string {
	return clean(s, func(c byte) bool { return c >= ' ' && c != 0x7f })
}

// clean puts a space in the place of each byte that is not allowed. It allocates only if there are any.
func clean(s string, allowed func(byte) bool) string {
	for i := range len(s) {
		if allowed(s[i]) {
			continue
		}
		b := []byte(s)
		for ; i < len(b); i++ {
			if !allowed(b[i]) {
				b[i] = ' '
			}
		}
		return string(b)
	}
	return s
}
