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
}

func (c *countingConn) SetWriteDeadline(t time.Time) error {
	c.deadlines++
	return c.Conn.SetWriteDeadline(t)
}
