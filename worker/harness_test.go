package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/code"
	"berth/lambda"
	"berth/logs"
	"berth/runtimes"
	"berth/sandbox"
	"berth/store"
)

// harness is a worker with stand-ins all around it.
type harness struct {
	*Worker
	t      testing.TB
	driver *standinDriver
	owner  *standinOwner
	sink   *standinSink
	set    standinRuntimes
	next   int
}

// newHarness starts a worker whose runtimes run main. Its end checks that nothing is left.
func newHarness(t testing.TB, main program, change ...func(*Config, *standinDriver)) *harness {
	t.Helper()
	h := &harness{
		t: t, owner: newStandinOwner(), sink: &standinSink{},
		driver: &standinDriver{program: main, boxes: map[string]*standinBox{}, usage: sandbox.Usage{MaxMemoryBytes: 41<<20 - 5}},
		set: standinRuntimes{
			"python3.11":      {Name: "python3.11", Version: "0123456789abcdef", Command: []string{"/var/lang/bin/python3"}, Frames: true},
			"provided.al2023": {Name: "provided.al2023", Version: "fedcba9876543210", Command: []string{"/var/task/bootstrap"}},
		},
	}
	cfg := Config{
		ID: "w1", Driver: h.driver, Runtimes: h.set, Code: newCache(t), Logs: h.sink,
		Owners: func(lambda.ManagerID) Owner { return h.owner }, MemoryBytes: 1 << 40, IdleFreeze: -1,
	}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	for _, c := range change {
		c(&cfg, h.driver)
	}
	var err error
	if h.Worker, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("Run did not return")
		}
		if s := h.Stats(); s.MemoryUsed != 0 || len(s.Environments) != 0 || h.driver.live() != 0 {
			t.Errorf("left behind: %+v, %d sandboxes", s, h.driver.live())
		}
		h.owner.check(t)
	})
	return h
}

// The code that functions of stand-in runtimes have, and the code without a bootstrap.
var (
	stored    = blobs{}
	withBoot  lambda.CodeDigest
	plainCode lambda.CodeDigest
	storeOnce sync.Once
)

func newCache(t testing.TB) *code.Cache {
	t.Helper()
	storeOnce.Do(func() {
		plainCode = stored.add(t, map[string]string{"h.py": "handler = 1"})
		withBoot = stored.add(t, map[string]string{"bootstrap": "#!"})
	})
	cache, err := code.NewCache(code.CacheConfig{Dir: t.TempDir(), Blobs: stored})
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

func testVersion() *lambda.Version {
	return &lambda.Version{
		Account: "000000000001", Region: "us-east-1", Function: "hello", Number: lambda.Latest, ConfigID: "c1",
		State: lambda.Active, Code: plainCode, Runtime: "python3.11", Handler: "h.handler", MemoryMB: 128,
		Timeout: 3 * time.Second, EphemeralMB: 512,
	}
}

// start asks for an environment of v and returns its reservation.
func (h *harness) start(v *lambda.Version) lambda.Reservation {
	h.t.Helper()
	h.next++
	id := lambda.EnvironmentID(fmt.Sprintf("e-%d", h.next))
	if err := h.Start(h.t.Context(), lambda.StartRequest{Environment: id, Owner: "m1", Version: v}); err != nil {
		h.t.Fatal(err)
	}
	return lambda.Reservation{Environment: id, Worker: "w1", Cold: true}
}

// giveBack is what the owner does with a reservation that was not used in time.
func (h *harness) giveBack(res lambda.Reservation) lambda.RenewAnswer {
	a, err := h.Renew(h.t.Context(), lambda.RenewRequest{Owner: "m1", Holdings: []lambda.Holding{
		{Environment: res.Environment, Reservation: res.Number, GiveBack: true},
	}})
	if err != nil {
		h.t.Error(err)
	}
	return a
}

// call invokes and wants an outcome.
func (h *harness) call(res lambda.Reservation, payload string) *lambda.Outcome {
	h.t.Helper()
	eventually(h.t, "the environment is not busy", func() bool { s, _ := h.registry.find(res.Environment).look(); return s != Running })
	out, err := h.Invoke(context.Background(), res, &lambda.Invocation{RequestID: "req-1", Payload: []byte(payload), WantLog: true})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *harness) wantOutcome(out *lambda.Outcome, class lambda.Class, payload string) {
	h.t.Helper()
	functionError := unhandled
	if class == lambda.OK {
		functionError = ""
	}
	if out.Class != class || string(out.Payload) != payload || out.FunctionError != functionError {
		h.t.Errorf("outcome %s %q %q, want %s %q", out.Class, out.FunctionError, out.Payload, class, payload)
	}
}

// patience is how long a test waits for what must come, on a machine that may be very busy.
const patience = time.Minute

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("waited in vain: " + what)
		}
	}
}

type standinRuntimes map[string]*runtimes.Runtime

func (s standinRuntimes) Find(name string) (*runtimes.Runtime, error) {
	if r := s[name]; r != nil {
		return r, nil
	}
	return nil, lambda.Errorf(lambda.InvalidRuntime, "%s is not installed", name)
}

// blobs is a store.Blobs that holds zips by digest.
type blobs map[lambda.CodeDigest][]byte

func (b blobs) Open(_ context.Context, d lambda.CodeDigest) (io.ReadCloser, error) {
	if zip := b[d]; zip != nil {
		return io.NopCloser(bytes.NewReader(zip)), nil
	}
	return nil, store.ErrNotFound
}

func (blobs) Put(context.Context, io.Reader) (lambda.CodeDigest, int64, error) { panic("not used") }
func (blobs) Delete(context.Context, lambda.CodeDigest) error                  { panic("not used") }
func (blobs) List(context.Context, func(store.BlobInfo) error) error           { panic("not used") }

// add stores a zip of files and returns its digest.
func (b blobs) add(t testing.TB, files map[string]string) lambda.CodeDigest {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	zip, err := code.Zip(dir)
	if err != nil {
		t.Fatal(err)
	}
	digest := lambda.CodeDigest(fmt.Sprintf("%x", sha256.Sum256(zip)))
	b[digest] = zip
	return digest
}

// standinOwner notes what it is told.
type standinOwner struct {
	mu   sync.Mutex
	idle map[lambda.EnvironmentID]int
	gone map[lambda.EnvironmentID]int
}

func newStandinOwner() *standinOwner {
	return &standinOwner{idle: map[lambda.EnvironmentID]int{}, gone: map[lambda.EnvironmentID]int{}}
}

func (o *standinOwner) EnvironmentIdle(id lambda.EnvironmentID, _ uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.idle[id]++
}

func (o *standinOwner) EnvironmentGone(id lambda.EnvironmentID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone[id]++
}

func (o *standinOwner) counts(id lambda.EnvironmentID) (idle, gone int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.idle[id], o.gone[id]
}

func (o *standinOwner) check(t testing.TB) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, n := range o.gone {
		if n != 1 {
			t.Errorf("the owner heard %d times that %s is gone", n, id)
		}
	}
}

// standinSink keeps log lines.
type standinSink struct {
	mu     sync.Mutex
	events []logs.Event
	quiet  bool // throws them away
}

func (s *standinSink) Append(_ lambda.AccountID, _ string, events ...logs.Event) {
	if s.quiet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, events...)
}

func (s *standinSink) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, e := range s.events {
		list = append(list, e.Message)
	}
	return list
}

func (s *standinSink) has(part string) bool {
	return slices.ContainsFunc(s.messages(), func(m string) bool { return strings.Contains(m, part) })
}
