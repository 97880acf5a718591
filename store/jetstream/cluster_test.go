package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/lambda"
	"berth/store"
	"berth/store/storetest"
)

// trio is a cluster of three members in this process.
type trio struct {
	t       *testing.T
	configs [3]Config
	members [3]*Engine
}

// newTrio starts three members. Their addresses are taken at random and free for a moment: who is unlucky tries again.
func newTrio(t *testing.T) *trio {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: starts servers")
	}
	c := &trio{t: t}
	var clients, routes [3]string
	for i := range 3 {
		clients[i], routes[i] = freeAddr(t), freeAddr(t)
	}
	for i := range 3 {
		c.configs[i] = Config{
			Dir: t.TempDir(), Listen: clients[i], Token: token, Logger: slog.New(slog.DiscardHandler),
			Cluster: &Cluster{Name: fmt.Sprintf("e%d", i), Listen: routes[i], Routes: []string{routes[(i+1)%3], routes[(i+2)%3]}},
		}
	}
	c.start(0, 1, 2)
	t.Cleanup(func() {
		for i := range 3 {
			c.stop(i)
		}
	})
	return c
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts members, which wait for one another.
func (c *trio) start(which ...int) {
	c.t.Helper()
	var starting sync.WaitGroup
	for _, i := range which {
		starting.Go(func() {
			e, err := Open(context.Background(), c.configs[i])
			if err != nil {
				c.t.Errorf("member %d: %v", i, err)
				return
			}
			c.members[i] = e
		})
	}
	starting.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

func (c *trio) stop(i int) {
	if c.members[i] == nil {
		return
	}
	if err := c.members[i].Close(); err != nil {
		c.t.Errorf("closing member %d: %v", i, err)
	}
	c.members[i] = nil
}

// urls is how processes reach all of them.
func (c *trio) urls() string {
	var all []string
	for i := range 3 {
		all = append(all, "nats://"+c.configs[i].Listen)
	}
	return strings.Join(all, ",")
}

func (c *trio) connect() *Engine {
	c.t.Helper()
	e, err := Connect(c.t.Context(), Remote{URL: c.urls(), Token: token, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = e.Close() })
	return e
}

// leader finds the member that leads the catalog's stream.
func (c *trio) leader(e *Engine) int {
	c.t.Helper()
	info, err := e.catalog.stream.Info(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	if len(info.Cluster.Replicas) != 2 {
		c.t.Fatalf("the catalog has %d replicas besides its leader, want 2", len(info.Cluster.Replicas))
	}
	for i := range 3 {
		if c.configs[i].Cluster.Name == info.Cluster.Leader {
			return i
		}
	}
	c.t.Fatalf("the leader %q is no member", info.Cluster.Leader)
	return 0
}

// TestClusterCatalog: a cluster keeps the port's contract, also where each operation goes to another server.
func TestClusterCatalog(t *testing.T) {
	c := newTrio(t)
	n := 0
	storetest.Catalog(t, func(t *testing.T) store.Catalog {
		n++
		return &spread{catalogs: []store.Catalog{c.members[0].Catalog(), c.members[1].Catalog(), c.members[2].Catalog()}, prefix: fmt.Sprintf("t%d/", n)}
	})
}

// TestTheLossOfTheLeaderCostsNoWrite: writes wait for the next leader and succeed, nothing acknowledged is lost, watchers
// see everything; with two of three lost nothing is acknowledged, and when they are back all goes on.
func TestTheLossOfTheLeaderCostsNoWrite(t *testing.T) {
	c := newTrio(t)
	remote := c.connect()
	write := func(from, to int) {
		for i := from; i < to; i++ {
			apply(t, remote, store.Create(store.Key(fmt.Sprintf("k/%d", i)), []byte("v")))
		}
	}
	write(0, 20)
	lost := c.leader(remote)
	c.stop(lost)
	began := time.Now()
	write(20, 21)
	t.Logf("the first write after the leader was lost took %v", time.Since(began).Round(time.Millisecond))
	write(21, 40)
	if all := everything(t, remote); len(all) != 40 {
		t.Errorf("%d entries after 40 writes", len(all))
	}
	c.start(lost)
	write(40, 60)
	other := (c.leader(remote) + 1) % 3
	c.stop(other)
	write(60, 80)
	c.start(other)
	for _, e := range []*Engine{remote, c.members[0], c.members[1], c.members[2]} {
		if all := everything(t, e); len(all) != 80 {
			t.Errorf("%d entries after 80 writes", len(all))
		}
	}
}

// TestDirectoriesAreNotMixedUp: the server would delete the streams of a standalone directory that it starts as a member.
func TestDirectoriesAreNotMixedUp(t *testing.T) {
	alone := t.TempDir()
	e := open(t, Config{Dir: alone})
	apply(t, e, store.Create("kept", []byte("1")))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	member := Config{Dir: alone, Listen: "127.0.0.1:0", Token: token, Logger: slog.New(slog.DiscardHandler),
		Cluster: &Cluster{Name: "e1", Listen: "127.0.0.1:0"}}
	if _, err := Open(t.Context(), member); err == nil || !strings.Contains(err.Error(), "berth cluster export") {
		t.Errorf("a standalone directory as a member: %v", err)
	}
	if all := everything(t, open(t, Config{Dir: alone})); len(all) != 1 {
		t.Errorf("%d entries are left, want one", len(all))
	}

	dir, err := openDirectory(filepath.Join(t.TempDir(), "new"), 0, &Cluster{Name: "e1"})
	if err != nil || dir.member != "e1" {
		t.Fatalf("a new member: %v", err)
	}
	if err := dir.close(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		cluster *Cluster
		want    string
	}{{nil, "--engine-cluster"}, {&Cluster{Name: "e2"}, "member e1, not of e2"}} {
		if _, err := openDirectory(dir.path, 0, bad.cluster); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("e1's directory for %+v: %v, want %q in it", bad.cluster, err, bad.want)
		}
	}
	again, err := openDirectory(dir.path, 0, &Cluster{})
	if err != nil || again.member != "e1" {
		t.Fatalf("without a name: %v", err)
	}
	_ = again.close()
	if _, err := openDirectory(t.TempDir(), 0, &Cluster{Name: "a.b"}); err == nil {
		t.Error("a name that is no subject was taken")
	}
	if _, err := os.Stat(filepath.Join(dir.path, dataAlone)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a member has a standalone directory: %v", err)
	}
}

// spread sends each operation to the next of several catalogs that are one, and keeps to its own prefix.
type spread struct {
	catalogs []store.Catalog
	prefix   string
	mu       sync.Mutex
	n        int
}

func (s *spread) next() store.Catalog {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return s.catalogs[s.n%len(s.catalogs)]
}

// own leaves a key alone that has no room for the prefix: such a one is in one test only.
func (s *spread) own(k store.Key) store.Key {
	if len(k)+len(s.prefix) > store.MaxKey {
		return k
	}
	return store.Key(s.prefix) + k
}

func (s *spread) Get(ctx context.Context, k store.Key) (store.Entry, error) {
	if err := store.CheckKey(k); err != nil {
		return store.Entry{}, err
	}
	e, err := s.next().Get(ctx, s.own(k))
	e.Key = k
	return e, err
}

func (s *spread) Apply(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	if err := store.CheckOps(ops); err != nil {
		return 0, err
	}
	own := make([]store.Op, len(ops))
	for i, op := range ops {
		op.Key = s.own(op.Key)
		own[i] = op
	}
	return s.next().Apply(ctx, own...)
}

func (s *spread) Watch(ctx context.Context, prefix string, each func(store.Entry), ready func(store.Revision)) error {
	if err := store.CheckPrefix(prefix); err != nil {
		return err
	}
	return s.next().Watch(ctx, s.prefix+prefix, func(e store.Entry) {
		e.Key = store.Key(strings.TrimPrefix(string(e.Key), s.prefix))
		each(e)
	}, ready)
}

// TestClusterSameBlob stores the same bytes through many processes at once, as a deployment does that gives many functions one
// zip: every upload goes well, and one copy stays.
func TestClusterSameBlob(t *testing.T) {
	trio := newTrio(t)
	engines := []*Engine{trio.members[0], trio.members[1], trio.members[2], trio.connect(), trio.connect(), trio.connect()}
	const rounds, each = 5, 3
	for round := range rounds {
		data := bytes.Repeat([]byte{byte(round + 1)}, 1000+round*chunkSize/2) // of one chunk, and of several
		var uploads sync.WaitGroup
		begin := make(chan struct{})
		for i := range each * len(engines) {
			uploads.Go(func() {
				<-begin
				b := engines[i%len(engines)].Blobs()
				digest, _, err := b.Put(t.Context(), bytes.NewReader(data))
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				r, err := b.Open(t.Context(), digest)
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				defer r.Close()
				if back, err := io.ReadAll(r); err != nil || !bytes.Equal(back, data) {
					t.Errorf("round %d: read %d bytes of %d: %v", round, len(back), len(data), err)
				}
			})
		}
		close(begin)
		uploads.Wait()
	}
	stored, kept := 0, map[string]struct{}{}
	if err := engines[5].blobs.heads(t.Context(), func(_ lambda.CodeDigest, h *head, _ time.Time) error {
		stored++
		kept[h.Upload] = struct{}{}
		return nil
	}); err != nil || stored != rounds {
		t.Errorf("%d blobs, %v; want %d", stored, err, rounds)
	}
	info, err := engines[5].blobs.stream.Info(t.Context(), jetstream.WithSubjectFilter(chunkSubject+">"))
	if err != nil {
		t.Fatal(err)
	}
	for subject := range info.State.Subjects {
		id, _, _ := strings.Cut(strings.TrimPrefix(subject, chunkSubject), ".")
		if _, ok := kept[id]; !ok {
			t.Errorf("%s is of an upload that came to nothing", subject)
		}
	}
}
