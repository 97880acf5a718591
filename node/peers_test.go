package node

import (
	"context"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"berth/frontend"
	"berth/lambda"
	"berth/members"
)

// messages starts a server that carries messages, within this process.
func messages(t *testing.T) *natsserver.Server {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{DontListen: true, NoSigs: true})
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

// frontends makes peers over one server, each of which knows all ids. Those in silent never answer.
func frontends(t *testing.T, ids []string, loads map[string][2]int) map[string]*peers {
	t.Helper()
	s := messages(t)
	view := &members.View{}
	out := map[string]*peers{}
	for _, id := range ids {
		view.Frontends = append(view.Frontends, &members.Tracked{Member: members.Member{ID: id, Role: members.Frontend}})
		conn, err := nats.Connect("", nats.InProcessServer(s))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		p := &peers{id: id, conn: conn, view: func() *members.View { return view }}
		out[id] = p
		load, answers := loads[id]
		if !answers {
			continue
		}
		if err := p.serveLoad(func(pool lambda.PoolID) (int, int) {
			if pool.Function != "f" {
				t.Errorf("%s was asked for %v", id, pool)
			}
			return load[0], load[1]
		}); err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

var pool = lambda.PoolID{Account: "000000000001", Function: "f"}

func TestPeersAnswerTheirSum(t *testing.T) {
	all := frontends(t, []string{"a", "b", "c"}, map[string][2]int{"a": {100, 9}, "b": {3, 2}, "c": {4, 1}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, want := all["a"].PoolLoad(ctx, pool), (frontend.PeerLoad{InFlight: 7, MaxSize: 2, Complete: true}); got != want {
		t.Errorf("PoolLoad = %+v, want %+v: all others and not itself", got, want)
	}
}

func TestAPeerThatHangsCostsTheTimeLimit(t *testing.T) {
	all := frontends(t, []string{"a", "b", "silent"}, map[string][2]int{"a": {0, 1}, "b": {3, 2}})
	for limit := 100 * time.Millisecond; ; limit *= 2 { // a machine may be too busy for b to answer at first
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		got := all["a"].PoolLoad(ctx, pool)
		took := time.Since(began)
		cancel()
		if got.Complete || took < limit {
			t.Fatalf("PoolLoad = %+v after %v of %v", got, took, limit)
		}
		if got == (frontend.PeerLoad{InFlight: 3, MaxSize: 2}) {
			return
		}
		if limit > 30*time.Second {
			t.Fatalf("PoolLoad = %+v", got)
		}
	}
}

func TestAFrontendWithoutPeersAsksNobody(t *testing.T) {
	all := frontends(t, []string{"a"}, map[string][2]int{"a": {5, 5}})
	all["a"].conn.Close() // it must not be needed
	if got := all["a"].PoolLoad(t.Context(), pool); got != (frontend.PeerLoad{Complete: true}) {
		t.Errorf("PoolLoad = %+v", got)
	}
}
