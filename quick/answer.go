package quick

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// answer is the http.ResponseWriter of one request. An answer whose length the handler says goes out as it is written, at
// best in one system call; any other is collected.
type answer struct {
	c      *conn
	header http.Header
	last   bool // the connection ends after this

	status  int
	length  int64  // as the handler said; -1: it did not
	head    []byte // of the answer, without what only finish knows
	body    []byte // collected
	sent    bool   // the head is out
	written int64
	broken  bool // the connection cannot be used on
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter. Informational statuses are not sent.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < 200 {
		return
	}
	a.status, a.length = status, -1
	b := make([]byte, 0, 512)
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	b = append(append(append(b, ' '), http.StatusText(status)...), "\r\n"...)
	for name, values := range a.header {
		if !token(name) {
			continue
		}
		switch name {
		case "Content-Length":
			if n, err := strconv.ParseInt(values[0], 10, 64); err == nil && n >= 0 && a.hasBody() {
				a.length = n
			}
			continue
		case "Connection":
			a.last = a.last || strings.EqualFold(values[0], "close")
			continue
		case "Transfer-Encoding", "Trailer", "Date":
			continue
		}
		for _, v := range values {
			b = append(appendValue(append(append(b, name...), ": "...), v), "\r\n"...)
		}
	}
	b = append(append(b, "Date: "...), date()...)
	if a.last {
		b = append(b, "Connection: close\r\n"...)
	}
	a.head = b
}

func (a *answer) hasBody() bool {
	return a.status != http.StatusNoContent && a.status != http.StatusNotModified
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	switch {
	case !a.hasBody():
		return 0, http.ErrBodyNotAllowed
	case a.length < 0:
		a.body = append(a.body, p...)
		return len(p), nil
	case a.written+int64(len(p)) > a.length:
		return 0, http.ErrContentLength
	}
	a.written += int64(len(p))
	return len(p), a.send(p)
}

// finish sends what is still to be sent.
func (a *answer) finish() {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.length < 0 {
		a.length, a.written = int64(len(a.body)), int64(len(a.body))
	}
	if !a.sent {
		a.send(a.body)
	}
	if a.written != a.length {
		a.broken = true
	}
}

const (
	together  = 16 << 10        // bytes of a body up to which it is copied behind the head for one write
	writeTime = 2 * time.Minute // a client may take so long to read a part that the kernel does not take at once
)

// send writes p, and the head before it if that is not out yet.
func (a *answer) send(p []byte) error {
	var err error
	if len(p) > together {
		err = a.c.SetWriteDeadline(time.Now().Add(writeTime))
	}
	if err == nil {
		err = a.write(p)
	}
	if err == nil && len(p) > together {
		err = a.c.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		a.broken = true
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

func (a *answer) write(p []byte) (err error) {
	if a.sent {
		_, err = a.c.Write(p)
		return err
	}
	a.sent = true
	if a.hasBody() {
		a.head = append(strconv.AppendInt(append(a.head, "Content-Length: "...), a.length, 10), "\r\n"...)
	}
	a.head = append(a.head, "\r\n"...)
	if len(p) <= together {
		_, err = a.c.Write(append(a.head, p...))
		return err
	}
	parts := net.Buffers{a.head, p}
	_, err = parts.WriteTo(a.c.Conn)
	return err
}

// appendValue appends a header's value. Line ends in it would begin headers of somebody else's making.
func appendValue(b []byte, v string) []byte {
	if strings.ContainsAny(v, "\r\n") {
		v = strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
	}
	return append(b, v...)
}

// dateLine is the value of a Date header with its line end, good for one second.
type dateLine struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[dateLine]

func date() string {
	now := time.Now()
	d := lastDate.Load()
	if d == nil || d.second != now.Unix() {
		d = &dateLine{now.Unix(), now.UTC().Format(http.TimeFormat) + "\r\n"}
		lastDate.Store(d)
	}
	return d.text
}
