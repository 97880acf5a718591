package members

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"berth/lambda"
)

// engine starts a server that processes of a test share.
func engine(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	return s
}

// process is one process of the cluster.
type process struct {
	*Members
	conn *nats.Conn
	free atomic.Int64
	stop func() error // in good order
	log  *lines
	dial func() error // of silent members
}

// lines keeps what was logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var boots atomic.Int64

// prepare makes a process that has not joined yet.
func prepare(t *testing.T, s *server.Server, id string, roles ...Role) *process {
	t.Helper()
	conn, err := nats.Connect("", nats.InProcessServer(s), nats.MaxReconnects(-1), nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	p := &process{conn: conn, log: &lines{}, dial: func() error { return context.DeadlineExceeded }}
	boot := fmt.Sprintf("boot-%04d", boots.Add(1))
	p.Members = New(Config{Conn: conn, Boot: boot, Log: slog.New(slog.NewTextHandler(p.log, nil)), Self: func() []Member {
		var self []Member
		for _, r := range roles {
			self = append(self, Member{ID: id, Role: r, Boot: boot, Address: "127.0.0.1:1", Quota: 10, Settled: 7, MemoryFree: p.free.Load()})
		}
		return self
	}, Dial: func(context.Context, string) error { return p.dial() }})
	return p
}

// join starts a process that must be taken.
func join(t *testing.T, s *server.Server, id string, roles ...Role) *process {
	t.Helper()
	p := prepare(t, s, id, roles...)
	p.begin(t)
	return p
}

// begin joins and runs.
func (p *process) begin(t *testing.T) {
	t.Helper()
	if err := p.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = p.stop() })
}

func (p *process) shape() string {
	v := p.View()
	var b strings.Builder
	for _, list := range [][]*Tracked{v.Frontends, v.Managers, v.Workers} {
		for _, m := range list {
			fmt.Fprintf(&b, "%s %s,", m.Role, m.ID)
		}
	}
	return b.String()
}

// patience is how long a test waits for what must come, on a machine that may be busy.
const patience = 30 * time.Second

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func TestAllSeeAll(t *testing.T) {
	t.Parallel()
	s := engine(t)
	all := []*process{join(t, s, "b", Manager), join(t, s, "a", Manager, Frontend), join(t, s, "w", Worker)}
	const want = "frontend a,manager a,manager b,worker w,"
	for _, p := range all {
		eventually(t, patience, want, func() bool { return p.shape() == want })
	}
	w, ok := all[0].View().Worker(lambda.WorkerID("w"))
	if _, unknown := all[0].View().Manager("w"); !ok || unknown || w.Address != "127.0.0.1:1" || w.Settled != 7 {
		t.Errorf("worker w is %+v, %v", w, ok)
	}
}

// TestWhoIsThereSaysSo: those who are there answer a process that joins, without waiting for their next heartbeat.
func TestWhoIsThereSaysSo(t *testing.T) {
	t.Parallel()
	s := engine(t)
	there := prepare(t, s, "a", Manager)
	if err := there.Join(t.Context()); err != nil { // nothing runs that would send heartbeats
		t.Fatal(err)
	}
	eventually(t, patience, "it hears", func() bool { return len(there.View().Managers) == 1 })
	joins := join(t, s, "b", Manager)
	eventually(t, patience, "who was there is known", func() bool { return len(joins.View().Managers) == 2 })
}

func TestWhatAWorkerSaysIsHeard(t *testing.T) {
	t.Parallel()
	s := engine(t)
	m, w := join(t, s, "m", Manager), join(t, s, "w", Worker)
	eventually(t, patience, "the worker is known", func() bool { return len(m.View().Workers) == 1 })
	known := m.View().Workers[0]
	w.free.Store(1000)
	eventually(t, patience, "its memory is known", func() bool { return known.MemoryFree() == 1000 })
	eventually(t, patience, "a promise counts", func() bool { // until its next word, which may come in between
		if known.MemoryFree() != 1000 {
			return false
		}
		known.Promise(300)
		return known.MemoryFree() == 700
	})
	eventually(t, patience, "its next word counts", func() bool { return known.MemoryFree() == 1000 })
}

func TestAStopIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	s := engine(t)
	a, b := join(t, s, "a", Manager), join(t, s, "b", Manager)
	eventually(t, patience, "both are known", func() bool { return len(a.View().Managers) == 2 })
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "b is gone", func() bool { return len(a.View().Managers) == 1 })
	if !strings.Contains(a.log.String(), `id=b why="it was stopped"`) { // its last word; no silence had to be waited for
		t.Errorf("a has logged\n%s", a.log)
	}
}

func TestSilenceIsTheEnd(t *testing.T) {
	t.Parallel()
	s := engine(t)
	a, b := join(t, s, "a", Manager), join(t, s, "b", Manager)
	eventually(t, patience, "both are known", func() bool { return len(a.View().Managers) == 2 })
	a.mu.Lock()
	heard := a.known[memberKey{Manager, "b"}].heard
	a.mu.Unlock()
	b.conn.Close() // as SIGKILL does
	eventually(t, patience, "b is gone", func() bool { return len(a.View().Managers) == 1 })
	if silent := time.Since(heard); silent <= Expiry || !strings.Contains(a.log.String(), `id=b why="it is silent"`) {
		t.Errorf("b was dropped after %v of silence at most, want more than %v; a has logged\n%s", silent, Expiry, a.log)
	}
	join(t, s, "b", Manager) // its id is free again
	eventually(t, patience, "b is back", func() bool { return len(a.View().Managers) == 2 })
}

// TestAProcessThatHasEndedIsKnownSooner: its machine refuses connections.
func TestAProcessThatHasEndedIsKnownSooner(t *testing.T) {
	t.Parallel()
	s := engine(t)
	a := prepare(t, s, "a", Manager)
	a.dial = func() error { return &net.OpError{Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)} }
	a.begin(t)
	b := join(t, s, "b", Manager)
	eventually(t, patience, "both are known", func() bool { return len(a.View().Managers) == 2 })
	b.conn.Close()
	eventually(t, patience, "b is gone", func() bool { return len(a.View().Managers) == 1 })
	if !strings.Contains(a.log.String(), `id=b why="its process has ended"`) {
		t.Errorf("a has logged\n%s", a.log)
	}
}

// TestASlowProcessHasMoreTime: its machine takes connections for it.
func TestASlowProcessHasMoreTime(t *testing.T) {
	t.Parallel()
	s := engine(t)
	a := prepare(t, s, "a", Manager)
	a.dial = func() error { return nil }
	a.begin(t)
	b := join(t, s, "b", Manager)
	eventually(t, patience, "both are known", func() bool { return len(a.View().Managers) == 2 })
	a.mu.Lock()
	heard := a.known[memberKey{Manager, "b"}].heard
	a.mu.Unlock()
	b.conn.Close()
	eventually(t, patience, "b is gone", func() bool { return len(a.View().Managers) == 1 })
	if silent := time.Since(heard); silent <= HangExpiry {
		t.Errorf("b was dropped after %v of silence at most, want more than %v", silent, HangExpiry)
	}
}

// TestWithoutAnEngineNobodyExpires: when this process does not even hear itself, silence of others says nothing.
func TestWithoutAnEngineNobodyExpires(t *testing.T) {
	t.Parallel()
	s := engine(t)
	a := join(t, s, "a", Manager)
	join(t, s, "b", Manager)
	eventually(t, patience, "both are known", func() bool { return len(a.View().Managers) == 2 })
	s.Shutdown()
	s.WaitForShutdown()
	time.Sleep(Expiry + 2*Interval)
	if got := a.shape(); got != "manager a,manager b," {
		t.Errorf("%q are left without an engine", got)
	}
}

// refusal joins, and goes on until the process is refused or ctx ends (nil). Join has a time limit for the answers of the
// others: what comes later ends Run.
func (p *process) refusal(t *testing.T, ctx context.Context) error {
	if err := p.Join(t.Context()); err != nil {
		return err
	}
	return p.Run(ctx)
}

func TestAnIDIsUsedOnce(t *testing.T) {
	t.Parallel()
	s := engine(t)
	first := join(t, s, "same", Manager, Worker)
	join(t, s, "same", Frontend) // another role: another member
	second := prepare(t, s, "same", Worker)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := second.refusal(t, ctx)
	if err == nil || !strings.Contains(err.Error(), `worker "same"`) || !strings.Contains(err.Error(), "--id") {
		t.Errorf("it was refused with %v", err)
	}
	if w, ok := first.View().Worker("same"); !ok || w.Boot != first.cfg.Boot {
		t.Error("the refused process took the first one's place")
	}
}

func TestOfTwoThatStartTogetherOneGoesOn(t *testing.T) {
	t.Parallel()
	s := engine(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	errs := make(chan error, 2)
	for range 2 {
		p := prepare(t, s, "same", Manager)
		go func() { errs <- p.refusal(t, ctx) }()
	}
	if err := <-errs; err == nil {
		t.Errorf("neither was refused within %v", patience)
	}
	cancel() // the other goes on until it is stopped
	if err := <-errs; err != nil {
		t.Errorf("the other one has ended too: %v", err)
	}
}

func TestNonsenseIsIgnored(t *testing.T) {
	s := engine(t)
	a := join(t, s, "a", Manager)
	for _, data := range []string{"", "{", `{"id":"x y","role":"manager"}`, `{"id":"","role":"manager"}`, strings.Repeat("x", maxHeartbeat+1)} {
		for _, subject := range []string{heartbeatSubject + "manager.x", askSubject + "manager.a"} {
			if err := a.conn.Publish(subject, []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	join(t, s, "b", Manager)
	eventually(t, patience, "b is known", func() bool { return len(a.View().Managers) == 2 })
	if got := a.shape(); got != "manager a,manager b," {
		t.Errorf("known are %q", got)
	}
	for _, id := range []string{"", "a.b", "a b", "*", ">", strings.Repeat("x", 65)} {
		if CheckID(id) == nil {
			t.Errorf("the id %q is taken", id)
		}
	}
}
