package wire

import (
	"context"
	"net/http/httptest"
	"sync"
	"testing"

	"berth/lambda"
)

const token = "a-token-for-tests"

// double plays both roles: it notes what it is asked and answers what the test says.
type double struct {
	mu      sync.Mutex
	asked   []any
	notices []Notice

	answer  lambda.Answer
	outcome *lambda.Outcome
	renewed lambda.RenewAnswer
	handed  lambda.HandOverAnswer
	adopted lambda.AdoptAnswer
	err     error
	hold    chan struct{} // when not nil, calls wait until it is closed, or their context ends

	holdNotices chan struct{} // when not nil, a notice that was heard is not acknowledged until it is closed
}

func (d *double) note(ctx context.Context, request any) error {
	d.mu.Lock()
	d.asked = append(d.asked, request)
	d.mu.Unlock()
	if d.hold != nil {
		select {
		case <-d.hold:
		case <-ctx.Done():
		}
	}
	return d.err
}

func (d *double) requests() []any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]any(nil), d.asked...)
}

func (d *double) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	return d.answer, d.note(ctx, req)
}

func (d *double) HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error) {
	return d.handed, d.note(ctx, req)
}

func (d *double) Offer(ctx context.Context, req lambda.OfferRequest) error { return d.note(ctx, req) }

func (d *double) Adopt(ctx context.Context, req lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	return d.adopted, d.note(ctx, req)
}

func (d *double) EnvironmentIdle(id lambda.EnvironmentID, n uint64) {
	d.heard(Notice{Environment: id, Reservation: n})
}

func (d *double) EnvironmentGone(id lambda.EnvironmentID) {
	d.heard(Notice{Environment: id, Gone: true})
}

func (d *double) heard(n Notice) {
	d.mu.Lock()
	d.notices = append(d.notices, n)
	d.mu.Unlock()
	if d.holdNotices != nil {
		<-d.holdNotices
	}
}

func (d *double) allHeard() []Notice {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Notice(nil), d.notices...)
}

func (d *double) Start(ctx context.Context, req lambda.StartRequest) error { return d.note(ctx, req) }
func (d *double) End(ctx context.Context, id lambda.EnvironmentID) error   { return d.note(ctx, id) }
func (d *double) Prepare(ctx context.Context, v *lambda.Version) error     { return d.note(ctx, *v) }

func (d *double) Renew(ctx context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error) {
	return d.renewed, d.note(ctx, req)
}

func (d *double) Invoke(ctx context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	if err := d.note(ctx, invoked{r, *inv}); err != nil {
		return nil, err
	}
	return d.outcome, nil
}

type invoked struct {
	Reservation lambda.Reservation
	Invocation  lambda.Invocation
}

// serve returns clients of both of d's roles, over a socket.
func serve(t testing.TB, d *double) (*Manager, *Worker, *roleServer) {
	t.Helper()
	s := listen(t, d, d)
	c := NewClient(token, nil)
	t.Cleanup(c.Close)
	return NewManager(c, s.addr), NewWorker(c, s.addr), s
}

// inMemory is serve without sockets, for bubbles of virtual time: no time limit runs out because the machine is slow.
func inMemory(t testing.TB, d *double) (*Manager, *Worker) {
	t.Helper()
	c := newPipes().serve(t, d)
	return NewManager(c, "pipe:1"), NewWorker(c, "pipe:1")
}

// roleServer is a server of roles on a socket.
type roleServer struct {
	*Server
	addr string
	stop func() // in good order
}

func listen(t testing.TB, m ManagerRole, w WorkerRole) *roleServer {
	t.Helper()
	s := &roleServer{Server: NewHandler(token, m, w)}
	s.stop = running(t, s.Server.Run)
	front := httptest.NewServer(s.Server)
	t.Cleanup(front.Close)
	s.addr = front.Listener.Addr().String()
	return s
}

// running runs what runs until it is stopped, at the end of the test at the latest.
func running(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// cut closes all connections at once, as a crash does.
func (s *roleServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.conn.Close()
	}
}

// silent is a double that keeps nothing, for benchmarks.
type silent struct {
	double
	answer  lambda.Answer
	outcome *lambda.Outcome
}

func (s *silent) Acquire(context.Context, lambda.AcquireRequest) (lambda.Answer, error) {
	return s.answer, nil
}

func (s *silent) Invoke(context.Context, lambda.Reservation, *lambda.Invocation) (*lambda.Outcome, error) {
	return s.outcome, nil
}

func (s *silent) serve(b *testing.B) (*Manager, *Worker) {
	c := NewClient(token, nil)
	b.Cleanup(c.Close)
	addr := listen(b, s, s).addr
	return NewManager(c, addr), NewWorker(c, addr)
}
