package node

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"berth/apiserver"
	"berth/catalog"
	"berth/lambda"
	"berth/members"
	"berth/store/memory"
	"berth/wire"
)

// aCluster is one of a process without roles, beside one manager "m1" that listens at an address, and more members.
func aCluster(t *testing.T, address string, more ...members.Member) *cluster {
	t.Helper()
	s := messages(t)
	join := func(boot string, changed func(*members.View), self ...members.Member) *members.Members {
		conn, err := nats.Connect("", nats.InProcessServer(s))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		m := members.New(members.Config{Conn: conn, Boot: boot, Self: func() []members.Member { return self }, Changed: changed, Log: slog.New(slog.DiscardHandler)})
		if err := m.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		return m
	}
	cat := catalog.New(memory.NewCatalog(), "us-east-1")
	watch, stop := context.WithCancel(context.Background())
	watched := make(chan error, 1)
	go func() { watched <- cat.Run(watch) }()
	t.Cleanup(func() { stop(); <-watched })
	if _, err := cat.MakeRing(t.Context(), 0, catalog.RingSpec{Members: []lambda.ManagerID{"m1"}, Quota: 10}); err != nil {
		t.Fatal(err)
	}
	c := &cluster{id: "f1", log: slog.New(slog.DiscardHandler), catalog: cat, client: wire.NewClient("a token", nil)}
	t.Cleanup(c.client.Close)
	join("1", nil, members.Member{ID: "m1", Role: members.Manager, Boot: "1", Address: address, Quota: 10})
	for _, m := range more {
		join(m.Boot, nil, m)
	}
	c.members = join("2", c.changed)
	for limit := time.Now().Add(time.Minute); c.Ring().Len() == 0 || len(c.members.View().Managers) == 0 || len(c.members.View().Workers) < len(more); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the manager was not heard of")
		}
	}
	return c
}

var somethingProvisioned = catalog.Provision{
	ID: catalog.ID{Account: "000000000001", Name: "f"}, Provisioned: catalog.Provisioned{Qualifier: "1", Count: 3},
	Pool: lambda.PoolID{Account: "000000000001"},
}

// TestASilentManagerIsAskedOnce: what it has is shown as in progress, and a page of a list does not wait for it each time.
func TestASilentManagerIsAskedOnce(t *testing.T) {
	var asked atomic.Int32
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body) // or the server would not see the caller leave
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	c := aCluster(t, silent.Listener.Addr().String())
	if got := c.provisioned(somethingProvisioned); got != (apiserver.ProvisionState{}) {
		t.Errorf("%+v of a manager that does not answer", got)
	}
	if !c.silent.has("m1") || c.silent.has("m2") {
		t.Error("the manager's silence was not noted")
	}
	c.silent.mu.Lock()
	c.silent.until["m1"] = time.Now().Add(time.Hour) // however slow this test runs
	c.silent.mu.Unlock()
	for range 50 {
		c.provisioned(somethingProvisioned)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked %d times, want once", n)
	}
	c.silent.until["m1"] = time.Now()
	c.provisioned(somethingProvisioned)
	if n := asked.Load(); n != 2 {
		t.Errorf("later it was asked %d times in all, want twice", n)
	}
}

// answering is a manager that has what a test says.
type answering struct {
	wire.ManagerRole
	lambda.ProvisionedAnswer
}

func (a *answering) Provisioned(context.Context, lambda.ProvisionedRequest) (lambda.ProvisionedAnswer, error) {
	return a.ProvisionedAnswer, nil
}

func TestAnotherProcessesProvisionedConcurrencyIsShown(t *testing.T) {
	m := &answering{}
	server := httptest.NewServer(wire.NewHandler("a token", m, nil))
	t.Cleanup(server.Close)
	c := aCluster(t, server.Listener.Addr().String())
	for _, x := range []struct {
		has  lambda.ProvisionedAnswer
		want apiserver.ProvisionState
	}{
		{lambda.ProvisionedAnswer{Allocated: 2, Current: 2}, apiserver.ProvisionState{Allocated: 2}},
		{lambda.ProvisionedAnswer{Allocated: 4, Current: 3}, apiserver.ProvisionState{Allocated: 4, Ready: true}},
		{lambda.ProvisionedAnswer{Failed: true}, apiserver.ProvisionState{Failed: true}},
	} {
		m.ProvisionedAnswer = x.has
		if got := c.provisioned(somethingProvisioned); got != x.want {
			t.Errorf("of %+v it shows %+v, want %+v", x.has, got, x.want)
		}
	}
}
