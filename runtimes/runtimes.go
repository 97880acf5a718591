// Package runtimes knows how to run each Lambda runtime on this machine: which host files its sandbox shows, which command
// boots it, and its version's digest.
package runtimes

import (
	"berth/lambda"
	"berth/sandbox"
)

// Runtime is one runnable version of one runtime.
type Runtime struct {
	Name    string                  // "python3.11"
	Version lambda.RuntimeVersionID // digest over everything that makes it up: interpreter and bootstrap
	Mounts  []sandbox.Mount         // read-only root: /usr, /lib…, /var/lang, /var/runtime
	Command []string                // absolute path inside and arguments; for provided.* it is /var/task/bootstrap
	Env     []string                // PATH, LD_LIBRARY_PATH, PYTHONPATH… as FACTS §6 records them, "KEY=value"
	Frames  bool                    // the bootstrap speaks frames on descriptor FrameFD; otherwise the HTTP API

	Parks bool   // sandboxes may wait for a function of this runtime: with the bootstrap started if it speaks frames, else empty
	Ahead string // what a waiting bootstrap is to load, the value of ParkVariable
	Sized bool   // the bootstrap needs the function's memory size when it starts
}

// FrameFD is the descriptor from which a Frames bootstrap reads; it writes to the next one.
const FrameFD = 3
