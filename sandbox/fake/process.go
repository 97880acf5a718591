package fake

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"berth/sandbox"
)

// Process is one process: to a Program what it may use, to the driver's caller a sandbox.Process.
type Process struct {
	Command sandbox.Command
	Sandbox *Sandbox
	Context context.Context // ends when the process is killed

	Stdout, Stderr *os.File
	Extra          []*os.File          // descriptors 3, 4, …
	Signals        chan syscall.Signal // what Signal sent, but for SIGKILL; what does not fit is dropped

	kill context.CancelFunc
	done chan struct{}
	exit sandbox.Exit
}

// run is the process's life.
func (p *Process) run(files []*os.File) {
	exit := p.Sandbox.d.program(p)
	if p.Context.Err() != nil && !exit.OOM {
		exit = sandbox.Exit{Code: -1, Signal: syscall.SIGKILL}
	}
	p.kill()
	for _, f := range files {
		f.Close() // a program may have closed it to say that it is done
	}
	p.Sandbox.mu.Lock()
	delete(p.Sandbox.processes, p)
	p.Sandbox.mu.Unlock()
	p.exit = exit
	close(p.done)
}

// Dial connects to a listener of the process's sandbox; "169.254.100.1:9001".
func (p *Process) Dial(address string) (net.Conn, error) {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	return p.Sandbox.connect(p.Context, addr)
}

// connect reaches a listener of the sandbox.
func (b *Sandbox) connect(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	b.mu.Lock()
	l := b.listeners[addr]
	b.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	ours, theirs := net.Pipe()
	select {
	case l.incoming <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Done implements sandbox.Process.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit implements sandbox.Process.
func (p *Process) Exit() sandbox.Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return sandbox.Exit{Code: -1}
	}
}

// Signal implements sandbox.Process.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	if sig == syscall.SIGKILL {
		p.kill()
		return nil
	}
	select {
	case p.Signals <- sig:
	default:
	}
	return nil
}

// listener is an in-memory net.Listener.
type listener struct {
	b        *Sandbox
	addr     netip.AddrPort
	incoming chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) shut() { l.once.Do(func() { close(l.closed) }) }

func (l *listener) Close() error {
	l.shut()
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if l.b.listeners[l.addr] == l {
		delete(l.b.listeners, l.addr)
	}
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }
