package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
)

// scripts are sequences of what owners and frontends ask of a worker about one environment. The worker of the simulation and the
// real one must give the same answers, and tell the owner the same. See step for the words.
var scripts = map[string]string{
	"a call, and the next":                "start, invoke 1, ready, finish, invoke 2, finish",
	"a call after the start":              "start, ready, invoke 1, finish",
	"given back while it starts":          "start, back 1, ready, invoke 1, invoke 2, finish",
	"given back when it is ready":         "start, ready, back 1, back 1, invoke 1, invoke 2, finish",
	"given back while its call waits":     "start, invoke 1, back 1, ready, back 1, finish",
	"given back while its call runs":      "start, ready, invoke 1, back 1, finish",
	"given back when idle":                "start, ready, invoke 1, finish, back 1, back 2, invoke 2, invoke 3, finish",
	"given back by a frontend":            "start, ready, strangerback 1, renew 1, invoke 2, finish",
	"given back without a number":         "start, ready, back 0, invoke 1, finish",
	"renewed in every state":              "start, renew 1, ready, renew 1, invoke 1, renew 1, finish, renew 0, renew 1, renew 2",
	"renewed by a stranger":               "start, ready, strangerrenew 1, invoke 1, finish, strangerrenew 1",
	"ended while it starts":               "start, end, gone, renew 1, back 1, invoke 1, end",
	"ended while its call waits":          "start, invoke 1, end, ready, finish, gone",
	"ended when it is ready":              "start, ready, end, gone, invoke 1",
	"ended while its call runs":           "start, ready, invoke 1, end, renew 1, back 1, invoke 2, finish, gone, renew 1",
	"ended when idle":                     "start, ready, invoke 1, finish, end, gone, end, start",
	"started twice":                       "start, start, ready, start, invoke 1, finish, start",
	"late and doubled calls":              "start, ready, invoke 1, invoke 1, finish, invoke 1, invoke 3, invoke 2, finish, invoke 1, invoke 2",
	"a second call while the first waits": "start, invoke 1, invoke 1, invoke 2, ready, finish",
	"without numbers":                     "start, ready, invoke 0, finish, invoke 0, finish",
	"made ahead":                          "startahead, renew 0, ready, renew 0, invoke 1, finish, renew 1",
	"made ahead and called too early":     "startahead, invoke 1, ready, invoke 1, finish",
	"made ahead and ended":                "startahead, end, gone, startahead",
	"made ahead and given back":           "startahead, back 1, ready, invoke 1, invoke 2, finish",
	"its sandbox cannot be made":          "startbroken, gone, invoke 1, renew 1, start",
	"its sandbox cannot be made, called":  "startbroken, invoke 1, gone, invoke 1",
	"expired":                             "start, ready, late 1, invoke 1, finish, late 2, late 1",
	"unbound until its first call":        "startunbound, ready, invoke 1, invoke 1 blue, finish, invoke 2 green, invoke 2 blue, finish, invoke 3, invoke 3 *",
	"bound while it starts":               "startunbound, invoke 1 green, ready, finish, invoke 2 blue, invoke 2 green, finish",
	"no tenants":                          "start, ready, invoke 1 blue, invoke 1, finish",
	"no room":                             "start, full, ready, invoke 1, finish, end, gone, full",
}

// machine is a worker under test, with one environment and its owner "m1".
type machine interface {
	request(broken bool) // before a start
	Start(ctx context.Context, req lambda.StartRequest) error
	Renew(ctx context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error)
	End(ctx context.Context, id lambda.EnvironmentID) error
	Invoke(ctx context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error)
	ready()                       // lets the environment become initialised
	asks()                        // before a call
	finish()                      // lets the call end that runs
	settle(done func() bool) bool // waits until everything has happened that is under way, or until done
	notices() []string            // what the owner has heard
	// taken waits until a call has been taken, or refused, as the model says: looked has a word when the call has looked at its
	// context.
	taken(looked <-chan struct{}, refused func() bool, expected bool) bool
}

// player plays a script.
type player struct {
	machine
	calls    chan string // how calls that ran have ended
	log      []string
	expected string // what the model has logged of this step
}

const parityEnvironment = "e-1"

func play(m machine, script string, expected []string) []string {
	p := &player{machine: m, calls: make(chan string, 10)}
	for i, step := range strings.Split(script, ", ") {
		if expected != nil {
			p.expected = expected[i]
		}
		answer := p.step(step)
		done := func() bool { return true }
		if expected != nil { // wait for as many words as the model has heard by now
			done = func() bool { return strings.HasSuffix(p.expected, fmt.Sprint(p.notices())) }
		}
		settled := p.settle(done)
		p.log = append(p.log, fmt.Sprintf("%s: %s %v", step, answer, p.notices()))
		if !settled || expected != nil && p.log[i] != p.expected {
			break // the rest would wait for what does not come
		}
	}
	return p.log
}

func (p *player) step(step string) string {
	word, rest, _ := strings.Cut(step, " ")
	var n uint64
	var tenant string
	fmt.Sscan(rest, &n, &tenant)
	ctx := context.Background()
	v := &lambda.Version{Account: account, Function: "f0", Number: lambda.Latest, ConfigID: "c1", State: lambda.Active, MemoryMB: 128, Timeout: time.Minute}
	req := lambda.StartRequest{Environment: parityEnvironment, Owner: "m1", Version: v,
		Key: lambda.EnvironmentKey{Account: account, Function: "f0", Version: lambda.Latest, ConfigID: "c1"}}
	owner := lambda.ManagerID("m1")
	if strings.HasPrefix(word, "stranger") {
		owner, word = "", strings.TrimPrefix(word, "stranger")
	}
	switch word {
	case "start", "startahead", "startbroken", "startunbound", "full":
		p.request(word == "startbroken")
		if word == "startunbound" {
			v.PerTenant, req.Key.Tenant = true, lambda.Unbound
		}
		if req.Ahead = word == "startahead"; word == "full" {
			req.Environment, v.MemoryMB = "e-2", 1024 // more than there is
		}
		return answerOf(p.Start(ctx, req))
	case "renew", "back":
		a, err := p.Renew(ctx, lambda.RenewRequest{Owner: owner, Holdings: []lambda.Holding{{Environment: parityEnvironment, Reservation: n, GiveBack: word == "back"}}})
		return fmt.Sprint(answerOf(err), " idle ", a.Idle, " gone ", a.Gone)
	case "end":
		return answerOf(p.End(ctx, parityEnvironment))
	case "invoke", "late":
		expires := time.Now().Add(time.Hour)
		if word == "late" {
			expires = time.Now().Add(-time.Second)
		}
		return p.invoke(lambda.Reservation{Environment: parityEnvironment, Number: n, Expires: expires}, tenant)
	case "finish":
		p.machine.finish()
		select {
		case how := <-p.calls:
			return how
		case <-time.After(patience):
			return "no call has ended"
		}
	case "ready":
		p.machine.ready()
		return ""
	case "gone":
		return ""
	}
	panic("no such step: " + step)
}

// invoke begins a call. Its answer is that of the worker if it is refused, else it comes with the next "finish".
func (p *player) invoke(r lambda.Reservation, tenant string) string {
	refused := make(chan string, 1)
	ctx := &watched{Context: context.Background(), looked: make(chan struct{}, 1)}
	p.asks()
	go func() {
		out, err := p.Invoke(ctx, r, &lambda.Invocation{RequestID: fmt.Sprint("r", r.Number), Tenant: tenant, Payload: []byte(`1`)})
		switch {
		case err == nil && out.Class == lambda.OK:
			p.calls <- "ok"
		case err == nil:
			p.calls <- string(out.Class)
		default:
			refused <- answerOf(err)
		}
	}()
	if p.taken(ctx.looked, func() bool { return len(refused) > 0 }, strings.Contains(p.expected, ": taken ")) {
		return "taken"
	}
	return <-refused
}

// watched is a context that says when it is looked at.
type watched struct {
	context.Context
	looked chan struct{}
}

func (w *watched) Err() error {
	select {
	case w.looked <- struct{}{}:
	default:
	}
	return w.Context.Err()
}

func answerOf(err error) string {
	var e *lambda.Error
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, lambda.ErrNoCapacity):
		return "no capacity"
	case errors.Is(err, lambda.ErrUnknownEnvironment):
		return "unknown"
	case errors.As(err, &e):
		return string(e.Code)
	}
	return "refused"
}

// heard notes what an owner is told.
type heard struct {
	Manager
	mu    sync.Mutex
	words []string
}

func (h *heard) EnvironmentIdle(_ lambda.EnvironmentID, n uint64) { h.note(fmt.Sprint("idle ", n)) }
func (h *heard) EnvironmentGone(lambda.EnvironmentID)             { h.note("gone") }

func (h *heard) note(word string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.words = append(h.words, word)
}

func (h *heard) notices() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.words)
}

// model is the worker of the simulation. Starts take a second, calls three.
type model struct {
	*worker
	*heard
	maker *process
}

func newModel() *model {
	c := &Cluster{net: newNetwork(1), history: newHistory(), wishes: &wishes{}, managers: map[lambda.ManagerID]*site[Manager]{}}
	c.check = newChecker(c)
	c.names.managers, c.shape.managers, c.shape.quota = []lambda.ManagerID{"m1"}, 1, 100
	c.rings = c.newRings()
	c.shape.limits = map[lambda.PoolID]int{{}: 100}
	c.shape.startTime = time.Hour // cut short to longestStart/5
	c.ctx, c.stop = context.WithCancel(context.Background())
	m := &model{heard: &heard{}, maker: &process{name: "m1", ctx: c.ctx}}
	c.managers["m1"] = &site[Manager]{name: "m1", now: m.maker, role: m.heard}
	m.worker = newWorker(c, &process{name: "w1", ctx: c.ctx}, 128<<20)
	for i := range 10 {
		c.durations.Store(fmt.Sprint("r", i), 3*time.Second)
	}
	return m
}

func (m *model) request(broken bool) {
	m.c.net.change(func() {
		m.c.failures = 0
		if broken {
			m.c.failures = 1
		}
	})
}

func (m *model) Start(_ context.Context, req lambda.StartRequest) error {
	err := m.start(req, m.maker)
	if m.c.startFailure() > 0 {
		time.Sleep(longestStart) // the real one fails at once
	}
	return err
}

func (m *model) Renew(_ context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error) {
	return m.renew(req, m.maker), nil
}

func (m *model) ready()  { time.Sleep(1100 * time.Millisecond) }
func (m *model) finish() { time.Sleep(3100 * time.Millisecond) }
func (m *model) asks()   {}
func (m *model) taken(_ <-chan struct{}, refused func() bool, _ bool) bool {
	time.Sleep(10 * time.Millisecond)
	return !refused()
}

func (m *model) settle(func() bool) bool { time.Sleep(10 * time.Millisecond); return true }

func TestTheSimulatedWorkerIsLikeTheRealOne(t *testing.T) {
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			var want []string
			synctest.Test(t, func(*testing.T) {
				m := newModel()
				want = play(m, script, nil)
				time.Sleep(time.Minute) // whatever goes on ends
				m.c.stop()
			})
			got := play(newReal(t), script, want)
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("step %d\nsimulated %s\nreal      %s\nall       %v", i, want[i], got[i], got)
				}
			}
		})
	}
}
