package manager

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"berth/lambda"
	"berth/sleep"
)

// Limits of leaving a worker that is to stop.
const (
	// leaveLimit is how long environments are replaced before they end: what is left then just ends. It is less than the worker
	// waits for its managers (worker.Drain).
	leaveLimit = 20 * time.Second
	// leaveAtOnce is how many are being replaced at the same time: calls need the processors too.
	leaveAtOnce   = 2
	leavePause    = 50 * time.Millisecond
	replacedLimit = 10 * time.Second // for one to be ready
)

// Leave moves what this manager has on a worker that is to stop, in the background: for each environment another is made
// elsewhere, then the old one ends as soon as it is idle. So calls find warm environments all the time, and none is sent to the
// worker when it has gone. Those used last come first. What finds no room elsewhere just ends. To be told again means nothing.
func (m *Manager) Leave(id lambda.WorkerID) {
	if _, begun := m.leaving.LoadOrStore(id, struct{}{}); begun {
		return
	}
	m.spawn(func(ctx context.Context) {
		defer m.leaving.Delete(id)
		m.leave(ctx, id)
	})
}

func (m *Manager) leave(ctx context.Context, id lambda.WorkerID) {
	replaced := map[*environment]*environment{} // by which other one; nil: it could not be
	for began := time.Now(); ctx.Err() == nil; {
		late := time.Since(began) > leaveLimit
		list, left := m.on(id)
		if _, known := m.cfg.Workers.Worker(id); !known || !left {
			return
		}
		var next []*environment
		provisioned := m.provisions.busy() // one at a time: another is made when it has ended
		for _, e := range list {
			switch another, tried := replaced[e]; {
			case e.provision != nil && !late:
				if !provisioned {
					provisioned = true
					m.endIdle(ctx, e)
				}
			case late || tried && (another == nil || m.has(another)):
				m.endIdle(ctx, e)
			case len(next) < leaveAtOnce:
				next = append(next, e)
			}
		}
		m.replaceAll(ctx, next, replaced)
		if len(next) == 0 {
			sleep.For(ctx, leavePause)
		}
	}
}

// on lists the idle environments on a worker, those used last first. Those in use are idle in a moment, or live on with their
// calls.
func (m *Manager) on(id lambda.WorkerID) (list []*environment, left bool) {
	since := map[*environment]time.Time{}
	m.environments.Range(func(_, v any) bool {
		if e := v.(*environment); e.worker == id {
			left = true
			if at, idle := e.set.idleSince(e); idle {
				list, since[e] = append(list, e), at
			}
		}
		return true
	})
	slices.SortFunc(list, func(a, b *environment) int { return cmp.Or(since[b].Compare(since[a]), cmp.Compare(a.id, b.id)) })
	return list, left
}

// has reports whether an environment is still on this manager's books.
func (m *Manager) has(e *environment) bool {
	_, known := m.environments.Load(e.id)
	return known
}

// replaceAll makes one environment elsewhere for each of these, and notes which, when they are ready or could not be made.
func (m *Manager) replaceAll(ctx context.Context, list []*environment, replaced map[*environment]*environment) {
	ctx, cancel := context.WithTimeout(ctx, replacedLimit)
	defer cancel()
	made := make([]*environment, len(list))
	var replacing sync.WaitGroup
	for i, e := range list {
		replacing.Go(func() {
			if another := m.replace(ctx, e); another != nil {
				m.awaitReady(ctx, another)
				if m.has(another) {
					made[i] = another
				}
			}
		})
	}
	replacing.Wait()
	for i, e := range list {
		replaced[e] = made[i]
	}
}

// replace begins to make an environment like e on another worker; nil when there is no room, or nobody would need it.
func (m *Manager) replace(ctx context.Context, e *environment) *environment {
	req, _ := e.record.look()
	if req.Version == nil || req.Key != e.set.key || !m.cfg.Current(req.Key) {
		return nil
	}
	p := m.pool(req.Pool)
	t := p.tenure.Load()
	if t == nil || !t.settled.Load() {
		return nil
	}
	id, w, ok := m.drawWorker(req.Version, []lambda.WorkerID{e.worker})
	if !ok {
		return nil
	}
	another := m.addWarming(p, t, req, id, e.record)
	m.warm(ctx, another, req, w)
	return another
}

// awaitReady waits until e is idle, has had a call already, or is gone.
func (m *Manager) awaitReady(ctx context.Context, e *environment) {
	for {
		changed := m.room.wait() // before looking, so that no change is missed
		if !e.set.isWarming(e) || !m.waitFor(ctx, changed) {
			return
		}
	}
}
