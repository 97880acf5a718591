// Package node wires the roles of one process. The wiring is one function that can be read from top to bottom; what it
// starts it stops in reverse.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"

	"berth/admin"
	"berth/apiserver"
	"berth/catalog"
	"berth/code"
	"berth/control"
	"berth/frontend"
	"berth/image"
	"berth/internal/procfs"
	"berth/lambda"
	"berth/logs"
	"berth/manager"
	"berth/ring"
	"berth/runtimes"
	"berth/sandbox"
	"berth/sandbox/guard"
	"berth/sandbox/namespace"
	"berth/store"
	"berth/store/collect"
	"berth/store/jetstream"
	"berth/tenanttoken"
	"berth/worker"
)

// Config is what `berth serve` was told.
type Config struct {
	Addr           string // host:port; port 0 takes a free one
	DataDir        string
	Region         string
	DevCredentials bool  // accept any signature; loopback addresses only
	MemoryBytes    int64 // for environments together; 0 is 80 % of the machine's
	Log            *slog.Logger
	Ready          func(url string) // called once, when calls are taken

	// What follows is for a process that is one of several.
	Roles          Roles
	Engine         string   // nats://host:port: where the engine listens, or several, with commas, where it is found; "" for a process alone
	EngineCluster  string   // host:port where this engine takes the other members of its cluster; "" for an engine alone
	EngineRoutes   []string // host:port of the other members
	ListenInternal string   // host:port for calls of other processes' roles; port 0 takes a free one
	TokenFile      string   // the cluster's secret; "" is cluster-token in the data directory
	ID             string   // of this process among those with the same role; "" takes a random one
	PoolQuota      int      // executions of one pool that a manager runs before the next one is used
	// RolloutPace is how long each stage of a rollout takes at least; 0 is rollout.DefaultPace.
	RolloutPace time.Duration
	// RolloutCalls is how many calls in the new version each stage but the last needs at least; nil is rollout.DefaultCalls.
	RolloutCalls []int
	TLS          TLSFiles // for connections between processes
	// DrainLimit is how long calls under way may go on, and a manager or worker may hand over, when the process is told to
	// stop; then they are cut off. 0 is drainAlone or, for a process that is one of several, drainMember.
	DrainLimit time.Duration

	// ImageDirs are the directories of this machine from which container images may be read; none: from registries only.
	ImageDirs []string
	// PlainRegistries (HOST or HOST:PORT) may be asked for images without TLS; those on loopback addresses always may.
	PlainRegistries []string
	// ImageBytes bounds a container image, uncompressed; 0 is image.DefaultBytes.
	ImageBytes int64

	// AWSEndpoints says where services are that events are told to: "sqs", "sns", "s3" → URL.
	AWSEndpoints map[string]string

	Metrics string // loopback host:port where metrics are served; "" is nowhere

	// TokenIssuer is the claim "iss" of tenant tokens.
	TokenIssuer string
}

// Time limits of the HTTP server. A whole answer has none: it may take as long as a function (15 minutes). See readerLimit.
const (
	readHeaderLimit = 10 * time.Second
	readLimit       = 5 * time.Minute // a 50 MB upload over a slow line
	idleLimit       = 2 * time.Minute
	maxHeaderBytes  = 64 << 10
	startLimit      = time.Minute
	formLimit       = 6 * time.Minute // of a member of the engine's cluster: it waits for the others
	drainAlone      = 10 * time.Second
	drainMember     = time.Minute
	cutLimit        = 10 * time.Second // for what still runs at the end of a drain
)

// Run runs this process's roles until ctx ends or a role fails, and returns when everything has stopped.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := checkAddress(cfg); err != nil {
		return err
	}
	start := startAlone
	if !cfg.alone() {
		start = startMember
	}
	l := newLifecycle(cfg.Log)
	defer func() { err = errors.Join(err, l.stop()) }()
	if err := start(ctx, cfg, l); err != nil {
		return err
	}
	if err := l.wait(ctx); err != nil {
		return err
	}
	if cfg.DrainLimit == 0 {
		cfg.DrainLimit = drainMember
		if cfg.alone() {
			cfg.DrainLimit = drainAlone
		}
	}
	return l.runDry(cfg.DrainLimit)
}

// startAlone brings up all roles, wired directly, in the order in which they depend on one another.
func startAlone(ctx context.Context, cfg Config, l *lifecycle) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	data, err := openDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	l.onStop("data directory", func(context.Context) error { return data.close() })
	listener, err := listen(cfg.Addr)
	if err != nil {
		return err
	}
	l.onStop("listener", func(context.Context) error { return ignoreClosed(listener.Close()) })

	engine, err := jetstream.Open(ctx, jetstream.Config{Dir: data.join("engine"), Logger: cfg.Log})
	if err != nil {
		return err
	}
	l.onStop("engine", func(context.Context) error { return engine.Close() })
	cat := catalog.New(engine.Catalog(), cfg.Region)
	l.run("catalog", cat.Run)
	if err := waitFor(ctx, cat.Ready(), "the catalog"); err != nil {
		return err
	}
	key, _, err := cat.FirstKey(ctx)
	if err != nil {
		return fmt.Errorf("making the first account: %w", err)
	}

	logStore, err := logs.Open(logs.Config{Dir: data.join("logs"), Log: cfg.Log})
	if err != nil {
		return err
	}
	l.run("logs", logStore.Run)
	set, err := runtimes.Discover(ctx, runtimes.Config{StateDir: data.join("runtimes")})
	if err != nil {
		return err
	}
	// Nobody else has this store, so what nobody names can go.
	collector := collect.New(collect.Config{Catalog: engine.Catalog(), Blobs: engine.Blobs(), Log: cfg.Log})
	l.run("collector", collector.Run)
	roles, err := startRoles(ctx, cfg, l, data, engine, collector.Blobs(), cat, logStore, set)
	if err != nil {
		return err
	}
	calls := newCounted(cfg, roles.frontend)
	role, err := startEvents(cfg, l, engine, cat, calls.invoker, func() bool { return true })
	if err != nil {
		return err
	}
	sqs, err := newQueues(cfg, l)
	if err != nil {
		return err
	}
	background := control.New(control.Config{Tasks: []control.Task{rolloutTask(cfg, engine.Conn(), cat, engine.Queue())}, Log: cfg.Log})
	l.run("background work", background.Run)
	pictures, err := newImages(cfg, collector.Blobs(), data)
	if err != nil {
		return err
	}
	face := newEventsFace(engine, role)
	if err := startMetrics(cfg, l, calls, face, role, engine); err != nil {
		return err
	}
	server, err := newServer(cfg, serverParts{
		events: face, queues: sqs, blobs: collector.Blobs(), catalog: cat, logs: logStore, invoker: calls.invoker, preparer: roles.worker,
		provisioned: roles.provisioned, status: roles.status, tenants: roles.tenants,
		versions: versions{cat, hostVersions(set)}, images: pictures, hosts: func() []string { return runtimeNames(set) },
	})
	if err != nil {
		return err
	}
	l.run("api", server.api.Run)
	url := "http://" + listener.Addr().String()
	if err := writeClientFile(cfg, data, url, key, runtimeNames(set)); err != nil {
		return err
	}
	l.drain = serveHTTP(l, "http", patientListener{listener, readerLimit}, server, readLimit, cfg.Log)
	cfg.Ready(url)
	return nil
}

// roles is the data path of this process.
type roles struct {
	frontend *frontend.Frontend
	worker   *worker.Worker
	// provisioned reports what there is of a provisioned concurrency.
	provisioned func(catalog.Provision) apiserver.ProvisionState
	status      func(context.Context) (admin.Status, error)
	tenants     tenantsFunc
}

// startTokens starts what signs tenant tokens. A process without frontend or control role signs none.
func startTokens(cfg Config, l *lifecycle, cat *catalog.Catalog) *tenanttoken.Signer {
	signer := tenanttoken.New(tenanttoken.Config{Board: cat, Issuer: cfg.TokenIssuer, Log: cfg.Log})
	l.run("tenant tokens", signer.Run)
	return signer
}

func startRoles(ctx context.Context, cfg Config, l *lifecycle, data *dataDir, engine *jetstream.Engine, blobs store.Blobs, cat *catalog.Catalog, logStore *logs.Store, set *runtimes.Set) (*roles, error) {
	single := newSingle(cat)
	version := versions{cat, hostVersions(set)}
	w, err := newWorker(ctx, cfg, l, data, workerParts{
		id: single.workerID, blobs: blobs, logs: logStore, runtimes: set,
		owners: func(lambda.ManagerID) worker.Owner { return single.manager },
	})
	if err != nil {
		return nil, err
	}
	single.worker = w
	single.manager = manager.New(manager.Config{
		ID: single.managerID, Workers: single, Rings: ring.Fixed(single.ring), Limit: single.Limit, Reachable: single.reachable,
		Current: single.current(version), Provisions: provisions(cat, version.now), Log: cfg.Log,
	})
	f := frontend.New(frontend.Config{
		Token: startTokens(cfg, l, cat).Token, Catalog: cat, Manager: single.Manager, Worker: single.frontendWorker, Rings: ring.Fixed(single.ring), Limit: single.Limit,
		Trials: newTrials(l, engine.Conn(), version, cfg.Log), Idle: new(procfs.Idle).Share,
	})
	l.run("worker", w.Run)
	l.run("manager", single.manager.Run)
	l.run("frontend", f.Run)
	return &roles{frontend: f, worker: w, provisioned: soleProvisioned(single.manager, version.now), status: single.status, tenants: single.tenants(f)}, nil
}

// workerParts is what a worker gets from its process.
type workerParts struct {
	id       lambda.WorkerID
	blobs    store.Blobs
	logs     *logs.Store
	runtimes *runtimes.Set
	owners   func(lambda.ManagerID) worker.Owner
}

func newWorker(ctx context.Context, cfg Config, l *lifecycle, data *dataDir, p workerParts) (*worker.Worker, error) {
	driver, err := newDriver(ctx, cfg, l, data)
	if err != nil {
		return nil, err
	}
	cache, err := code.NewCache(code.CacheConfig{Dir: data.join("code"), Blobs: p.blobs, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	memory := cfg.MemoryBytes
	if memory == 0 {
		if memory, err = memoryForFunctions(); err != nil {
			return nil, err
		}
	}
	return worker.New(worker.Config{
		ID: p.id, Driver: driver, Runtimes: p.runtimes, Code: cache, Logs: p.logs, MemoryBytes: memory, Log: cfg.Log,
		Unpack: unpacker(p.blobs, image.Limits{Bytes: cfg.ImageBytes}),
		Owners: p.owners, Credentials: placeholderCredentials, ParkFor: runtimeNames(p.runtimes), Idle: new(procfs.Idle).Share,
	})
}

// newDriver opens the sandbox driver and removes what a killed server left.
func newDriver(ctx context.Context, cfg Config, l *lifecycle, data *dataDir) (sandbox.Driver, error) {
	driver, err := namespace.New(namespace.Config{StateDir: data.join("sandbox"), Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	guarded := guard.New(driver, guard.Config{})
	l.onStop("sandbox driver", func(context.Context) error { return guarded.Close() })
	swept, err := guarded.Sweep(ctx)
	if err != nil {
		return nil, fmt.Errorf("removing what an earlier server left behind: %w", err)
	}
	if swept > 0 {
		cfg.Log.Info("removed what an earlier server left behind", "sandboxes", swept)
	}
	return guarded, nil
}

// hostVersions tells which version of a runtime this host has installed.
func hostVersions(set *runtimes.Set) func(name string) (lambda.RuntimeVersionID, error) {
	return func(name string) (lambda.RuntimeVersionID, error) {
		r, err := set.Find(name)
		if err != nil {
			return "", err
		}
		return r.Version, nil
	}
}

// serveHTTP serves until the lifecycle stops it: then no new calls are taken and those under way may end. That can be begun
// earlier with what is returned, which waits for them as long as its context goes on.
func serveHTTP(l *lifecycle, name string, listener net.Listener, handler http.Handler, readLimit time.Duration, log *slog.Logger) (stopServing func(context.Context) error) {
	s := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderLimit,
		ReadTimeout:       readLimit,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			l.fail(fmt.Errorf("serving HTTP: %w", err))
		}
	}()
	stop := func(ctx context.Context) error {
		began := time.Now()
		err := s.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			log.Warn("calls were still running when the server stopped: they are cut off", "waited", time.Since(began).Round(time.Millisecond))
			return s.Close()
		}
		return err
	}
	l.onStop(name, func(ctx context.Context) error {
		defer func() { <-done }()
		ctx, cancel := context.WithTimeout(ctx, cutLimit)
		defer cancel()
		return stop(ctx)
	})
	return stop
}

func waitFor(ctx context.Context, ready <-chan struct{}, what string) error {
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s did not become ready: %w", what, ctx.Err())
	}
}

func newID() string { return uuid.NewString() }
