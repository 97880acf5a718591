package lambda

import "errors"

// StartRequest asks a worker for a new environment, reserved for one invocation that follows at once.
type StartRequest struct {
	Environment EnvironmentID
	Owner       ManagerID // who is told when the environment becomes idle or ends
	Key         EnvironmentKey
	Version     *Version
}

// AcquireRequest asks a manager for an environment.
type AcquireRequest struct {
	Pool    PoolID
	Key     EnvironmentKey
	Version *Version
}

// Errors between roles. They never reach a caller as they are.
var (
	// ErrNoCapacity: the worker has no room for the environment; the manager ends idle ones or tries another worker.
	ErrNoCapacity = errors.New("the worker has no memory left for another environment")
	// ErrUnknownEnvironment: the reservation's environment is not there (any more). Nothing has run: it is safe to try again.
	ErrUnknownEnvironment = errors.New("no such environment on this worker")
)
