package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/google/uuid"

	"berth/catalog"
	"berth/control"
	"berth/frontend"
	"berth/lambda"
	"berth/logs"
	"berth/manager"
	"berth/members"
	"berth/runtimes"
	"berth/store"
	"berth/store/jetstream"
	"berth/wire"
)

// startMember brings up one process of several: its roles, in the order in which they depend on one another, then its
// announcement, then the public API.
func startMember(ctx context.Context, cfg Config, l *lifecycle) error {
	limit := startLimit
	if cfg.EngineCluster != "" {
		limit = formLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	engineName := cfg.ID // a member of the engine's cluster keeps its name: a random one is kept in its directory
	if cfg.ID == "" {
		cfg.ID = uuid.NewString()
	}
	if err := members.CheckID(cfg.ID); err != nil {
		return err
	}
	data, err := openDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	l.onStop("data directory", func(context.Context) error { return data.close() })
	if cfg.TokenFile == "" {
		cfg.TokenFile = data.join("cluster-token")
	}
	token, err := clusterToken(cfg.TokenFile, cfg.Roles.Engine && cfg.EngineCluster == "")
	if err != nil {
		return err
	}
	security, err := cfg.TLS.config()
	if err != nil {
		return err
	}
	engine, err := openEngine(ctx, cfg, data, engineName, token, security)
	if err != nil {
		return err
	}
	l.onStop("engine", func(context.Context) error { return engine.Close() })
	if cfg.Roles == (Roles{Engine: true}) {
		cfg.Ready(engine.URL())
		return nil
	}

	cat := catalog.New(engine.Catalog(), cfg.Region)
	l.run("catalog", cat.Run)
	if err := waitFor(ctx, cat.Ready(), "the catalog"); err != nil {
		return err
	}
	client := wire.NewClient(token, security)
	l.onStop("connections to other processes", func(context.Context) error { client.Close(); return nil })
	c := &cluster{
		id: cfg.ID, boot: uuid.NewString(), quota: cfg.PoolQuota, log: cfg.Log, catalog: cat, client: client, frontend: cfg.Roles.Frontend,
	}
	c.members = members.New(members.Config{Conn: engine.Conn(), Boot: c.boot, Self: c.self, Changed: c.changed, Log: cfg.Log})
	l.drain = c.drain

	var logStore *logs.Store
	if cfg.Roles.Worker {
		if logStore, err = startWorker(ctx, cfg, l, data, engine.Blobs(), c); err != nil {
			return err
		}
	}
	if cfg.Roles.Manager {
		c.manager = manager.New(manager.Config{
			ID: lambda.ManagerID(c.id), Workers: c, Rings: c.Rings, Managers: c.peer, Limit: c.Limit, Reachable: c.reachable, Current: c.current,
			Provisions: provisions(c.catalog, c.versions().now), Log: cfg.Log,
		})
		l.run("manager", c.manager.Run)
	}
	if cfg.Roles.Frontend || cfg.Roles.Control {
		c.tokens = startTokens(cfg, l, cat)
	}
	if cfg.Roles.Control {
		c.control = control.New(control.Config{
			ID: c.boot, Store: engine.Catalog(), Alive: c.controlLives, Tasks: append(c.tasks(), rolloutTask(cfg, engine.Conn(), cat, engine.Queue())), Log: cfg.Log.With("part", "control"),
		})
	}
	if err := errors.Join(c.serveStatus(engine.Conn()), c.serveTenants(engine.Conn())); err != nil {
		return err
	}
	if cfg.Roles.Manager || cfg.Roles.Worker {
		if err := serveInternal(cfg, l, c, token, security); err != nil {
			return err
		}
	}
	if !cfg.Roles.Frontend {
		if _, err := startMemberEvents(cfg, l, engine, c, nil); err != nil {
			return err
		}
		if err := join(ctx, l, c); err != nil {
			return err
		}
		url := cmp.Or(engine.URL(), cfg.Engine)
		if c.address != "" {
			url = scheme(security) + "://" + c.address
		}
		cfg.Ready(url)
		return nil
	}
	return startFrontend(ctx, cfg, l, data, engine, c, logStore)
}

func startWorker(ctx context.Context, cfg Config, l *lifecycle, data *dataDir, blobs store.Blobs, c *cluster) (*logs.Store, error) {
	logStore, err := logs.Open(logs.Config{Dir: data.join("logs"), Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	l.run("logs", logStore.Run)
	if c.runtimes, err = runtimes.Discover(ctx, runtimes.Config{StateDir: data.join("runtimes")}); err != nil {
		return nil, err
	}
	c.notifier = wire.NewNotifier(c.remoteManager)
	l.run("notices to managers", c.notifier.Run)
	c.worker, err = newWorker(ctx, cfg, l, data, workerParts{
		id: lambda.WorkerID(c.id), blobs: blobs, logs: logStore, runtimes: c.runtimes, owners: c.owner,
	})
	if err != nil {
		return nil, err
	}
	l.run("worker", c.worker.Run)
	return logStore, nil
}

// serveInternal takes the calls of other processes' roles.
func serveInternal(cfg Config, l *lifecycle, c *cluster, token string, security *tls.Config) error {
	listener, err := listenInternal(cfg.ListenInternal)
	if err != nil {
		return err
	}
	l.onStop("internal listener", func(context.Context) error { return ignoreClosed(listener.Close()) })
	c.address = listener.Addr().String()
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && security == nil {
		cfg.Log.Warn("calls between processes cross a network unencrypted: give --tls-cert, --tls-key and --tls-ca", "address", c.address)
	}
	if security != nil {
		listener = tls.NewListener(listener, security)
	}
	// A role that this process does not have must be a nil interface, not one that holds a nil pointer.
	var m wire.ManagerRole
	if c.manager != nil {
		m = c.manager
	}
	var w wire.WorkerRole
	if c.worker != nil {
		w = c.worker
	}
	server := wire.NewHandler(token, m, w)
	l.run("calls of other processes", server.Run)
	// It bounds what it reads by itself, once a connection has turned from HTTP to frames.
	serveHTTP(l, "internal http", listener, server, 0, cfg.Log)
	return nil
}

// join announces this process; from now on others call it. A stop says goodbye before anything else ends.
func join(ctx context.Context, l *lifecycle, c *cluster) error {
	if err := c.members.Join(ctx); err != nil {
		return err
	}
	l.run("membership", c.members.Run)
	if c.manager != nil {
		l.run("workers that come and go", c.followWorkers)
	}
	if c.control != nil {
		l.run("control", c.control.Run)
	}
	return nil
}

func startFrontend(ctx context.Context, cfg Config, l *lifecycle, data *dataDir, engine *jetstream.Engine, c *cluster, logStore *logs.Store) error {
	listener, err := listen(cfg.Addr)
	if err != nil {
		return err
	}
	l.onStop("listener", func(context.Context) error { return ignoreClosed(listener.Close()) })
	key, err := firstKey(ctx, c.catalog)
	if err != nil {
		return fmt.Errorf("making the first account: %w", err)
	}
	others := &peers{id: c.id, conn: engine.Conn(), view: c.members.View}
	f := frontend.New(frontend.Config{
		Token: c.tokens.Token, Catalog: c.catalog, Manager: c.frontendManager, Worker: c.frontendWorker, Peers: others, Rings: c.Rings, Limit: c.Limit,
		Trials: newTrials(l, engine.Conn(), c.versions(), cfg.Log),
	})
	c.calls.Store(f)
	if err := others.serveLoad(f.Load); err != nil {
		return err
	}
	l.run("frontend", f.Run)
	calls := newCounted(cfg, f)
	role, err := startMemberEvents(cfg, l, engine, c, calls.invoker)
	if err != nil {
		return err
	}
	sqs, err := newQueues(cfg, l)
	if err != nil {
		return err
	}
	pictures, err := newImages(cfg, engine.Blobs(), data)
	if err != nil {
		return err
	}
	face := newEventsFace(engine, role)
	if err := startMetrics(cfg, l, calls, face, role, engine); err != nil {
		return err
	}
	server, err := newServer(cfg, serverParts{
		events: face, queues: sqs, blobs: engine.Blobs(), catalog: c.catalog, logs: logStore, invoker: calls.invoker, preparer: c, versions: c.versions(),
		provisioned: c.provisioned, status: c.status, living: c.livingManagers, tenants: c.tenants,
		images: pictures, hosts: func() []string { return namesOf(c.members.View()) },
	})
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	var written []string
	c.joined = func(v *members.View) { // the client file names the runtimes that the workers have
		names := namesOf(v)
		if slices.Equal(names, written) {
			return
		}
		if err := writeClientFile(cfg, data, url, key, names); err != nil {
			cfg.Log.Error("the client file could not be written", "error", err)
		}
		written = names
	}
	if err := writeClientFile(cfg, data, url, key, nil); err != nil {
		return err
	}
	if err := join(ctx, l, c); err != nil {
		return err
	}
	l.run("api", server.api.Run)
	c.stopServing = serveHTTP(l, "http", patientListener{listener, readerLimit}, c.closeAfter(server), readLimit, cfg.Log)
	cfg.Ready(url)
	return nil
}

func namesOf(v *members.View) []string {
	names := map[string]bool{}
	for _, w := range v.Workers {
		for name := range w.Runtimes {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// firstKey makes the first account and its key, or finds what another frontend made at the same moment.
func firstKey(ctx context.Context, cat *catalog.Catalog) (lambda.AccessKey, error) {
	const attempts, conflictPause = 10, 50 * time.Millisecond
	var key lambda.AccessKey
	var err error
	for range attempts {
		if key, _, err = cat.FirstKey(ctx); !errors.Is(err, store.ErrConflict) {
			return key, err
		}
		select { // until the catalog's copy here shows it
		case <-time.After(conflictPause):
		case <-ctx.Done():
			return key, ctx.Err()
		}
	}
	return key, err
}

func scheme(security *tls.Config) string {
	if security == nil {
		return "http"
	}
	return "https"
}
