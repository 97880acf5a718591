package runtimeapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// maxOtherBody bounds the bodies of requests to Config.Other, in bytes.
const maxOtherBody = 1 << 20

// serveOther has Config.Other answer a request. Its handler runs in a goroutine of its own, so that this one sees the client leave.
func (c *httpConn) serveOther(h *head, b *body) bool {
	raw := bytes.Clone(h.raw)
	payload, _, err := b.all(nil, maxOtherBody)
	switch {
	case err == errTooLarge:
		return c.answer(h, b, reply{status: http.StatusRequestEntityTooLarge, contentType: plainText})
	case err != nil:
		return false
	}
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil { // parsed by us, but not by net/http: a strange target
		return c.answer(h, b, reply{status: http.StatusBadRequest, contentType: plainText})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req = req.WithContext(ctx)
	req.Body, req.ContentLength, req.TransferEncoding = io.NopCloser(bytes.NewReader(payload)), int64(len(payload)), nil
	req.RemoteAddr = c.RemoteAddr().String()
	answered := collector{header: http.Header{}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.s.api.other.ServeHTTP(&answered, req)
		_ = c.SetReadDeadline(time.Unix(1, 0)) // ends the wait below
	}()
	var left error
	if c.w-c.r < len(c.buf) { // else the client has sent much more already: it is there
		left = c.fill()
	}
	if left != nil && !errors.Is(left, os.ErrDeadlineExceeded) {
		cancel()
	}
	<-served
	if c.SetReadDeadline(time.Time{}) != nil {
		return false
	}
	return c.write(&answered, string(h.method) == http.MethodHead)
}

// collector is the http.ResponseWriter of short answers.
type collector struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *collector) Header() http.Header { return w.header }

func (w *collector) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *collector) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// write sends a handler's answer. It returns false when the connection is to be closed.
func (c *httpConn) write(w *collector, headOnly bool) bool {
	w.WriteHeader(http.StatusOK)
	resp := http.Response{
		StatusCode: w.status, ProtoMajor: 1, ProtoMinor: 1, Header: w.header, Close: c.last,
		ContentLength: int64(w.body.Len()), Body: io.NopCloser(&w.body),
	}
	if headOnly {
		resp.Request = &http.Request{Method: http.MethodHead}
	}
	var out bytes.Buffer
	if err := resp.Write(&out); err != nil {
		return false
	}
	_, err := c.Write(out.Bytes())
	return err == nil && !c.last
}
