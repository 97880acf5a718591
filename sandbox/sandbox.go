// Package sandbox declares the port Driver: isolation and nothing else. A sandbox has namespaces, limits and a root file
// system; what runs in it, and why, is the worker's affair.
//
// Life: Create → (Exec, Listen, Dial, Kill, Freeze, Thaw, SetCPUs, Yield, Usage, PeakMemory)* → Destroy, with at most one Attach in between, which completes
// a sandbox that was made before it was known for whom. Methods of one sandbox may be called from many
// goroutines. Everything a sandbox holds (processes, mounts, cgroups, files) is freed by Destroy; what a killed daemon
// left behind is freed by the next daemon's Sweep.
package sandbox

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Errors of the port; implementations wrap them.
var (
	ErrUnsupported = errors.New("sandboxes are not supported here") // message says what is missing
	ErrGone        = errors.New("sandbox is gone")
)

// The user every process of a sandbox runs as, as seen inside. Outside, each sandbox maps to user ids of its own.
const (
	UserName = "sbx_user1051"
	UserID   = 993
	GroupID  = 990
)

// Driver makes sandboxes.
type Driver interface {
	// Create makes a sandbox. On error nothing is left behind. Errors: ErrUnsupported.
	Create(ctx context.Context, spec Spec) (Sandbox, error)

	// Sweep removes all that sandboxes of earlier daemons with the same state directory left behind, and returns how many.
	// It is called once, before the first Create.
	Sweep(ctx context.Context) (int, error)

	// Close frees what the driver holds ready ahead of need. All sandboxes must have been destroyed.
	Close() error
}

// Spec says what to make.
type Spec struct {
	ID       string   // unique on this machine, [a-z0-9-]{1,64}
	Hostname string   // uts name; "" is ID
	Mounts   []Mount  // read-only binds of host files and directories; the root itself, /proc, /dev, /tmp are the driver's, and without a mount there /etc
	Late     []string // directories, made empty, over which Attach may mount
	Limits   Limits
	Prepared bool // the first Exec comes later, with NoWait, and in a hurry: what can be done for it ahead is done at once
}

// Attachment is what a sandbox that waited for its use gets.
type Attachment struct {
	Mounts []Mount // as in Spec; each target is one of Spec.Late
	Limits Limits  // in place of those in Spec
}

// Mount shows Source (host path) at Target (absolute path inside), always read-only, nosuid, nodev.
type Mount struct{ Source, Target string }

// Limits bound one sandbox. Zero values are refused.
type Limits struct {
	MemoryBytes  int64   // hard limit of all its processes; exceeding it kills them (Exit.OOM)
	CPUs         float64 // hard share of processor time, in cores
	PIDs         int     // processes and threads
	ScratchBytes int64   // size of /tmp; a write beyond it fails with ENOSPC; does not count as memory where the host can help it
}

// Sandbox is one isolated place.
type Sandbox interface {
	ID() string

	// Exec starts a process as the sandbox's user, without capabilities, under the seccomp filter, in a session of its own.
	Exec(ctx context.Context, cmd Command) (Process, error)

	// Listen opens a TCP listener inside the sandbox's network namespace (which has a loopback interface only, with
	// 127.0.0.1 and 169.254.100.1). The listener is served by the daemon and survives Kill.
	Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error)

	// Dial connects to a TCP port inside the sandbox's network namespace, from where nothing else can be reached. Who listens
	// there is as hostile as the sandbox's processes are.
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

	// Attach mounts and sets limits while processes run: those see the mounts at once, but a process that stands in a directory
	// that is mounted over stays in the old one until it changes its directory. /tmp is empty then, or still what it was
	// if its size does not change. Once only. On error the sandbox is good for nothing but Destroy. Errors: ErrUnsupported,
	// ErrGone.
	Attach(ctx context.Context, a Attachment) error

	// Kill ends every process of the sandbox and waits until they are gone. The sandbox and its /tmp stay. A frozen sandbox
	// is thawed by it.
	Kill(ctx context.Context) error

	// Freeze stops all processes where they stand; Thaw lets them go on. Both are idempotent. While frozen, Exec, Listen
	// and Dial are errors; open listeners and pipes stay.
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error

	// SetCPUs changes Limits.CPUs: a function is given more while it initialises. Where the host has no processor limits
	// it does nothing. Zero and less is refused.
	SetCPUs(ctx context.Context, cores float64) error

	// Yield makes the processes that run now, and their children, leave the processor to all others of the machine as far as
	// the host can do that; or ends that. It is for what is prepared while nobody waits.
	Yield(ctx context.Context, yield bool) error

	// Usage measures the sandbox now. It is cheap (some file reads) and works while frozen.
	Usage(ctx context.Context) (Usage, error)

	// PeakMemory is Usage's MaxMemoryBytes alone, at a third of the price: every first call's report has it.
	PeakMemory(ctx context.Context) (int64, error)

	// Destroy ends everything and frees it, also when the sandbox is frozen. Idempotent.
	Destroy(ctx context.Context) error
}

// Command is one process to start. Path and Dir are inside the sandbox. Files: stdin is /dev/null, Stdout and Stderr are
// given (nil: /dev/null), Extra becomes descriptors 3, 4, …; the caller keeps and closes its own copies.
type Command struct {
	Path   string
	Args   []string // argv, Args[0] included
	Env    []string // all of it: nothing is inherited
	Dir    string
	Stdout *os.File
	Stderr *os.File
	Extra  []*os.File
	NoWait bool // Exec may return before it is known whether the program can be run; Exit.Err tells then
}

// Process is one process started by Exec.
type Process interface {
	// Done is closed when the process has ended; Exit is valid then.
	Done() <-chan struct{}
	Exit() Exit
	// Signal sends a signal to the process's whole group.
	Signal(sig syscall.Signal) error
}

// Exit is how a process ended.
type Exit struct {
	Code   int            // exit status; -1 when ended by Signal
	Signal syscall.Signal // 0 unless ended by a signal
	OOM    bool           // the sandbox ran out of memory meanwhile
	Err    error          // the program of a Command with NoWait could not be run: what Exec would have returned
}

// Usage is a measurement of a sandbox.
type Usage struct {
	MemoryBytes    int64 // now
	MaxMemoryBytes int64 // highest since Create
	CPUNanoseconds int64
	PIDs           int
	OOMKills       int
	ScratchBytes   int64 // used in /tmp
}
