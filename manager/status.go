package manager

import "berth/lambda"

// PoolStatus is this manager's share of a pool, for people to look at.
type PoolStatus struct {
	Pool    lambda.PoolID `json:"pool"`
	Running int           `json:"running"` // reserved or running
}

// Status describes a manager at one moment.
type Status struct {
	Pools        []PoolStatus `json:"pools,omitempty"` // those in which something runs
	Environments int          `json:"environments"`    // in any state
	Idle         int          `json:"idle"`            // of these, waiting for a call
}

// Status counts. It visits every pool and environment.
func (m *Manager) Status() Status {
	var s Status
	m.pools.Range(func(_, v any) bool {
		p := v.(*pool)
		if n := int(p.admitted.Load()); n > 0 {
			s.Pools = append(s.Pools, PoolStatus{Pool: p.id, Running: n})
		}
		return true
	})
	m.environments.Range(func(_, v any) bool {
		e := v.(*environment)
		s.Environments++
		e.set.mu.Lock()
		if e.state == idle {
			s.Idle++
		}
		e.set.mu.Unlock()
		return true
	})
	return s
}
