package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// stubClients is how many Go functions run against the stub at the same time: as many as calls are in flight beside it.
const stubClients = 16

// The whole of the stub's answers.
const (
	stubEvent = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 5c9f4cbc-8c4e-4bd8-a2b8-8a5f6a3a3b3c\r\n" +
		"Lambda-Runtime-Deadline-Ms: 9999999999999\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000001:function:go\r\n" +
		"Content-Length: 2\r\n\r\n{}"
	stubAccepted = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
)

// besideStub compares what the Go function reached with what the same program reaches against an empty stub of the Runtime API:
// without isolation, signatures, logs, or a caller.
func (b *bench) besideStub(ctx context.Context, target *sample) error {
	dir, err := os.MkdirTemp("", "berth-bench-stub-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, err := buildGo(ctx, dir)
	if err != nil {
		return err
	}
	rate, err := stubRate(ctx, program, stubClients, b.slice)
	if err != nil {
		return err
	}
	line := row{Metric: fmt.Sprintf("warm.go.%d.stub", stubClients), Value: target.throughput(), Unit: "1/s", Floor: rate}
	return b.report.add(bar(line, fmt.Sprintf("≥ %.2f × stub", targetStub), func(r row) bool { return r.Ratio >= targetStub }))
}

// stubRate runs some processes of program against a stub, and returns how many events they answer a second. The time before they
// have warmed up is not counted.
func stubRate(ctx context.Context, program string, processes int, length time.Duration) (float64, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	var answered atomic.Int64
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { serveStub(ctx, c, &answered) })
		}
	})
	for range processes {
		cmd := exec.CommandContext(ctx, program)
		cmd.Env = append(os.Environ(), "AWS_LAMBDA_RUNTIME_API="+listener.Addr().String(), "_HANDLER=bootstrap")
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		running.Go(func() { _ = cmd.Wait() }) // killed at the end
	}
	if err := pause(ctx, length); err != nil {
		return 0, err
	}
	before, began := answered.Load(), time.Now()
	if err := pause(ctx, length); err != nil {
		return 0, err
	}
	rate := float64(answered.Load()-before) / time.Since(began).Seconds()
	listener.Close()
	if rate == 0 {
		return 0, fmt.Errorf("%s answers no events of the stub", program)
	}
	return rate, nil
}

// serveStub serves one connection: each GET is asking for an event, each POST is an answer, in chunks.
func serveStub(ctx context.Context, c net.Conn, answered *atomic.Int64) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	var buf [16 << 10]byte
	for n := 0; n < len(buf); {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		reply := stubEvent
		if buf[0] == 'P' {
			if !bytes.HasSuffix(buf[:n], []byte("\r\n0\r\n\r\n")) {
				continue
			}
			answered.Add(1)
			reply = stubAccepted
		} else if !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			continue
		}
		if _, err := c.Write([]byte(reply)); err != nil {
			return
		}
		n = 0
	}
}
