// Package worker makes environments and runs invocations in them: sandbox, code, runtime process, Runtime API, time limits
// and logs. It knows nothing of pools; a manager owns each environment.
package worker

import "berth/lambda"

// Owner is told what becomes of the environments it owns. Calls are quick and never block on the worker.
type Owner interface {
	// EnvironmentIdle: the invocation is over and the environment can take another.
	EnvironmentIdle(lambda.EnvironmentID)
	// EnvironmentGone: it ended (crash, failed start, End) and its resources are free. Called exactly once per environment.
	EnvironmentGone(lambda.EnvironmentID)
}

// StartRequest asks for a new environment, reserved for one invocation that follows at once.
type StartRequest struct {
	Environment lambda.EnvironmentID
	Owner       lambda.ManagerID
	Key         lambda.EnvironmentKey
	Version     *lambda.Version
}
