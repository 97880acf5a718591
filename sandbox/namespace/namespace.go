// Package namespace is the default sandbox driver: Linux namespaces, cgroups (v1, v2 or both), seccomp, and a small static
// init (directory init) that the driver starts and talks to.
//
// A sandbox is one process 1 (the init) with its own user, mount, pid, ipc, uts, net and cgroup namespaces. As root, the
// namespaces belong to the host's user namespace; the init gives its power over them up by entering an empty user namespace
// last, so nothing inside owns anything. Without root everything belongs to an unprivileged user namespace, and the limits
// that need cgroups are off.
//
// The way of a Create, each step undone by Destroy in reverse:
//
//	slot → scratch file system → cgroups → control socket → clone by the spawner → limits → set-up by init → user map → ready
package namespace

import "log/slog"

// Config says how to make a Driver.
type Config struct {
	// StateDir is the driver's own directory, made 0700 if absent; one daemon at a time. Cgroups and host user ids are named
	// after it, so daemons with different directories do not meet.
	StateDir string

	// Log takes what an operator should know: limits that cannot be enforced, fallbacks. nil discards.
	Log *slog.Logger

	// Init is the init's executable; nil is the one built into this binary by `make build`.
	Init []byte

	// ScratchReady is how many /tmp file systems are kept made ahead; 0 is 4. Each costs about 130 KiB of disk and 200 KiB
	// of kernel memory.
	ScratchReady int
}
