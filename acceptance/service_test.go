package acceptance_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/apiserver"
	"berth/auth"
	"berth/catalog"
	"berth/client"
	"berth/clientfile"
	"berth/code"
	"berth/frontend"
	"berth/lambda"
	"berth/manager"
	"berth/placement"
	"berth/ring"
	"berth/store/memory"
)

const region = "us-east-1"

// service is a whole server on a real socket but for its worker, whose environments are scripted.
type service struct {
	t        *testing.T
	url      string
	client   *sdk.Client
	own      *client.Client
	catalog  *catalog.Catalog
	manager  *manager.Manager
	machine  *machine
	stop     func()
	settings serviceSettings
}

// serviceSettings is what a service begins with.
type serviceSettings struct {
	entries *memory.Catalog // those of a service before, or nil
	blobs   *memory.Blobs
}

func newService(t *testing.T, set serviceSettings) *service {
	t.Helper()
	if set.entries == nil {
		set.entries, set.blobs = memory.NewCatalog(), memory.NewBlobs()
	}
	cat := catalog.New(set.entries, region)
	s := &service{t: t, catalog: cat, settings: set, machine: &machine{live: map[lambda.EnvironmentID]*made{}, inPool: map[lambda.PoolID]int{}, most: map[lambda.PoolID]int{}}}
	r, err := ring.New(1, 1, []lambda.ManagerID{"m"})
	if err != nil {
		t.Fatal(err)
	}
	theRing := ring.Fixed(r)
	s.manager = manager.New(manager.Config{
		ID: "m", Workers: s.machine, Rings: theRing, Limit: cat.Limit, Log: slog.New(slog.DiscardHandler),
		Current:    func(lambda.EnvironmentKey) bool { return true },
		Provisions: s.provisions,
		RoomLimit:  time.Millisecond,
	})
	s.machine.owner = s.manager
	f := frontend.New(frontend.Config{
		Catalog: cat, Rings: theRing, Limit: cat.Limit,
		Manager:        func(lambda.ManagerID) (frontend.Manager, bool) { return counted{s}, true },
		Worker:         func(lambda.WorkerID) (frontend.Worker, bool) { return s.machine, true },
		RuntimeVersion: func(*lambda.Version) (lambda.RuntimeVersionID, error) { return "r1", nil },
	})
	verifier := auth.NewVerifier(auth.Config{Keys: cat, Region: region})
	api, err := apiserver.New(apiserver.Config{
		Catalog: cat, Blobs: set.blobs, Invoker: f, Preparer: s.machine, Inspect: code.Inspect, Log: slog.New(slog.DiscardHandler),
		Authenticate: func(r *http.Request, body []byte) (lambda.Caller, error) {
			who, err := verifier.Verify(r, body)
			return who.Caller, err
		},
		Provisioned: func(p catalog.Provision) apiserver.ProvisionState {
			status := s.manager.ProvisionStatus(provisionOf(p))
			return apiserver.ProvisionState{Allocated: status.Allocated, Ready: status.Current >= p.Count, Failed: status.Failed}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.run(api, f)
	return s
}

// run starts everything, and makes the clients.
func (s *service) run(api *apiserver.Server, f *frontend.Frontend) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.catalog.Run(ctx) })
	<-s.catalog.Ready()
	key, _, err := s.catalog.FirstKey(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	roles, stopRoles := context.WithCancel(context.Background())
	var inner sync.WaitGroup
	for _, run := range []func(context.Context) error{api.Run, f.Run, s.manager.Run} {
		inner.Go(func() { _ = run(roles) })
	}
	front := httptest.NewServer(api)
	s.url = front.URL
	file := clientfile.File{Endpoint: front.URL, AccessKeyID: key.ID, SecretAccessKey: key.Secret, Region: region}
	s.own = client.New(file)
	s.client = s.own.Lambda
	s.stop = sync.OnceFunc(func() {
		s.machine.finishAll()
		s.own.Close()
		front.Close()
		stopRoles()
		inner.Wait()
		cancel()
		running.Wait()
	})
	s.t.Cleanup(s.stop)
}

func (s *service) provisions() (out []manager.Provision) {
	for _, p := range s.catalog.Provisions() {
		out = append(out, provisionOf(p))
	}
	return out
}

func provisionOf(p catalog.Provision) manager.Provision {
	out := manager.Provision{ID: manager.ProvisionID{Account: p.Account, Function: p.Name, Qualifier: p.Qualifier}, Pool: p.Pool, Changed: p.Modified}
	for _, t := range p.Targets {
		v := t.Version
		out.Targets = append(out.Targets, manager.ProvisionTarget{Version: v, Count: t.Count, Key: lambda.EnvironmentKey{
			Account: v.Account, Function: v.Function, Version: v.Number, ConfigID: v.ConfigID, Runtime: "r1"}})
	}
	return out
}

// create makes a function and waits until it is Active.
func (s *service) create(name string) {
	s.t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	_, err := w.Create("h.py")
	if err := errors.Join(err, w.Close()); err != nil {
		s.t.Fatal(err)
	}
	_, err = s.client.CreateFunction(s.t.Context(), &sdk.CreateFunctionInput{
		FunctionName: &name, Role: aws.String("arn:aws:iam::000000000001:role/test"), Runtime: types.RuntimePython312,
		Handler: aws.String("h.handler"), Code: &types.FunctionCode{ZipFile: b.Bytes()},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the function is Active", func() bool {
		got, err := s.client.GetFunctionConfiguration(s.t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: &name})
		return err == nil && got.State == types.StateActive
	})
}

// publish makes a version of another configuration than any before and returns its number.
func (s *service) publish(name, description string) string {
	s.t.Helper()
	v, err := s.client.PublishVersion(s.t.Context(), &sdk.PublishVersionInput{FunctionName: &name, Description: &description})
	if err != nil {
		s.t.Fatal(err)
	}
	return *v.Version
}

func (s *service) reserve(name string, n int32) error {
	_, err := s.client.PutFunctionConcurrency(s.t.Context(), &sdk.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: &n})
	return err
}

func (s *service) invoke(name, qualifier string) (string, error) {
	in := &sdk.InvokeInput{FunctionName: &name, Payload: []byte("{}")}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	out, err := s.client.Invoke(context.Background(), in)
	if err != nil {
		return "", err
	}
	return string(out.Payload), nil
}

// hold begins n calls that run until the machine finishes them.
func (s *service) hold(n int, name, qualifier string) {
	s.t.Helper()
	before := s.machine.running()
	s.machine.block(true)
	for range n {
		go func() { _, _ = s.invoke(name, qualifier) }()
	}
	s.eventually("the calls run", func() bool { return s.machine.running() == before+n })
}

func (s *service) eventually(what string, is func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("after %v still not so: %s", patience, what)
		}
	}
}

// wantInvalid fails unless err is InvalidParameterValue with exactly this text.
func wantInvalid(t *testing.T, err error, text string) {
	t.Helper()
	var e *types.InvalidParameterValueException
	if !errors.As(err, &e) || aws.ToString(e.Message) != text {
		t.Errorf("got %v, want InvalidParameterValueException %q", err, text)
	}
}

// machine is the scripted worker.
type machine struct {
	owner *manager.Manager
	mu    sync.Mutex
	live  map[lambda.EnvironmentID]*made
	gate  chan struct{} // calls end when it is closed; nil when they do not wait
	now   int
	takes time.Duration // a call that does not wait
	fails bool          // environments made ahead fail to initialise
	made  int

	inPool map[lambda.PoolID]int // granted and not idle again
	most   map[lambda.PoolID]int
}

type made struct {
	key   lambda.EnvironmentKey
	ahead bool
	pool  lambda.PoolID
	held  bool // granted by admission of the pool

	number uint64 // of the last reservation that was used or given back
}

// counted is the manager as the frontend sees it, with the grants of each pool counted.
type counted struct{ s *service }

func (c counted) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	a, err := c.s.manager.Acquire(ctx, req)
	if err == nil && a.Verdict == lambda.Granted {
		m := c.s.machine
		m.mu.Lock()
		defer m.mu.Unlock()
		if e := m.live[a.Reservation.Environment]; e != nil && !e.ahead {
			e.pool, e.held = req.Pool, true
			m.inPool[req.Pool]++
			m.most[req.Pool] = max(m.most[req.Pool], m.inPool[req.Pool])
		}
	}
	return a, err
}

func (m *machine) Candidates(*lambda.Version) []placement.Worker {
	return []placement.Worker{{ID: "w", FreeBytes: 1 << 50}}
}

func (m *machine) All() []lambda.WorkerID { return nil }

func (m *machine) Adopt(context.Context, lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	return lambda.AdoptAnswer{}, nil
}

func (m *machine) Worker(lambda.WorkerID) (manager.Worker, bool) { return m, true }

func (m *machine) Prepare(context.Context, *lambda.Version) error { return nil }

func (m *machine) Start(_ context.Context, req lambda.StartRequest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made++
	m.live[req.Environment] = &made{key: req.Key, ahead: req.Ahead}
	if req.Ahead {
		fails := m.fails
		go func() {
			if fails {
				m.end(req.Environment)
			} else {
				m.owner.EnvironmentIdle(req.Environment, 0)
			}
		}()
	}
	return nil
}

func (m *machine) Renew(_ context.Context, req lambda.RenewRequest) (answer lambda.RenewAnswer, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range req.Holdings {
		switch e := m.live[h.Environment]; {
		case e == nil:
			answer.Gone = append(answer.Gone, h.Environment)
		case h.GiveBack && e.number < h.Reservation:
			e.number = h.Reservation
			m.free(e)
			answer.Idle = append(answer.Idle, h.Environment)
		}
	}
	return answer, nil
}

func (m *machine) End(_ context.Context, id lambda.EnvironmentID) error {
	m.end(id)
	return nil
}

func (m *machine) end(id lambda.EnvironmentID) {
	m.mu.Lock()
	m.free(m.live[id])
	delete(m.live, id)
	m.mu.Unlock()
	m.owner.EnvironmentGone(id)
}

// free takes an environment's call off its pool. m.mu is held.
func (m *machine) free(e *made) {
	if e != nil && e.held {
		e.held = false
		m.inPool[e.pool]--
	}
}

func (m *machine) Invoke(_ context.Context, r lambda.Reservation, _ *lambda.Invocation) (*lambda.Outcome, error) {
	m.mu.Lock()
	e, gate, takes := m.live[r.Environment], m.gate, m.takes
	if e == nil {
		m.mu.Unlock()
		return nil, lambda.ErrUnknownEnvironment
	}
	e.number = r.Number
	m.now++
	m.mu.Unlock()
	if gate != nil {
		<-gate
	} else {
		time.Sleep(takes)
	}
	kind := `"on-demand ` + e.key.Version + `"`
	if e.ahead {
		kind = strings.Replace(kind, "on-demand", "ahead", 1)
	}
	m.mu.Lock()
	m.now--
	m.free(e)
	m.mu.Unlock()
	m.owner.EnvironmentIdle(r.Environment, r.Number)
	return &lambda.Outcome{Payload: []byte(kind), Version: e.key.Version, Class: lambda.OK}, nil
}

// block makes calls from now on wait until finishAll.
func (m *machine) block(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if on && m.gate == nil {
		m.gate = make(chan struct{})
	}
}

// pass makes calls from now on not wait; those that wait go on waiting until the returned function is called.
func (m *machine) pass() (finish func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gate := m.gate
	m.gate = nil
	return sync.OnceFunc(func() { close(gate) })
}

func (m *machine) finishAll() {
	m.mu.Lock()
	if m.gate != nil {
		close(m.gate)
		m.gate = nil
	}
	m.mu.Unlock()
}

func (m *machine) running() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// ahead returns the environments made ahead of one version.
func (m *machine) ahead(version string) (ids []lambda.EnvironmentID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, e := range m.live {
		if e.ahead && e.key.Version == version {
			ids = append(ids, id)
		}
	}
	return ids
}
