package node

import (
	"berth/apiserver"
	"berth/catalog"
	"berth/lambda"
	"berth/manager"
)

// versionOf finds the version of a runtime that environments are to have now.
type versionOf func(runtime string) (lambda.RuntimeVersionID, error)

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
		runtime, err := version(v.Runtime)
		if err != nil || v.State != lambda.Active {
			continue
		}
		out.Targets = append(out.Targets, manager.ProvisionTarget{Version: v, Count: t.Count, Key: lambda.EnvironmentKey{
			Account: v.Account, Function: v.Function, Version: v.Number, ConfigID: v.ConfigID, Runtime: runtime,
		}})
	}
	return out
}

// provisionState asks the manager what there is.
func provisionState(m *manager.Manager, runtime versionOf) func(catalog.Provision) apiserver.ProvisionState {
	return func(p catalog.Provision) apiserver.ProvisionState {
		status := m.ProvisionStatus(provision(p, runtime))
		return apiserver.ProvisionState{Allocated: status.Allocated, Ready: status.Current >= p.Count, Failed: status.Failed}
	}
}
