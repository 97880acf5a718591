package runtimeapi

import (
	"io"
	"net"
)

// eventWriter makes the bytes of events, in buffers that are used again. One event at a time.
type eventWriter struct {
	out    []byte
	vector [2][]byte
	parts  net.Buffers
}

// http writes ev as the answer to a request for the next event.
func (w *eventWriter) http(c io.Writer, ev *Event, last bool) error {
	w.out = appendEventHead(w.out[:0], ev, last)
	return w.write(c, ev.Payload)
}

// frame writes ev as an invoke frame.
func (w *eventWriter) frame(c io.Writer, ev *Event) error {
	w.out = appendInvoke(w.out[:0], ev)
	return w.write(c, ev.Payload)
}

// write writes what is in out and the payload, to a socket and small ones in one system call.
func (w *eventWriter) write(c io.Writer, payload []byte) (err error) {
	if len(payload) <= inlineSize {
		w.out = append(w.out, payload...)
		_, err = c.Write(w.out)
		return err
	}
	w.vector = [2][]byte{w.out, payload}
	w.parts = w.vector[:]
	_, err = w.parts.WriteTo(c)
	w.vector = [2][]byte{}
	return err
}
