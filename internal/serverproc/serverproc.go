// Package serverproc starts `berth serve` as a child process, waits until it takes calls, and ends it. The demo, the
// end-to-end tests and the benchmark share it.
package serverproc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"berth/clientfile"
)

const (
	// readyWithin is how long a server may take to start.
	readyWithin = 60 * time.Second
	// stopWithin is how long a server may take to stop in good order before it is killed.
	stopWithin = 30 * time.Second
	// readyLine is what a server prints when it takes calls, before its URL.
	readyLine = "berth ready on "
	// keptTail is how much of the server's standard error is kept for error messages, in bytes.
	keptTail = 8 << 10
)

// Config says what to start.
type Config struct {
	Binary  string    // the berth executable
	DataDir string    // must exist
	Addr    string    // "" is a free port on 127.0.0.1
	Args    []string  // more flags of `berth serve`
	Log     io.Writer // gets the server's standard error; may be nil
	// NoAPI: the process has no public API (--role without frontend), so it writes no client file.
	NoAPI bool
}

// Server is a running server process.
type Server struct {
	URL    string
	Client clientfile.File
	// StartTook is the time from the start of the process to its ready line.
	StartTook time.Duration

	cmd  *exec.Cmd
	tail *tailBuffer
	done chan struct{}
	err  error // of the process, once done is closed
}

// Start starts a server and waits until it takes calls. When it ends instead, the error holds its last words.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	args := append([]string{"serve", "--data", cfg.DataDir, "--addr", cfg.Addr}, cfg.Args...)
	s := &Server{cmd: exec.Command(cfg.Binary, args...), tail: &tailBuffer{also: cfg.Log}, done: make(chan struct{})}
	s.cmd.Stderr = s.tail
	s.cmd.SysProcAttr = ownGroup()
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting berth serve: %w", err)
	}
	started := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting berth serve: %w", err)
	}
	ready := make(chan string, 1)
	go s.watch(stdout, ready)
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case s.URL = <-ready:
		s.StartTook = time.Since(started)
		if cfg.NoAPI {
			return s, nil
		}
		if s.Client, err = clientfile.Load(cfg.DataDir); err != nil {
			s.Kill()
			return nil, fmt.Errorf("the server is ready but its client file is not: %w", err)
		}
		return s, nil
	case <-s.done:
		return nil, fmt.Errorf("berth serve ended before it was ready: %w\n%s", s.err, s.tail)
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = fmt.Errorf("berth serve was not ready after %s\n%s", readyWithin, s.tail)
	}
	s.Kill()
	return nil, err
}

// watch reads the server's standard output to its end, and then waits for the process.
func (s *Server) watch(stdout io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), readyLine); ok {
			select {
			case ready <- strings.TrimSpace(url):
			default:
			}
		}
	}
	s.err = s.cmd.Wait()
	if s.err == nil {
		s.err = errors.New("exit status 0")
	}
	close(s.done)
}

// PID returns the server's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Done is closed when the process has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// ExitCode returns the process's exit code, once Done is closed; -1 when a signal ended it.
func (s *Server) ExitCode() int { return s.cmd.ProcessState.ExitCode() }

// Tail returns the last of what the server wrote to its standard error.
func (s *Server) Tail() string { return s.tail.String() }

// Stop asks the server to end, and waits. A server that does not end in time is killed, which is an error, as is an exit
// code other than 0.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the server: %w", err)
	}
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		s.Kill()
		return fmt.Errorf("the server did not end within %s and was killed\n%s", stopWithin, s.tail)
	}
	if code := s.ExitCode(); code != 0 {
		return fmt.Errorf("the server ended with exit code %d\n%s", code, s.tail)
	}
	return nil
}

// Kill ends the server at once (SIGKILL), and waits until it is gone.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// tailBuffer keeps the end of what is written.
type tailBuffer struct {
	also io.Writer
	mu   sync.Mutex
	kept []byte
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, p...)
	if extra := len(b.kept) - keptTail; extra > 0 {
		b.kept = append(b.kept[:0], b.kept[extra:]...)
	}
	if b.also != nil {
		_, _ = b.also.Write(p)
	}
	return len(p), nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(bytes.TrimSpace(b.kept))
}
