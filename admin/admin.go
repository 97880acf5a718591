// Package admin is the vocabulary of the API for a server's operators: what is asked and answered under /berth/v1 of a
// frontend, in JSON. Requests are signed like those of the Lambda API, with a key of the first account (000000000001).
//
//	GET  /berth/v1/cluster         Status
//	GET  /berth/v1/rings           Rings
//	POST /berth/v1/rings           Deploy → Ring
//	POST /berth/v1/rings/rollback  Rollback → Ring
//	GET  /berth/v1/rollouts        Rollouts
//	GET  /berth/v1/rollouts/NAME   RolloutDetail of a runtime's last rollout; ?limit=N functions, at most MaxRolloutFunctions
//	POST /berth/v1/rollouts/NAME   RolloutAction → Rollout
//
// Errors are those of the Lambda API: a code in X-Amzn-Errortype, and {"Message": …}.
package admin

import "time"

// The paths.
const (
	ClusterPath  = "/berth/v1/cluster"
	RingsPath    = "/berth/v1/rings"
	RollbackPath = "/berth/v1/rings/rollback"
	RolloutsPath = "/berth/v1/rollouts"
)

// Status is a cluster at one moment, as far as its processes have answered.
type Status struct {
	Alone     bool      `json:"alone,omitempty"` // one process with all roles
	Processes []Process `json:"processes"`
	Ring      Ring      `json:"ring"`
	Earlier   int       `json:"earlier"` // older ring versions whose managers may still hold environments
	Pools     []Pool    `json:"pools"`   // in which something runs, the busiest first; MaxPools at most
	Silent    int       `json:"silent"`  // processes that did not answer in time
}

// MaxPools is how many pools a Status shows.
const MaxPools = 100

// Process is one process of the cluster.
type Process struct {
	ID       string   `json:"id"`
	Roles    []string `json:"roles"`
	Address  string   `json:"address,omitempty"` // for the other processes
	Draining bool     `json:"draining,omitempty"`
	Elected  bool     `json:"elected,omitempty"` // does the background work now
	Manager  *Manager `json:"manager,omitempty"`
	Worker   *Worker  `json:"worker,omitempty"`
}

// Manager is what a manager holds.
type Manager struct {
	Environments int `json:"environments"`
	Idle         int `json:"idle"`
	Running      int `json:"running"` // calls
}

// Worker is what lives on a worker.
type Worker struct {
	Environments map[string]int `json:"environments"` // by state
	Frozen       int            `json:"frozen"`
	MemoryUsed   int64          `json:"memoryUsed"`  // bytes promised to environments
	MemoryLimit  int64          `json:"memoryLimit"` // bytes
	Invocations  uint64         `json:"invocations"` // since its start
	ColdStarts   uint64         `json:"coldStarts"`
}

// Pool is the load of one pool: an account's, or that of a function with reserved concurrency.
type Pool struct {
	Account  string         `json:"account"`
	Function string         `json:"function,omitempty"`
	Limit    int            `json:"limit"`
	Running  int            `json:"running"`
	Managers map[string]int `json:"managers"` // running, by manager
}

// Ring is one version of the ring of managers.
type Ring struct {
	Version  uint64    `json:"version"`
	Members  []string  `json:"members"`
	Quota    int       `json:"q"` // executions that one manager runs at once for one pool
	Previous []uint64  `json:"previous,omitempty"`
	State    string    `json:"state"` // current, superseded, removed
	Made     time.Time `json:"made,omitzero"`
	Reason   string    `json:"reason,omitempty"`
	Pinned   bool      `json:"pinned,omitempty"` // its members were named by an operator: managers that join are left out
}

// Rings are the versions that are kept, newest first.
type Rings struct {
	Rings []Ring `json:"rings"`
}

// Deploy makes a ring version of these managers with this quota.
type Deploy struct {
	Managers []string `json:"managers,omitempty"` // none: all that live, now and later
	Quota    int      `json:"q,omitempty"`        // 0: as it is
}

// Rollback makes a ring version with the members and the quota of an earlier one.
type Rollback struct {
	To uint64 `json:"to,omitempty"` // 0: the last that differs from the current one
}
