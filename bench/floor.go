package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// floorCommand makes this program the floor: a bare net/http server that answers hello.
const floorCommand = "floor"

// serveFloor serves until ctx ends, and prints its address first.
func serveFloor(ctx context.Context, out io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `"hello"`)
		}),
	}
	context.AfterFunc(ctx, func() { server.Close() })
	fmt.Fprintln(out, listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// floor is the floor's process.
type floor struct {
	cmd       *exec.Cmd
	addr      string
	startTook time.Duration
}

func (b *bench) startFloor(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, floorCommand)
	cmd.Stderr = b.log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the floor: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return errors.Join(fmt.Errorf("the floor did not start: %w", err), cmd.Wait())
	}
	b.floor = floor{cmd: cmd, addr: strings.TrimSpace(line), startTook: time.Since(started)}
	return nil
}

func (b *bench) stopFloor() {
	_ = b.floor.cmd.Process.Kill()
	_ = b.floor.cmd.Wait()
}

// floorAlone measures the floor with one client for one slice: what figures that are no load are compared with.
func (b *bench) floorAlone(ctx context.Context) (*sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.floor.addr+"/", strings.NewReader("{}"))
	if err != nil {
		return nil, err
	}
	request, err := rawRequest(req)
	if err != nil {
		return nil, err
	}
	return load(ctx, b.floor.addr, request, 1, b.slice)
}
