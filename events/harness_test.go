package events

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/catalog"
	"berth/destinations"
	"berth/lambda"
	"berth/store"
	"berth/store/memory"
)

const (
	account = lambda.AccountID("000000000001")
	region  = "us-east-1"
)

// world is a poller with its catalog and queue in memory, in virtual time. The function and the targets are the test's own.
type world struct {
	t       *testing.T
	catalog *catalog.Catalog
	queue   *memory.Queue
	records store.Catalog
	poller  *Poller
	inbox   *Inbox
	began   time.Time

	mu     sync.Mutex
	ran    []run
	sent   []told
	invoke func(run) (*lambda.Outcome, error)
	send   func(destinations.Target) error
}

// run is one invocation as the function saw it.
type run struct {
	at            time.Duration // since the world's start
	function      string
	id            string
	payload       string
	trace, tenant string
}

// told is one message as a target got it.
type told struct {
	at     time.Duration
	target string
	destinations.Message
}

// in runs a test in virtual time.
func in(t *testing.T, test func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		records := memory.NewCatalog()
		w := &world{t: t, queue: memory.NewQueue(), records: records, catalog: catalog.New(records, region)}
		w.inbox = NewInbox(w.queue)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		all.Go(func() { _ = w.catalog.Run(ctx) })
		<-w.catalog.Ready()
		if _, _, err := w.catalog.FirstKey(ctx); err != nil {
			t.Fatal(err)
		}
		w.began = time.Now()
		w.poller = w.newPoller(w.began)
		running, stop := context.WithCancel(ctx)
		defer stop()
		all.Go(func() { _ = w.poller.Run(running) })
		test(t, w)
	})
}

func (w *world) newPoller(began time.Time) *Poller {
	return New(Config{Queue: w.queue, Catalog: w.catalog, Log: slog.New(slog.DiscardHandler),
		Invoker: invoker(func(_ context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error) {
			r := run{time.Since(began), ref.Function, in.RequestID, string(in.Payload), in.TraceID, in.Tenant}
			w.mu.Lock()
			w.ran = append(w.ran, r)
			f := w.invoke
			w.mu.Unlock()
			if f == nil {
				return &lambda.Outcome{Payload: []byte(`"done"`), Version: lambda.Latest}, nil
			}
			return f(r)
		}),
		Targets: sender(func(_ context.Context, t destinations.Target, m destinations.Message) error {
			w.mu.Lock()
			f := w.send
			w.mu.Unlock()
			if f != nil {
				if err := f(t); err != nil {
					return err
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.sent = append(w.sent, told{time.Since(began), t.ARN, m})
			return nil
		}),
	})
}

type invoker func(context.Context, lambda.Ref, *lambda.Invocation) (*lambda.Outcome, error)

func (f invoker) Invoke(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error) {
	return f(ctx, ref, in)
}

type sender func(context.Context, destinations.Target, destinations.Message) error

func (f sender) Send(ctx context.Context, t destinations.Target, m destinations.Message) error {
	return f(ctx, t, m)
}

// function makes a function that is Active.
func (w *world) function(name string, more func(*catalog.Version)) {
	w.t.Helper()
	v := catalog.Version{Version: lambda.Version{Account: account, Function: name, Runtime: "python3.11", MemoryMB: 128}}
	if more != nil {
		more(&v)
	}
	f, _, err := w.catalog.Create(w.t.Context(), v, nil, false)
	if err != nil {
		w.t.Fatal(err)
	}
	work := catalog.Work{ID: f.ID(), Number: lambda.Latest}
	if err := w.catalog.Finish(w.t.Context(), work, f.Latest.ConfigID, nil); err != nil {
		w.t.Fatal(err)
	}
}

// config sets what happens to a function's events.
func (w *world) config(name string, c catalog.EventConfig) {
	w.t.Helper()
	if _, err := w.catalog.PutEventConfig(w.t.Context(), catalog.ID{Account: account, Name: name}, c); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) accept(name, id, payload string) {
	w.t.Helper()
	w.acceptOf("blue", name, id, payload)
}

func (w *world) acceptOf(tenant, name, id, payload string) {
	w.t.Helper()
	ref := lambda.Ref{Account: account, Region: region, Function: name}
	err := w.inbox.Accept(w.t.Context(), ref, &lambda.Invocation{RequestID: id, Payload: []byte(payload), TraceID: "Root=1-0-0", Tenant: tenant})
	if err != nil {
		w.t.Fatal(err)
	}
}

// settle lets virtual time pass.
func (w *world) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) runs() []run {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]run(nil), w.ran...)
}

func (w *world) tellings() []told {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]told(nil), w.sent...)
}

func (w *world) set(invoke func(run) (*lambda.Outcome, error), send func(destinations.Target) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.invoke, w.send = invoke, send
}

// empty checks that nothing of a function is left in the queue.
func (w *world) empty(name string) {
	w.t.Helper()
	synctest.Wait()
	for _, lane := range Lanes(catalog.ID{Account: account, Name: name}) {
		if d, err := w.queue.Depth(w.t.Context(), lane); err != nil || d.Held != 0 {
			w.t.Errorf("the queue holds %+v of %s (%v)", d, lane, err)
		}
	}
}

func failing(run) (*lambda.Outcome, error) {
	return &lambda.Outcome{Payload: []byte(`{"errorMessage":"on purpose","errorType":"E"}`), FunctionError: "Unhandled", Version: lambda.Latest}, nil
}

func throttling(run) (*lambda.Outcome, error) {
	return nil, &lambda.Error{Code: lambda.TooManyRequests, Message: "Rate Exceeded."}
}

var errAway = errors.New("away")

func unreachable(destinations.Target) error { return errAway }

// near compares times of the virtual clock, where waits have their jitter and a poller its pauses.
func near(got, want, by time.Duration) bool { return got >= want-by && got <= want+by }

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}
