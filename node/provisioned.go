package node

import (
	"context"
	"sync"
	"time"

	"berth/apiserver"
	"berth/catalog"
	"berth/lambda"
	"berth/manager"
)

// versionOf finds the version of its runtime that a function version's environments are to have now.
type versionOf func(*lambda.Version) (lambda.RuntimeVersionID, error)

// provisions tells a manager what is provisioned, as the catalog has it now.
func provisions(cat *catalog.Catalog, runtime versionOf) func() []manager.Provision {
	return func() []manager.Provision {
		all := cat.Provisions()
		out := make([]manager.Provision, 0, len(all))
		for _, p := range all {
			out = append(out, provision(p, runtime))
		}
		return out
	}
}

// provision names the environment keys of a provisioned concurrency. A version that cannot run yet, or whose runtime is
// not here, has no target: it stays in progress.
func provision(p catalog.Provision, version versionOf) manager.Provision {
	out := manager.Provision{
		ID:   manager.ProvisionID{Account: p.Account, Function: p.Name, Qualifier: p.Qualifier},
		Pool: p.Pool, Changed: p.Modified,
	}
	for _, t := range p.Targets {
		v := t.Version
		runtime, err := version(v)
		if err != nil || v.State != lambda.Active {
			continue
		}
		out.Targets = append(out.Targets, manager.ProvisionTarget{Version: v, Count: t.Count, Key: lambda.EnvironmentKey{
			Account: v.Account, Function: v.Function, Version: v.Number, ConfigID: v.ConfigID, Runtime: runtime,
		}})
	}
	return out
}

// provisionedRole is a manager, here or in another process.
type provisionedRole interface {
	Provisioned(ctx context.Context, req lambda.ProvisionedRequest) (lambda.ProvisionedAnswer, error)
}

// provisionState asks a manager what there is.
func provisionState(ctx context.Context, m provisionedRole, p catalog.Provision, version versionOf) (apiserver.ProvisionState, error) {
	req := lambda.ProvisionedRequest{Account: p.Account, Function: p.Name, Qualifier: p.Qualifier, Changed: p.Modified}
	for _, t := range provision(p, version).Targets {
		req.Keys = append(req.Keys, t.Key)
	}
	there, err := m.Provisioned(ctx, req)
	if err != nil {
		return apiserver.ProvisionState{}, err
	}
	return apiserver.ProvisionState{Allocated: there.Allocated, Ready: there.Current >= p.Count, Failed: there.Failed}, nil
}

// soleProvisioned asks the only manager.
func soleProvisioned(m *manager.Manager, version versionOf) func(catalog.Provision) apiserver.ProvisionState {
	return func(p catalog.Provision) apiserver.ProvisionState {
		state, _ := provisionState(context.Background(), m, p, version) // a manager in this process always answers
		return state
	}
}

// provisioned reports what there is of a provisioned concurrency. Only the first manager of the pool knows. While that one
// does not answer nothing is known, and the answer is "in progress".
func (c *cluster) provisioned(p catalog.Provision) apiserver.ProvisionState {
	id := c.Ring().Manager(p.Pool)
	var m provisionedRole
	if c.manager != nil && string(id) == c.id {
		m = c.manager
	} else if remote, ok := c.remoteManager(id); ok && !c.silent.has(id) {
		m = remote
	} else {
		return apiserver.ProvisionState{}
	}
	state, err := provisionState(context.Background(), m, p, c.versions().now) // wire bounds the time
	if err != nil {
		c.log.Warn("the manager that has a provisioned concurrency does not answer; it is shown as in progress",
			"manager", id, "account", p.Account, "function", p.Name, "error", err)
		c.silent.add(id)
	}
	return state
}

// silenceKept is for how long a manager that did not answer is not asked again: a page of a list asks dozens of times.
const silenceKept = time.Second

// silentManagers are those that did not answer just now.
type silentManagers struct {
	mu    sync.Mutex
	until map[lambda.ManagerID]time.Time
}

func (s *silentManagers) add(id lambda.ManagerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.until == nil {
		s.until = map[lambda.ManagerID]time.Time{}
	}
	for other, until := range s.until {
		if now.After(until) {
			delete(s.until, other)
		}
	}
	s.until[id] = now.Add(silenceKept)
}

func (s *silentManagers) has(id lambda.ManagerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.until[id])
}
