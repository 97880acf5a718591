package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"berth/admin"
	"berth/lambda"
	"berth/manager"
	"berth/members"
	"berth/worker"
)

// statusSubject is where processes are asked for admin.Status, on core messages of the engine.
const statusSubject = "berth.status"

const (
	statusLimit     = time.Second // for the answers
	maxStatusAnswer = 512 << 10   // bytes
	maxStatusPools  = 2000        // of one manager, the busiest
)

// statusAnswer is what one process says of itself.
type statusAnswer struct {
	Boot    string          `json:"boot"`
	Elected bool            `json:"elected,omitempty"`
	Manager *manager.Status `json:"manager,omitempty"`
	Worker  *admin.Worker   `json:"worker,omitempty"`
}

// serveStatus answers whoever asks for the cluster's status. The subscription ends with the connection.
func (c *cluster) serveStatus(conn *nats.Conn) error {
	c.conn = conn
	_, err := conn.Subscribe(statusSubject, func(m *nats.Msg) {
		if data, err := json.Marshal(c.ownStatus()); err == nil && len(data) <= maxStatusAnswer {
			_ = m.Respond(data) // who gets no answer shows this process as silent
		}
	})
	if err != nil {
		return fmt.Errorf("listening to questions for the status: %w", err)
	}
	return nil
}

func (c *cluster) ownStatus() statusAnswer {
	a := statusAnswer{Boot: c.boot, Elected: c.control != nil && c.control.Elected()}
	if c.manager != nil {
		s := busiest(c.manager.Status())
		a.Manager = &s
	}
	if c.worker != nil {
		a.Worker = workerStatus(c.worker.Stats())
	}
	return a
}

func busiest(s manager.Status) manager.Status {
	slices.SortFunc(s.Pools, func(a, b manager.PoolStatus) int { return cmp.Compare(b.Running, a.Running) })
	s.Pools = s.Pools[:min(len(s.Pools), maxStatusPools)]
	return s
}

func workerStatus(s worker.Stats) *admin.Worker {
	w := &admin.Worker{
		Environments: map[string]int{}, Frozen: s.Frozen, MemoryUsed: s.MemoryUsed, MemoryLimit: s.MemoryLimit,
		Invocations: s.Invocations, ColdStarts: s.ColdStarts,
	}
	for state, n := range s.Environments {
		w.Environments[string(state)] = n
	}
	return w
}

// status asks all living processes.
func (c *cluster) status(ctx context.Context) (admin.Status, error) {
	processes := processesOf(c.members.View())
	answers, err := c.askStatus(ctx, len(processes))
	if err != nil {
		return admin.Status{}, err
	}
	s := admin.Status{Ring: emptyRing()}
	if v := c.catalog.RingVersion(); v != nil {
		s.Ring = ringOf(v)
	}
	history, _ := c.catalog.Rings()
	s.Earlier = len(history.Earlier)
	s.Silent = fill(processes, answers)
	for _, boot := range slices.Sorted(maps.Keys(processes)) {
		s.Processes = append(s.Processes, *processes[boot])
	}
	slices.SortFunc(s.Processes, func(a, b admin.Process) int {
		return cmp.Or(cmp.Compare(a.Roles[0], b.Roles[0]), cmp.Compare(a.ID, b.ID))
	})
	s.Pools = poolsOf(answers, processes, c.catalog.Limit)
	return s, nil
}

// fill adds what the processes said of themselves, and counts those that did not.
func fill(processes map[string]*admin.Process, answers map[string]statusAnswer) (silent int) {
	for boot, p := range processes {
		a, answered := answers[boot]
		if !answered {
			silent++
			continue
		}
		p.Elected, p.Worker = a.Elected, a.Worker
		if a.Manager != nil {
			p.Manager = managerStatus(*a.Manager)
		}
	}
	return silent
}

func managerStatus(s manager.Status) *admin.Manager {
	m := &admin.Manager{Environments: s.Environments, Idle: s.Idle}
	for _, p := range s.Pools {
		m.Running += p.Running
	}
	return m
}

// askStatus collects the answers of so many processes, or of those that answer in time.
func (c *cluster) askStatus(ctx context.Context, expected int) (map[string]statusAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	inbox, err := c.conn.SubscribeSync(c.conn.NewInbox())
	if err != nil {
		return nil, fmt.Errorf("asking the processes: %w", err)
	}
	defer func() { _ = inbox.Unsubscribe() }() // it fails when the connection is closed, which does the same
	if err := c.conn.PublishRequest(statusSubject, inbox.Subject, nil); err != nil {
		return nil, fmt.Errorf("asking the processes: %w", err)
	}
	answers := map[string]statusAnswer{}
	for len(answers) < expected {
		m, err := inbox.NextMsgWithContext(ctx)
		if err != nil {
			break
		}
		var a statusAnswer
		if len(m.Data) <= maxStatusAnswer && json.Unmarshal(m.Data, &a) == nil {
			answers[a.Boot] = a
		}
	}
	return answers, nil
}

// processesOf joins the roles of each process.
func processesOf(v *members.View) map[string]*admin.Process {
	out := map[string]*admin.Process{}
	for _, list := range [][]*members.Tracked{v.Frontends, v.Managers, v.Workers, v.Controls} {
		for _, m := range list {
			p := out[m.Boot]
			if p == nil {
				p = &admin.Process{ID: m.ID, Draining: m.Draining}
				out[m.Boot] = p
			}
			p.Roles = append(p.Roles, string(m.Role))
			p.Address = cmp.Or(p.Address, m.Address)
		}
	}
	return out
}

// poolsOf sums what the managers run of each pool.
func poolsOf(answers map[string]statusAnswer, processes map[string]*admin.Process, limit func(lambda.PoolID) int) []admin.Pool {
	pools := map[lambda.PoolID]*admin.Pool{}
	for boot, a := range answers {
		process := processes[boot]
		if a.Manager == nil || process == nil {
			continue
		}
		for _, load := range a.Manager.Pools {
			p := pools[load.Pool]
			if p == nil {
				p = &admin.Pool{Account: string(load.Pool.Account), Function: load.Pool.Function, Limit: limit(load.Pool), Managers: map[string]int{}}
				pools[load.Pool] = p
			}
			p.Running += load.Running
			p.Managers[process.ID] += load.Running
		}
	}
	out := make([]admin.Pool, 0, len(pools))
	for _, p := range pools {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b admin.Pool) int {
		return cmp.Or(cmp.Compare(b.Running, a.Running), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Function, b.Function))
	})
	return out[:min(len(out), admin.MaxPools)]
}
