// Package guard decorates any sandbox driver with what every driver shall share: one state machine, checks of what it is asked
// for, a limit on how many sandboxes live at once, and a time limit on every call.
package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"berth/sandbox"
)

// ErrFull is wrapped by Create when the machine holds as many sandboxes as it may.
var ErrFull = errors.New("no room for another sandbox")

const (
	// Default time limits of calls, for contexts without an earlier deadline. They are far above what the calls take
	// (milliseconds): they end what hangs.
	defaultCreate  = 30 * time.Second
	defaultCall    = 10 * time.Second
	defaultDestroy = time.Minute

	defaultSandboxes = 4096
)

// Config bounds what the driver may be asked for. Zero values are the defaults.
type Config struct {
	MaxSandboxes   int // alive at once; 0 is 4,096
	CreateTimeout  time.Duration
	CallTimeout    time.Duration
	DestroyTimeout time.Duration
}

// driver is the decorator.
type driver struct {
	inner  sandbox.Driver
	config Config

	mu     sync.Mutex
	alive  map[string]bool
	closed bool
}

// New puts a guard around a driver.
func New(inner sandbox.Driver, config Config) sandbox.Driver {
	if config.MaxSandboxes == 0 {
		config.MaxSandboxes = defaultSandboxes
	}
	if config.CreateTimeout == 0 {
		config.CreateTimeout = defaultCreate
	}
	if config.CallTimeout == 0 {
		config.CallTimeout = defaultCall
	}
	if config.DestroyTimeout == 0 {
		config.DestroyTimeout = defaultDestroy
	}
	return &driver{inner: inner, config: config, alive: map[string]bool{}}
}

// Create implements sandbox.Driver. Errors: ErrFull, and the driver's.
func (d *driver) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	if err := d.enter(spec.ID); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.config.CreateTimeout)
	defer cancel()
	inner, err := d.inner.Create(ctx, spec)
	if err != nil {
		d.leave(spec.ID)
		return nil, err
	}
	return &box{d: d, inner: inner, spec: spec}, nil
}

func (d *driver) enter(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return fmt.Errorf("sandbox driver: %w: closed", sandbox.ErrGone)
	case d.alive[id]:
		return fmt.Errorf("sandbox %s exists already", id)
	case len(d.alive) >= d.config.MaxSandboxes:
		return fmt.Errorf("%w: %d are alive, the most allowed here", ErrFull, len(d.alive))
	}
	d.alive[id] = true
	return nil
}

func (d *driver) leave(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.alive, id)
}

// Sweep implements sandbox.Driver. It is refused once sandboxes are alive: it would take them for leftovers.
func (d *driver) Sweep(ctx context.Context) (int, error) {
	d.mu.Lock()
	alive := len(d.alive)
	d.mu.Unlock()
	if alive > 0 {
		return 0, fmt.Errorf("sweep with %d sandboxes alive: call it before the first Create", alive)
	}
	ctx, cancel := context.WithTimeout(ctx, d.config.DestroyTimeout)
	defer cancel()
	return d.inner.Sweep(ctx)
}

// Close implements sandbox.Driver. With sandboxes alive it is refused and changes nothing; a second call does nothing.
func (d *driver) Close() error {
	d.mu.Lock()
	if len(d.alive) > 0 {
		defer d.mu.Unlock()
		return fmt.Errorf("close with %d sandboxes alive: destroy them first", len(d.alive))
	}
	was := d.closed
	d.closed = true
	d.mu.Unlock()
	if was {
		return nil
	}
	return d.inner.Close()
}

// box is the decorator of one sandbox. Once Destroy has begun no call reaches the driver; calls already there are the driver's
// to end, which Destroy needs: it may be called because one hangs.
type box struct {
	d     *driver
	inner sandbox.Sandbox
	spec  sandbox.Spec

	attached atomic.Bool // Attach has begun
	closed   atomic.Bool // Destroy has begun

	destroying sync.Mutex
	gone       bool // Destroy has succeeded
}

// ID implements sandbox.Sandbox.
func (b *box) ID() string { return b.inner.ID() }

// open reports whether calls are still taken, and bounds the call's time.
func (b *box) open(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if b.closed.Load() {
		return nil, nil, fmt.Errorf("sandbox %s: %w", b.ID(), sandbox.ErrGone)
	}
	ctx, cancel := context.WithTimeout(ctx, b.d.config.CallTimeout)
	return ctx, cancel, nil
}

// Exec implements sandbox.Sandbox.
func (b *box) Exec(ctx context.Context, cmd sandbox.Command) (sandbox.Process, error) {
	if err := cmd.Check(); err != nil {
		return nil, err
	}
	ctx, cancel, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return b.inner.Exec(ctx, cmd)
}

// Listen implements sandbox.Sandbox.
func (b *box) Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	ctx, cancel, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return b.inner.Listen(ctx, addr)
}

// Dial implements sandbox.Sandbox.
func (b *box) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	ctx, cancel, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return b.inner.Dial(ctx, addr)
}

// Attach implements sandbox.Sandbox. A second call is refused.
func (b *box) Attach(ctx context.Context, a sandbox.Attachment) error {
	if err := a.Check(b.spec); err != nil {
		return err
	}
	if b.attached.Swap(true) {
		return fmt.Errorf("sandbox %s: a second Attach: what one use got must not reach another", b.ID())
	}
	return b.call(ctx, func(ctx context.Context) error { return b.inner.Attach(ctx, a) })
}

// call runs one of the methods that take only a context.
func (b *box) call(ctx context.Context, method func(context.Context) error) error {
	ctx, cancel, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	return method(ctx)
}

// Kill implements sandbox.Sandbox.
func (b *box) Kill(ctx context.Context) error { return b.call(ctx, b.inner.Kill) }

// Freeze implements sandbox.Sandbox.
func (b *box) Freeze(ctx context.Context) error { return b.call(ctx, b.inner.Freeze) }

// Thaw implements sandbox.Sandbox.
func (b *box) Thaw(ctx context.Context) error { return b.call(ctx, b.inner.Thaw) }

// SetCPUs implements sandbox.Sandbox.
func (b *box) SetCPUs(ctx context.Context, cores float64) error {
	return b.call(ctx, func(ctx context.Context) error { return b.inner.SetCPUs(ctx, cores) })
}

// Yield implements sandbox.Sandbox.
func (b *box) Yield(ctx context.Context, yield bool) error {
	return b.call(ctx, func(ctx context.Context) error { return b.inner.Yield(ctx, yield) })
}

// Usage implements sandbox.Sandbox.
func (b *box) Usage(ctx context.Context) (sandbox.Usage, error) {
	ctx, cancel, err := b.open(ctx)
	if err != nil {
		return sandbox.Usage{}, err
	}
	defer cancel()
	return b.inner.Usage(ctx)
}

// PeakMemory implements sandbox.Sandbox.
func (b *box) PeakMemory(ctx context.Context) (int64, error) {
	ctx, cancel, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	defer cancel()
	return b.inner.PeakMemory(ctx)
}

// Destroy implements sandbox.Sandbox. Once called no other call is taken; it does not end with the caller's context, which
// may be the very reason for it, and after a failure it may be called again.
func (b *box) Destroy(ctx context.Context) error {
	b.closed.Store(true)
	b.destroying.Lock()
	defer b.destroying.Unlock()
	if b.gone {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.d.config.DestroyTimeout)
	defer cancel()
	if err := b.inner.Destroy(ctx); err != nil {
		return err
	}
	b.gone = true
	b.d.leave(b.ID())
	return nil
}
