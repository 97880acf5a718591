//go:build !linux

package namespace

import (
	"context"
	"fmt"

	"berth/sandbox"
)

// Driver cannot make sandboxes on this system.
type Driver struct{}

// New returns a driver that refuses, so that client commands work everywhere.
func New(Config) (*Driver, error) { return &Driver{}, nil }

// Create fails with sandbox.ErrUnsupported.
func (*Driver) Create(context.Context, sandbox.Spec) (sandbox.Sandbox, error) {
	return nil, fmt.Errorf("%w: namespaces need Linux; run the server on a Linux machine and point this client at it", sandbox.ErrUnsupported)
}

// Sweep has nothing to remove.
func (*Driver) Sweep(context.Context) (int, error) { return 0, nil }

// Close has nothing to free.
func (*Driver) Close() error { return nil }
