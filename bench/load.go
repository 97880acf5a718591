package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Bounds of what is recorded, in nanoseconds, with three significant digits.
const (
	fastest = 1_000
	slowest = 120_000_000_000
	digits  = 3
)

// answerWithin bounds one request, as a function's own time limit would.
const answerWithin = time.Minute

// sample is what one or more slices of load have measured.
type sample struct {
	requests int64
	elapsed  time.Duration
	cpu      time.Duration           // of the process that served, without its children; 0 where it is not measured
	times    *hdrhistogram.Histogram // nanoseconds
}

func newSample() *sample { return &sample{times: hdrhistogram.New(fastest, slowest, digits)} }

func (s *sample) merge(other *sample) {
	s.requests += other.requests
	s.elapsed += other.elapsed
	s.cpu += other.cpu
	s.times.Merge(other.times)
}

// throughput returns requests per second.
func (s *sample) throughput() float64 { return float64(s.requests) / s.elapsed.Seconds() }

// cpuEach returns the processor time for each request.
func (s *sample) cpuEach() time.Duration { return s.cpu / time.Duration(max(s.requests, 1)) }

func (s *sample) quantile(percent float64) time.Duration {
	return time.Duration(s.times.ValueAtQuantile(percent))
}

// load sends the same request from a number of clients, each over its own connection, one at a time, for a while; each
// client sends at least one.
func load(ctx context.Context, addr string, request []byte, clients int, length time.Duration) (*sample, error) {
	connections := make([]*connection, clients)
	for i := range connections {
		c, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		connections[i] = c
	}
	samples := make([]*sample, clients)
	failures := make([]error, clients)
	started := time.Now()
	end := started.Add(length)
	var running sync.WaitGroup
	for i, c := range connections {
		samples[i] = newSample()
		running.Go(func() {
			for failures[i] = c.timed(request, samples[i]); failures[i] == nil && ctx.Err() == nil && time.Now().Before(end); {
				failures[i] = c.timed(request, samples[i])
			}
		})
	}
	running.Wait()
	total := newSample()
	for _, s := range samples {
		total.merge(s)
	}
	total.elapsed = time.Since(started)
	for _, err := range append(failures, ctx.Err()) {
		if err != nil {
			return nil, err // the others say the same
		}
	}
	return total, nil
}

// connection is one persistent HTTP/1.1 connection, with as little work per request as can be.
type connection struct {
	net.Conn
	reader *bufio.Reader
}

func dial(ctx context.Context, addr string) (*connection, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &connection{conn, bufio.NewReader(conn)}, nil
}

// timed does one round trip and records how long it took.
func (c *connection) timed(request []byte, into *sample) error {
	started := time.Now()
	if err := c.roundTrip(request); err != nil {
		return err
	}
	into.requests++
	return into.times.RecordValue(time.Since(started).Nanoseconds())
}

var (
	okStatus      = []byte("HTTP/1.1 20") // 202 for events
	contentLength = []byte("content-length:")
	chunked       = []byte("transfer-encoding:")
	functionError = []byte("x-amz-function-error:")
)

// roundTrip sends a request and reads its answer, which must be a 200 or 202 without a function error.
func (c *connection) roundTrip(request []byte) error {
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	status, err := c.reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, okStatus) {
		return c.refused(string(status))
	}
	length, isChunked := 0, false
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		switch {
		case hasPrefixFold(line, contentLength):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return err
			}
		case hasPrefixFold(line, chunked):
			isChunked = true
		case hasPrefixFold(line, functionError):
			return errors.New("the function failed")
		}
	}
	if isChunked {
		return discardChunks(c.reader)
	}
	_, err = c.reader.Discard(length)
	return err
}

func hasPrefixFold(line, prefix []byte) bool {
	return len(line) >= len(prefix) && bytes.EqualFold(line[:len(prefix)], prefix)
}

func discardChunks(r *bufio.Reader) error {
	chunks := httputil.NewChunkedReader(r)
	var buffer [4096]byte
	for {
		if _, err := chunks.Read(buffer[:]); err != nil {
			_, err = r.Discard(len("\r\n")) // the end of the (empty) trailer
			return err
		}
	}
}

// refused tells of an answer that is neither, with the start of what it says.
func (c *connection) refused(status string) error {
	text := make([]byte, 1024)
	n, _ := c.reader.Read(text)
	return fmt.Errorf("the server answered %s: %s", strings.TrimSpace(status), text[:n])
}

// rawRequest returns a request's bytes as they go over the wire.
func rawRequest(req *http.Request) ([]byte, error) {
	var raw bytes.Buffer
	if err := req.Write(&raw); err != nil {
		return nil, err
	}
	return raw.Bytes(), nil
}
