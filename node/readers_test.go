package node

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestAReaderThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		conn := &patientConn{Conn: ours, limit: readerLimit}
		begin := time.Now()
		n, err := conn.Write(make([]byte, 6<<20))
		if took := time.Since(begin); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || took < readerLimit/2 || took > readerLimit {
			t.Errorf("%d bytes, %v, after %s", n, err, took)
		}
	})
}

// What is read slowly is not cut off, and neither is a connection that rests.
func TestReadersWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		conn := &patientConn{Conn: ours, limit: readerLimit}
		go func() {
			defer theirs.Close()
			part := make([]byte, maxWrite)
			for range 20 {
				time.Sleep(readerLimit/2 - time.Second)
				_, _ = io.ReadFull(theirs, part)
			}
			_, _ = io.Copy(io.Discard, theirs)
		}()
		if n, err := conn.Write(make([]byte, 20*maxWrite)); n != 20*maxWrite || err != nil {
			t.Errorf("a slow reader: %d bytes, %v", n, err)
		}
		time.Sleep(10 * readerLimit)
		if n, err := conn.Write([]byte("more")); n != 4 || err != nil {
			t.Errorf("after a rest: %d bytes, %v", n, err)
		}
		_ = conn.SetWriteDeadline(time.Now().Add(-time.Second)) // as an interruption does
		if n, err := conn.Write([]byte("more")); n != 4 || err != nil {
			t.Errorf("after an interruption: %d bytes, %v", n, err)
		}
		_ = conn.Close()
	})
}

func TestInterruptedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		conn := &patientConn{Conn: ours, limit: readerLimit}
		time.AfterFunc(time.Second, func() { _ = conn.SetWriteDeadline(time.Now()) })
		begin := time.Now()
		if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) > 2*time.Second {
			t.Errorf("%v, after %s", err, time.Since(begin))
		}
	})
}

// net/http takes the write deadline away after each answer. That must neither lift the limit nor cost a new deadline.
func TestRemovedDeadlineKeepsTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		counted := &countingConn{Conn: ours}
		conn := &patientConn{Conn: counted, limit: readerLimit}
		go func() { _, _ = io.CopyN(io.Discard, theirs, 3) }()
		for range 3 {
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetWriteDeadline(time.Time{})
		}
		if counted.deadlines != 1 {
			t.Errorf("%d deadlines were set for three answers, want 1", counted.deadlines)
		}
		if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a client that reads nothing: %v", err)
		}
	})
}

type countingConn struct {
	net.Conn
	deadlines int
	reads     int
}

func (c *countingConn) SetWriteDeadline(t time.Time) error {
	c.deadlines++
	return c.Conn.SetWriteDeadline(t)
}

// net/http sets and takes away several read deadlines for each request. They hold, and cost next to nothing.
func TestReadDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		counted := &countingConn{Conn: ours}
		conn := &patientConn{Conn: counted, limit: readerLimit}
		read := func() (time.Duration, error) {
			began := time.Now()
			_, err := conn.Read(make([]byte, 1))
			return time.Since(began), err
		}
		for range 10 {
			for _, d := range []time.Duration{time.Minute, 0, 10 * time.Second, 5 * time.Minute, 0} {
				at := time.Now().Add(d)
				if d == 0 {
					at = time.Time{}
				}
				if err := conn.SetReadDeadline(at); err != nil {
					t.Fatal(err)
				}
			}
		}
		if counted.reads > 2 {
			t.Errorf("%d deadlines were set for ten requests", counted.reads)
		}
		time.AfterFunc(time.Hour, func() { _, _ = theirs.Write([]byte("x")) })
		if took, err := read(); err != nil || took != time.Hour {
			t.Errorf("without a deadline: %v after %s", err, took)
		}
		for _, want := range []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Second} {
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			_ = conn.SetReadDeadline(time.Now().Add(want))
			if took, err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || took != want {
				t.Errorf("a deadline in %s: %v after %s", want, err, took)
			}
		}
		if _, err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deadline that is over holds on: %v", err)
		}
		_ = conn.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // as net/http interrupts its reader
		if took, err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || took != time.Second {
			t.Errorf("interrupted: %v after %s", err, took)
		}
		_ = conn.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Hour, func() { _, _ = theirs.Write([]byte("x")) })
		if took, err := read(); err != nil || took != time.Hour {
			t.Errorf("after an interruption: %v after %s", err, took)
		}
	})
}

func (c *countingConn) SetReadDeadline(t time.Time) error {
	c.reads++
	return c.Conn.SetReadDeadline(t)
}
