// Package members knows which role processes of a cluster are alive. Every process announces its roles with heartbeats on
// core messages of the engine, and listens to those of all others.
//
// A heartbeat of role R and id I goes to the subject berth.heartbeat.R.I. A member is gone when it says so (a clean stop), when
// it is silent and its address refuses connections (a killed process), or after Expiry without a heartbeat; a process that takes
// connections may be slow, and has until HangExpiry. Time counts only while this process hears its own heartbeats come back:
// when the engine is away nobody expires, since silence says nothing then.
//
// An id may be used by one living process per role: a process asks for others of its id before it announces itself.
package members

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"berth/lambda"
)

// Role is what a member does.
type Role string

// The roles that announce themselves.
const (
	Frontend Role = "frontend"
	Manager  Role = "manager"
	Worker   Role = "worker"
	Control  Role = "control"
)

// Times of the protocol.
const (
	Interval = 300 * time.Millisecond  // between two heartbeats
	Expiry   = 1700 * time.Millisecond // of a member that is not heard
	// HangExpiry is of one that is not heard either, but whose machine says that the process is there.
	HangExpiry = 6 * time.Second

	suspectAfter = 3 * Interval // of silence it is looked whether the process is there
	probeLimit   = time.Second
	// listenGap is for how long own heartbeats may be missing before it means that the engine is away.
	listenGap = time.Second

	joinWait = 300 * time.Millisecond // for those who are there to say so
)

// maxHeartbeat bounds one in bytes, and maxMembers those that are tracked.
const (
	maxHeartbeat = 64 << 10
	maxMembers   = 10_000
)

// Member is one role of one living process, as it described itself.
type Member struct {
	ID      string `json:"id"`
	Role    Role   `json:"role"`
	Boot    string `json:"boot"`              // random, per start of a process: tells two with one id apart
	Address string `json:"address,omitempty"` // host:port of its role-to-role calls; "" for processes that take none

	Draining bool `json:"draining,omitempty"` // was told to stop: gets nothing new, and leaves when what it has is done or handed over
	// Settled is, of managers, the newest ring version under which it holds nothing that is another's.
	Settled uint64 `json:"settled_ring,omitempty"` // a name of its own: heartbeat has "settled"

	Quota int `json:"quota,omitempty"` // managers: executions of one pool that one manager runs, see ring.New

	// Workers. MemoryFree may be two heartbeats old.
	MemoryFree  int64                              `json:"memory_free,omitempty"` // bytes not promised to environments
	MemoryLimit int64                              `json:"memory_limit,omitempty"`
	Runtimes    map[string]lambda.RuntimeVersionID `json:"runtimes,omitempty"`
}

func (m *Member) sameBut(o *Member) bool {
	return m.Boot == o.Boot && m.Address == o.Address && m.Quota == o.Quota && m.Draining == o.Draining && m.Settled == o.Settled && maps.Equal(m.Runtimes, o.Runtimes)
}

// heartbeat is a message of the protocol.
type heartbeat struct {
	Member
	Leaving bool `json:"leaving,omitempty"` // goodbye
	Settled bool `json:"settled,omitempty"` // has announced itself before; with answers to questions for an id
}

// Tracked is a member with what changes often.
type Tracked struct {
	Member
	free atomic.Int64
}

// MemoryFree is the worker's last word, less what this process has promised since.
func (t *Tracked) MemoryFree() int64 { return t.free.Load() }

// Promise lowers MemoryFree until the next heartbeat.
func (t *Tracked) Promise(bytes int64) { t.free.Add(-bytes) }

// View is all members of a moment, each kind sorted by id. It does not change.
type View struct {
	Frontends, Managers, Workers, Controls []*Tracked
	managers, workers                      map[string]*Tracked
	ended                                  map[string]bool // by Boot
	newer                                  chan struct{}   // closed when there is another view
}

// NewView returns the view of these members.
func NewView(all ...*Tracked) *View {
	v := &View{managers: map[string]*Tracked{}, workers: map[string]*Tracked{}, newer: make(chan struct{})}
	for _, m := range all {
		switch m.Role {
		case Frontend:
			v.Frontends = append(v.Frontends, m)
		case Manager:
			v.Managers = append(v.Managers, m)
			v.managers[m.ID] = m
		case Worker:
			v.Workers = append(v.Workers, m)
			v.workers[m.ID] = m
		case Control:
			v.Controls = append(v.Controls, m)
		}
	}
	for _, list := range [][]*Tracked{v.Frontends, v.Managers, v.Workers, v.Controls} {
		slices.SortFunc(list, func(a, b *Tracked) int { return cmp.Compare(a.ID, b.ID) })
	}
	return v
}

// Newer returns a channel that is closed when there is another view.
func (v *View) Newer() <-chan struct{} { return v.newer }

// Manager finds a living manager.
func (v *View) Manager(id lambda.ManagerID) (*Tracked, bool) {
	m, ok := v.managers[string(id)]
	return m, ok
}

// Worker finds a living worker.
func (v *View) Worker(id lambda.WorkerID) (*Tracked, bool) {
	w, ok := v.workers[string(id)]
	return w, ok
}

// Ended reports whether the process with this Boot is known to have ended, rather than being silent.
func (v *View) Ended(boot string) bool { return v.ended[boot] }

// Config of Members.
type Config struct {
	Conn *nats.Conn
	Boot string // the Boot of all of this process's roles
	// Self describes this process's roles now; their ids are the same at every call.
	Self func() []Member
	// Changed is called with every new View, one at a time, beginning with the one at Join. It must not block.
	Changed func(*View)
	// Dial tries to connect to a silent member, and closes the connection; nil is TCP. See members.Expiry.
	Dial func(ctx context.Context, address string) error
	Log  *slog.Logger
}

// Members tracks the living members.
type Members struct {
	cfg  Config
	view atomic.Pointer[View]

	mu        sync.Mutex
	known     map[memberKey]*entry
	ownHeard  time.Time // when an own heartbeat last came back
	regained  time.Time // since when they come without a break
	settled   bool
	duplicate error // another process has one of this process's ids
	failed    chan struct{}
	subs      []*nats.Subscription
	probes    sync.WaitGroup
	ended     map[string]bool // Boots of processes that are known to have ended; at most maxEnded of them
}

type memberKey struct {
	role Role
	id   string
}

type entry struct {
	*Tracked
	heard   time.Time
	probing bool
	there   time.Time // when its machine last took a connection for it
}

// New makes Members that know nobody.
func New(cfg Config) *Members {
	if cfg.Dial == nil {
		cfg.Dial = dial
	}
	m := &Members{cfg: cfg, known: map[memberKey]*entry{}, ended: map[string]bool{}, failed: make(chan struct{})}
	m.view.Store(NewView())
	return m
}

// View returns the living members.
func (m *Members) View() *View { return m.view.Load() }

// Listening is for how long heartbeats have been heard without a break: whoever was not heard for Expiry of that is silent.
// 0 when the engine is away.
func (m *Members) Listening() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.ownHeard.IsZero() || now.Sub(m.ownHeard) > listenGap {
		return 0
	}
	return now.Sub(m.regained)
}

// Announce sends a heartbeat at once, for a change that others are to know before the next one.
func (m *Members) Announce() error { return m.beat(false) }

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckID says whether an id can be used.
func CheckID(id string) error {
	if !idForm.MatchString(id) {
		return fmt.Errorf("the id %q: expected 1–64 letters, digits, - and _", id)
	}
	return nil
}

const (
	heartbeatSubject = "berth.heartbeat."
	helloSubject     = "berth.hello"   // everybody is to send a heartbeat at once
	askSubject       = "berth.member." // + ROLE.ID: whoever is it is to answer
)

// Join finds out who is there, and announces this process. It takes about 300 ms. The error says which id another living
// process has. When it returns, Run must be called.
func (m *Members) Join(ctx context.Context) error {
	subscribe := func(subject string, f nats.MsgHandler) error {
		s, err := m.cfg.Conn.Subscribe(subject, f)
		if err != nil {
			return fmt.Errorf("listening to the other processes: %w", err)
		}
		m.subs = append(m.subs, s)
		return nil
	}
	if err := subscribe(heartbeatSubject+">", m.onHeartbeat); err != nil {
		return err
	}
	if err := subscribe(helloSubject, func(*nats.Msg) { m.onHello() }); err != nil {
		return err
	}
	inbox := m.cfg.Conn.NewInbox()
	if err := subscribe(inbox, m.onAnswer); err != nil {
		return err
	}
	for _, self := range m.cfg.Self() {
		subject := askSubject + string(self.Role) + "." + self.ID
		if err := subscribe(subject, m.onQuestion); err != nil {
			return err
		}
		question, err := json.Marshal(self)
		if err != nil {
			return err
		}
		if err := m.cfg.Conn.PublishRequest(subject, inbox, question); err != nil {
			return fmt.Errorf("asking for others with the id %s: %w", self.ID, err)
		}
	}
	if err := m.cfg.Conn.Publish(helloSubject, nil); err != nil {
		return fmt.Errorf("asking who is there: %w", err)
	}
	select {
	case <-time.After(joinWait):
	case <-m.failed:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.settle(); err != nil {
		return err
	}
	return m.beat(false)
}

func (m *Members) settle() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.duplicate == nil {
		m.settled = true
		m.publish()
	}
	return m.duplicate
}

// onHello answers a process that wants to know who is there. One that has not joined itself is not there yet.
func (m *Members) onHello() {
	m.mu.Lock()
	settled := m.settled
	m.mu.Unlock()
	if settled {
		_ = m.beat(false) // lost: the next one comes soon
	}
}

// onQuestion answers a process that wants to use an id of this one's.
func (m *Members) onQuestion(msg *nats.Msg) {
	var asking Member
	if len(msg.Data) > maxHeartbeat || json.Unmarshal(msg.Data, &asking) != nil {
		return
	}
	m.mu.Lock()
	settled := m.settled
	m.mu.Unlock()
	for _, self := range m.cfg.Self() {
		if self.Role == asking.Role && self.ID == asking.ID && self.Boot != asking.Boot {
			if answer, err := json.Marshal(heartbeat{Member: self, Settled: settled}); err == nil {
				_ = msg.Respond(answer) // lost: seen in the heartbeats
			}
		}
	}
}

// onAnswer hears that an id is used. Of two that start at the same moment the one with the smaller Boot goes on.
func (m *Members) onAnswer(msg *nats.Msg) {
	var other heartbeat
	if len(msg.Data) > maxHeartbeat || json.Unmarshal(msg.Data, &other) != nil {
		return
	}
	for _, self := range m.cfg.Self() {
		if self.Role == other.Role && self.ID == other.ID && self.Boot != other.Boot && (other.Settled || other.Boot < self.Boot) {
			m.mu.Lock()
			m.refuse(&other.Member)
			m.mu.Unlock()
		}
	}
}

// refuse ends Join or Run because another process has an id of this one's; m.mu is held.
func (m *Members) refuse(other *Member) {
	if m.duplicate != nil {
		return
	}
	at := ""
	if other.Address != "" {
		at = " at " + other.Address
	}
	m.duplicate = fmt.Errorf("another living process%s is %s %q already: stop it, or choose another --id", at, other.Role, other.ID)
	close(m.failed)
}

// Run sends heartbeats and drops the members that are silent, until ctx ends; then it says goodbye. It ends with an error
// when another process turns out to have the same id.
func (m *Members) Run(ctx context.Context) error {
	probing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer m.probes.Wait()
	defer stop()
	defer func() {
		for _, s := range m.subs {
			_ = s.Unsubscribe() // fails when the connection is closed, which does the same
		}
	}()
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			err := m.beat(true)
			m.flush()
			return err
		case <-m.failed:
			return m.duplicate
		case <-tick.C:
			if err := m.beat(false); err != nil {
				m.cfg.Log.Warn("no heartbeat could be sent", "err", err)
			}
			m.expire(probing)
		}
	}
}

// flush gives the goodbye time to go out, on a busy machine too; without an engine nobody would hear it. After Expiry the
// others know by this process's silence, so a goodbye that is lost is no failure of the stop.
func (m *Members) flush() {
	if !m.cfg.Conn.IsConnected() {
		return
	}
	if err := m.cfg.Conn.FlushTimeout(Expiry); err != nil {
		m.cfg.Log.Warn("the others may not have heard that this process stops: they will notice its silence", "err", err)
	}
}

// beat announces every role of this process.
func (m *Members) beat(leaving bool) error {
	for _, self := range m.cfg.Self() {
		data, err := json.Marshal(heartbeat{Member: self, Leaving: leaving})
		if err != nil {
			return err
		}
		if len(data) > maxHeartbeat {
			return fmt.Errorf("a heartbeat of %d bytes, the limit is %d", len(data), maxHeartbeat)
		}
		if err := m.cfg.Conn.Publish(heartbeatSubject+string(self.Role)+"."+self.ID, data); err != nil {
			return fmt.Errorf("sending a heartbeat: %w", err)
		}
	}
	return nil
}

func (m *Members) onHeartbeat(msg *nats.Msg) {
	var h heartbeat
	if len(msg.Data) > maxHeartbeat || json.Unmarshal(msg.Data, &h) != nil || CheckID(h.ID) != nil {
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.Boot == m.cfg.Boot {
		if now.Sub(m.ownHeard) > listenGap {
			m.regained = now
		}
		m.ownHeard = now
	}
	key := memberKey{h.Role, h.ID}
	old := m.known[key]
	if h.Boot > m.cfg.Boot && old != nil && old.Boot == m.cfg.Boot && !h.Leaving {
		return // a second one with an own id, after a network was split: it has heard this one's, and ends
	}
	if h.Boot < m.cfg.Boot && old != nil && old.Boot == m.cfg.Boot && !h.Leaving {
		m.refuse(&h.Member)
		return
	}
	if h.Leaving {
		if old != nil && old.Boot == h.Boot {
			m.drop(key, "it was stopped")
			m.publish()
		}
		return
	}
	if old != nil && old.sameBut(&h.Member) {
		old.heard = now
		old.free.Store(h.MemoryFree)
		return
	}
	if old == nil && len(m.known) >= maxMembers {
		return
	}
	fresh := &entry{Tracked: &Tracked{Member: h.Member}, heard: now}
	fresh.free.Store(h.MemoryFree)
	m.known[key] = fresh
	m.cfg.Log.Info("a process has joined", "role", h.Role, "id", h.ID, "address", h.Address)
	m.publish()
}

// drop forgets a member; m.mu is held.
func (m *Members) drop(key memberKey, why string) {
	delete(m.known, key)
	m.cfg.Log.Info("a process has left", "role", key.role, "id", key.id, "why", why)
}

// publish makes the new view; m.mu is held, so that Changed sees them in order.
func (m *Members) publish() {
	all := make([]*Tracked, 0, len(m.known))
	for _, e := range m.known {
		all = append(all, e.Tracked)
	}
	v := NewView(all...)
	v.ended = maps.Clone(m.ended)
	close(m.view.Swap(v).newer)
	if m.cfg.Changed != nil {
		m.cfg.Changed(v)
	}
}
