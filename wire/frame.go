package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"berth/lambda"
)

// Limits of a frame, in bytes.
const (
	headSize = 12
	maxName  = 64
	maxMeta  = 1 << 20
	maxRaw   = lambda.MaxPayload + lambda.LogTail
	maxChunk = 64 << 10 // of a streamed response

	// joinBelow is up to which size raw bytes are copied behind the document, which is cheaper than a second buffer.
	joinBelow = 64 << 10
	// readBuffer holds a small call or answer whole, so that it takes one read.
	readBuffer = 8 << 10
)

// kind is what a frame is.
type kind uint8

const (
	callFrame    kind = iota + 1 // client: name, document, raw
	answerFrame                  // server: document, raw; ends the call
	failureFrame                 // server: a failure as JSON; ends the call
	beginFrame                   // server: a streamed response begins; raw is its content type
	chunkFrame                   // server: raw is the next part of it
	leaveFrame                   // client: the response's reader has left, the call goes on
	byeFrame                     // server: the next call must go over another connection
)

// head begins every frame: kind, 1 byte; whether the document is compact, 1 byte; the sizes of the name (2 bytes), the
// document (4) and the raw bytes (4), big-endian.
type head struct {
	kind    kind
	compact bool
	name    int
	doc     int
	raw     int
}

func (h head) put(b []byte) {
	b[0], b[1] = byte(h.kind), 0
	if h.compact {
		b[1] = 1
	}
	binary.BigEndian.PutUint16(b[2:], uint16(h.name))
	binary.BigEndian.PutUint32(b[4:], uint32(h.doc))
	binary.BigEndian.PutUint32(b[8:], uint32(h.raw))
}

// parseHead reads a head of headSize bytes and holds it to the limits.
func parseHead(b []byte) (head, error) {
	h := head{kind: kind(b[0]), compact: b[1] == 1, name: int(binary.BigEndian.Uint16(b[2:]))}
	doc, raw := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	limit := uint32(maxRaw)
	switch h.kind {
	case beginFrame, chunkFrame:
		limit = maxChunk
	case leaveFrame, byeFrame:
		limit = 0
	case callFrame, answerFrame, failureFrame:
	default:
		return head{}, fmt.Errorf("a frame of the unknown kind %d", b[0])
	}
	if b[1] > 1 || h.name > maxName || doc > maxMeta || raw > limit {
		return head{}, fmt.Errorf("a frame (kind %d) with a name of %d bytes, a document of %d and %d raw bytes: the limits are %d, %d and %d",
			b[0], h.name, doc, raw, maxName, maxMeta, limit)
	}
	h.doc, h.raw = int(doc), int(raw)
	return h, nil
}

// frameWriter builds frames in a buffer that is used again.
type frameWriter struct {
	conn net.Conn
	buf  []byte
	err  error // the first
}

// start begins a frame; the document is appended to buf.
func (w *frameWriter) start(name string) {
	w.buf = append(append(w.buf[:0], make([]byte, headSize)...), name...)
}

// send completes the frame that start began and sends it. After an error the frame has not been sent in full, and the
// connection takes no other: its reader would take what follows for the rest of this one.
func (w *frameWriter) send(h head, raw []byte) error {
	if w.err == nil {
		w.err = w.write(h, raw)
	}
	return w.err
}

func (w *frameWriter) write(h head, raw []byte) error {
	h.doc, h.raw = len(w.buf)-headSize-h.name, len(raw)
	h.put(w.buf)
	if len(raw) > joinBelow {
		parts := net.Buffers{w.buf, raw}
		_, err := parts.WriteTo(w.conn)
		return err
	}
	w.buf = append(w.buf, raw...)
	_, err := w.conn.Write(w.buf)
	if cap(w.buf) > 2*joinBelow {
		w.buf = nil // a large document is rare
	}
	return err
}

// checkSizes says what is too large for a frame.
func checkSizes(doc, raw int) error {
	if doc > maxMeta {
		return fmt.Errorf("a document of %d bytes is too large for the wire (limit %d)", doc, maxMeta)
	}
	if raw > maxRaw {
		return fmt.Errorf("a payload of %d bytes is too large for the wire (limit %d)", raw, maxRaw)
	}
	return nil
}

// readHead waits for the next frame's head.
func readHead(r *bufio.Reader) (head, error) {
	b, err := r.Peek(headSize)
	if err != nil {
		return head{}, err
	}
	h, err := parseHead(b)
	if err == nil {
		_, err = r.Discard(headSize)
	}
	return h, err
}

// readPart reads n bytes into buf, which is made larger where it must.
func readPart(r *bufio.Reader, buf []byte, n int) ([]byte, error) {
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := io.ReadFull(r, buf)
	return buf, err
}

// readRaw reads n raw bytes that the caller keeps; nil for none.
func readRaw(r *bufio.Reader, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	return readPart(r, nil, n)
}
