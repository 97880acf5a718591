package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth/internal/serverproc"
)

const (
	maxLocal = 9
	// localQuota makes people see several managers at work: 20 calls of an account at once need two.
	localQuota = 10
	localDrain = 20 * time.Second
	// firstEnginePort is below the ports that the kernel gives to connections: nobody takes it while an engine is down.
	firstEnginePort = 14222
)

// localCluster is a cluster of child processes on loopback.
type localCluster struct {
	app    *app
	dir    string
	n      int
	port   int // of the first frontend
	memory int // MB of each worker

	engines []string // nats://host:port
	mu      sync.Mutex
	started map[string][]*serverproc.Server // by role
}

// run starts everything, tells how to use it, and stops it in order when ctx ends.
func (l *localCluster) run(ctx context.Context) error {
	l.started = map[string][]*serverproc.Server{}
	starting, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	err := l.start(starting)
	if err == nil {
		l.tell()
		<-ctx.Done()
	}
	l.app.err.Progress("stopping")
	err = errors.Join(err, l.stop())
	l.app.err.Progress("")
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return ctx.Err()
	}
	return err
}

func (l *localCluster) start(ctx context.Context) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	l.app.err.Progress("starting the engines")
	if err := l.startEngines(ctx); err != nil {
		return err
	}
	l.app.err.Progress("starting %d managers and workers", l.n)
	if err := errors.Join(l.each(ctx, "manager"), l.each(ctx, "worker")); err != nil {
		return err
	}
	l.app.err.Progress("starting %d frontends", l.n)
	err := l.each(ctx, "frontend")
	l.app.err.Progress("")
	return err
}

// startEngines starts one engine, or three that are a cluster and so wait for one another. They do the background work too.
// Their addresses are kept, since the members of a cluster know one another by them.
func (l *localCluster) startEngines(ctx context.Context) error {
	count := 1
	if l.n >= 3 {
		count = 3
	}
	addresses, err := l.addresses(2 * count)
	if err != nil {
		return err
	}
	clients, routes := addresses[:count], addresses[count:]
	var starting sync.WaitGroup
	failed := make([]error, count)
	for i, addr := range clients {
		l.engines = append(l.engines, "nats://"+addr)
		args := []string{"--role", "engine,control", "--engine", "nats://" + addr}
		if count > 1 {
			others := slices.Delete(slices.Clone(routes), i, i+1)
			args = append(args, "--engine-cluster", routes[i], "--engine-routes", strings.Join(others, ","))
		}
		if count > 1 && i == 0 { // members share a secret that is there before
			if err := makeToken(l.token()); err != nil {
				return err
			}
		}
		starting.Go(func() { failed[i] = l.one(ctx, "engine", i+1, args...) })
	}
	starting.Wait()
	return errors.Join(failed...)
}

// addresses returns free ones on loopback, the same at each start of this cluster.
func (l *localCluster) addresses(n int) ([]string, error) {
	path := filepath.Join(l.dir, "engines-"+strconv.Itoa(n))
	if kept, err := os.ReadFile(path); err == nil {
		if all := strings.Fields(string(kept)); len(all) == n {
			return all, nil
		}
	}
	var all []string
	for port := firstEnginePort; len(all) < n && port < firstEnginePort+1000; port++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if listener, err := net.Listen("tcp", addr); err == nil {
			listener.Close()
			all = append(all, addr)
		}
	}
	if len(all) < n {
		return nil, fmt.Errorf("no %d ports from %d on are free", n, firstEnginePort)
	}
	return all, os.WriteFile(path, []byte(strings.Join(all, "\n")+"\n"), 0o600)
}

func (l *localCluster) token() string { return filepath.Join(l.dir, "cluster-token") }

// each starts the processes of one role at the same time.
func (l *localCluster) each(ctx context.Context, role string) error {
	failed := make([]error, l.n)
	var starting sync.WaitGroup
	for i := range l.n {
		args := []string{"--role", role, "--engine", strings.Join(l.engines, ",")}
		switch role {
		case "manager":
			args = append(args, "--pool-quota", strconv.Itoa(localQuota))
		case "worker":
			args = append(args, "--memory", strconv.Itoa(l.memory))
		}
		starting.Go(func() { failed[i] = l.one(ctx, role, i+1, args...) })
	}
	starting.Wait()
	return errors.Join(failed...)
}

// one starts one process with its own data directory.
func (l *localCluster) one(ctx context.Context, role string, number int, args ...string) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%d", role, number)
	data := filepath.Join(l.dir, name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	cfg := serverproc.Config{Binary: binary, DataDir: data, NoAPI: role != "frontend"}
	if role == "frontend" {
		cfg.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port+number-1))
	}
	cfg.Args = append(args, "--id", fmt.Sprintf("%c%d", role[0], number), "--cluster-token-file", l.token(), "--drain-limit", localDrain.String())
	s, err := serverproc.Start(ctx, cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started[role] = append(l.started[role], s)
	return nil
}

func (l *localCluster) tell() {
	out := l.app.out
	data := filepath.Join(l.dir, "frontend-1")
	out.Printf("a cluster runs on this machine:\n\n")
	for _, role := range []string{"engine", "manager", "worker", "frontend"} {
		for _, s := range l.started[role] {
			out.Printf("  %-9s %-28s process %d\n", role, s.URL, s.PID())
		}
	}
	out.Printf("\nin another terminal:\n\n  berth cluster status --data %s\n  berth deploy ./examples/python-hello --data %s\n  eval \"$(berth env --data %s)\"   # for AWS clients\n\nCtrl-C stops it.\n",
		data, data, data)
}

// stop ends the roles in the order in which they need one another. Processes that are gone already are no failure: people
// try what happens.
func (l *localCluster) stop() error {
	var failed []error
	for _, role := range []string{"frontend", "worker", "manager", "engine"} {
		var stopping sync.WaitGroup
		var mu sync.Mutex
		for _, s := range l.started[role] {
			select {
			case <-s.Done():
				continue
			default:
			}
			stopping.Go(func() {
				if err := s.Stop(); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, fmt.Errorf("%s: %w", role, err))
				}
			})
		}
		stopping.Wait()
	}
	return errors.Join(failed...)
}
