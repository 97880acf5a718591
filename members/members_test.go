package members

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
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
	if !s.ReadyForConnections(10 * time.Second) {
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
}

var boots atomic.Int64

// prepare makes a process that has not joined yet.
func prepare(t *testing.T, s *server.Server, id string, roles ...Role) *process {
	t.Helper()
	conn, err := nats.Connect("", nats.InProcessServer(s), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	p := &process{conn: conn}
	boot := fmt.Sprintf("boot-%04d", boots.Add(1))
	p.Members = New(Config{Conn: conn, Boot: boot, Log: slog.New(slog.DiscardHandler), Self: func() []Member {
		var self []Member
		for _, r := range roles {
			self = append(self, Member{ID: id, Role: r, Boot: boot, Address: "127.0.0.1:1", Quota: 10, MemoryFree: p.free.Load()})
		}
		return self
	}})
	return p
}

// join starts a process that must be taken.
func join(t *testing.T, s *server.Server, id string, roles ...Role) *process {
	t.Helper()
	p := prepare(t, s, id, roles...)
	if err := p.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = p.stop() })
	return p
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
	if got := all[2].shape(); !strings.Contains(got, "manager a,manager b,") {
		t.Errorf("a process that has just joined knows %q", got)
	}
	const want = "frontend a,manager a,manager b,worker w,"
	for _, p := range all {
		eventually(t, patience, want, func() bool { return p.shape() == want })
	}
	w, ok := all[0].View().Worker(lambda.WorkerID("w"))
	if _, unknown := all[0].View().Manager("w"); !ok || unknown || w.Address != "127.0.0.1:1" {
		t.Errorf("worker w is %+v, %v", w, ok)
	}
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
	s := engine(t)
	a, b := join(t, s, "a", Manager), join(t, s, "b", Manager)
	eventually(t, patience, "both are known", func() bool { return len(a.View().Managers) == 2 })
	goodbyes, err := a.conn.SubscribeSync(heartbeatSubject + "manager.b")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	for leaving := false; !leaving; { // the last word; no silence has to be waited for
		msg, err := goodbyes.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		leaving = strings.Contains(string(msg.Data), `"leaving":true`)
	}
	eventually(t, patience, "b is gone", func() bool { return len(a.View().Managers) == 1 })
}

func TestSilenceIsTheEnd(t *testing.T) {
	t.Parallel()
	s := engine(t)
	a, b := join(t, s, "a", Manager), join(t, s, "b", Manager)
	eventually(t, patience, "both are known", func() bool { return len(a.View().Managers) == 2 })
	began := time.Now()
	b.conn.Close() // as SIGKILL does
	eventually(t, patience, "b is gone", func() bool { return len(a.View().Managers) == 1 })
	if took := time.Since(began); took < Expiry-2*Interval {
		t.Errorf("b was dropped after %v, want about %v", took, Expiry)
	}
	join(t, s, "b", Manager) // its id is free again
	eventually(t, patience, "b is back", func() bool { return len(a.View().Managers) == 2 })
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

func TestAnIDIsUsedOnce(t *testing.T) {
	s := engine(t)
	first := join(t, s, "same", Manager, Worker)
	join(t, s, "same", Frontend) // another role: another member
	second := prepare(t, s, "same", Worker)
	err := second.Join(t.Context())
	if err == nil || !strings.Contains(err.Error(), `worker "same"`) || !strings.Contains(err.Error(), "--id") {
		t.Errorf("Join = %v", err)
	}
	if w, ok := first.View().Worker("same"); !ok || w.Boot != first.cfg.Boot {
		t.Error("the refused process took the first one's place")
	}
}

func TestOfTwoThatStartTogetherOneGoesOn(t *testing.T) {
	s := engine(t)
	errs := make(chan error, 2)
	for range 2 {
		p := prepare(t, s, "same", Manager)
		go func() { errs <- p.Join(t.Context()) }()
	}
	refused := 0
	for range 2 {
		if err := <-errs; err != nil {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d of 2 were refused, want 1", refused)
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
