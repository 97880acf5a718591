package node

import (
	"context"

	"berth/admin"
	"berth/catalog"
	"berth/frontend"
	"berth/lambda"
	"berth/manager"
	"berth/placement"
	"berth/ring"
	"berth/worker"
)

// single is the cluster of one: a ring of one manager, and one worker, reached by method calls.
type single struct {
	catalog   *catalog.Catalog
	ring      *ring.Ring
	managerID lambda.ManagerID
	workerID  lambda.WorkerID
	manager   *manager.Manager
	worker    *worker.Worker
}

// soleQuota is the quota per pool of a ring of one; the effective quota is the pool's whole limit there.
const soleQuota = 1

func newSingle(cat *catalog.Catalog) *single {
	s := &single{catalog: cat, managerID: lambda.ManagerID(newID()), workerID: lambda.WorkerID(newID())}
	r, err := ring.New(1, soleQuota, []lambda.ManagerID{s.managerID})
	if err != nil {
		panic(err) // one fresh id is always a valid ring
	}
	s.ring = r
	return s
}

// status describes the one process.
func (s *single) status(context.Context) (admin.Status, error) {
	m := busiest(s.manager.Status())
	process := &admin.Process{
		ID: "berth", Roles: []string{"frontend", "manager", "worker", "engine", "control"}, Elected: true,
		Manager: managerStatus(m), Worker: workerStatus(s.worker.Stats()),
	}
	only := map[string]*admin.Process{"": process}
	return admin.Status{
		Alone: true, Processes: []admin.Process{*process},
		Ring:  admin.Ring{Version: uint64(s.ring.Version()), Members: []string{process.ID}, Quota: soleQuota, State: string(catalog.RingCurrent)},
		Pools: poolsOf(map[string]statusAnswer{"": {Manager: &m}}, only, s.Limit),
	}, nil
}

// Limit returns a pool's limit as the catalog has it now.
func (s *single) Limit(id lambda.PoolID) int { return s.catalog.Limit(id) }

// Manager finds the manager for the frontend.
func (s *single) Manager(id lambda.ManagerID) (frontend.Manager, bool) {
	return s.manager, id == s.managerID
}

func (s *single) frontendWorker(id lambda.WorkerID) (frontend.Worker, bool) {
	return s.worker, id == s.workerID
}

// All lists the one worker.
func (s *single) All() []lambda.WorkerID { return []lambda.WorkerID{s.workerID} }

// Worker finds the worker for the manager.
func (s *single) Worker(id lambda.WorkerID) (manager.Worker, bool) { return s.worker, id == s.workerID }

// Candidates describes the one worker.
func (s *single) Candidates(*lambda.Version) []placement.Worker {
	stats := s.worker.Stats()
	return []placement.Worker{{ID: s.workerID, FreeBytes: stats.MemoryLimit - stats.MemoryUsed}}
}

// reachable: there is no other manager.
func (s *single) reachable(context.Context, lambda.ManagerID) bool { return false }

// current reports whether an environment key is what an invocation would ask for now.
func (s *single) current(r versions) func(lambda.EnvironmentKey) bool {
	return func(k lambda.EnvironmentKey) bool {
		v, ok := s.catalog.Current(k.Account, k.Function, k.Version)
		return ok && v.ConfigID == k.ConfigID && r.allows(v, k.Runtime)
	}
}
