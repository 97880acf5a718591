package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"berth/internal/serverproc"
)

const (
	maxLocal = 9
	// localQuota makes people see several managers at work: 20 calls of an account at once need two.
	localQuota = 10
	localDrain = 20 * time.Second
	// restartPause is longer than the others take to notice and to take the place.
	restartPause = 5 * time.Second
	// signalLate is how much later than ctx's end its signal may arrive in another channel.
	signalLate = 100 * time.Millisecond
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

	engines  []string // nats://host:port
	mu       sync.Mutex
	children []*child
}

// child is one process of the cluster.
type child struct {
	role   string
	number int
	id     string
	args   []string
	server *serverproc.Server // the latest that started
}

// run starts everything, tells how to use it, and stops it in order when ctx ends. A second signal ends all at once.
func (l *localCluster) run(ctx context.Context) error {
	signals := make(chan os.Signal, 2) // asked for before the first comes, or the second would end this process alone
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	starting, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	err := l.start(starting)
	if err == nil {
		l.tell()
		var watching sync.WaitGroup
		for _, c := range l.children {
			watching.Go(func() { l.keep(ctx, c) })
		}
		watching.Wait()
	}
	if ctx.Err() != nil {
		select { // the one that ended ctx, if it was one, and did not come before they were asked for
		case <-signals:
		case <-time.After(signalLate):
		}
		l.app.err.Printf("stopping in good order: calls that run may take %v more; Ctrl-C again ends everything at once\n", localDrain)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- l.stop() }()
	select {
	case stopping := <-stopped:
		err = errors.Join(err, stopping)
	case <-signals:
		l.kill()
		<-stopped
		l.app.err.Printf("all processes were ended at once; what was running is lost\n")
		return ctx.Err()
	}
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
	if err := l.sameEngines(count); err != nil {
		return err
	}
	addresses, err := l.addresses(2 * count)
	if err != nil {
		return err
	}
	clients, routes := addresses[:count], addresses[count:]
	if count > 1 { // members share a secret that is there before
		if err := makeToken(l.token()); err != nil {
			return err
		}
	}
	for _, addr := range clients {
		l.engines = append(l.engines, "nats://"+addr)
	}
	return together(ctx, count, func(ctx context.Context, i int) error {
		args := []string{"--role", "engine,control", "--engine", l.engines[i]}
		if count > 1 {
			others := slices.Delete(slices.Clone(routes), i, i+1)
			args = append(args, "--engine-cluster", routes[i], "--engine-routes", strings.Join(others, ","))
		}
		return l.one(ctx, "engine", i+1, args...)
	})
}

// sameEngines refuses a directory whose cluster had another number of engines, before one of them starts and the others wait
// for it in vain: one engine's data cannot become three members', nor theirs one's.
func (l *localCluster) sameEngines(count int) error {
	had, was, now := 3, "--local 3 or more", "--local 1 or 2"
	if count > 1 {
		had, was, now = 1, now, was
	}
	if _, err := os.Stat(l.addressFile(2 * had)); err != nil {
		return nil
	}
	if _, err := os.Stat(l.addressFile(2 * count)); err == nil {
		return nil // both were tried; the engines know better
	}
	return fmt.Errorf("%s is of a cluster with %s, whose engines' data one with %s cannot use: take the same number again, "+
		"another --data, or remove that directory with all that is in it", l.dir, was, now)
}

// together starts n processes at the same time. When one cannot, the others are not waited for, and its error is told alone.
func together(ctx context.Context, n int, start func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var starting sync.WaitGroup
	for i := range n {
		starting.Go(func() {
			if err := start(ctx, i); err != nil {
				cancel(err) // the first one stays
			}
		})
	}
	starting.Wait()
	return context.Cause(ctx)
}

// addresses returns free ones on loopback, the same at each start of this cluster.
func (l *localCluster) addresses(n int) ([]string, error) {
	path := l.addressFile(n)
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

func (l *localCluster) addressFile(n int) string {
	return filepath.Join(l.dir, "engines-"+strconv.Itoa(n))
}

func (l *localCluster) token() string { return filepath.Join(l.dir, "cluster-token") }

// each starts the processes of one role at the same time.
func (l *localCluster) each(ctx context.Context, role string) error {
	return together(ctx, l.n, func(ctx context.Context, i int) error {
		args := []string{"--role", role, "--engine", strings.Join(l.engines, ",")}
		switch role {
		case "manager":
			args = append(args, "--pool-quota", strconv.Itoa(localQuota))
		case "worker":
			args = append(args, "--memory", strconv.Itoa(l.memory))
		}
		return l.one(ctx, role, i+1, args...)
	})
}

// one starts the first process of a child, with its own data directory.
func (l *localCluster) one(ctx context.Context, role string, number int, args ...string) error {
	c := &child{role: role, number: number, id: fmt.Sprintf("%c%d", role[0], number), args: args}
	if err := l.launch(ctx, c); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.children = append(l.children, c)
	return nil
}

func (l *localCluster) launch(ctx context.Context, c *child) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%d", c.role, c.number)
	data := filepath.Join(l.dir, name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	cfg := serverproc.Config{Binary: binary, DataDir: data, NoAPI: c.role != "frontend"}
	if c.role == "frontend" {
		cfg.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port+c.number-1))
	}
	cfg.Args = append(slices.Clone(c.args), "--id", c.id, "--cluster-token-file", l.token(), "--drain-limit", localDrain.String())
	server, err := serverproc.Start(ctx, cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.server = server
	return nil
}

// keep starts a process again that has ended, as systemd would, until ctx ends. A pause lets people see how the others go on.
func (l *localCluster) keep(ctx context.Context, c *child) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.server.Done():
		}
		l.say("%s %s, process %d, %s; it is started again in %v\n", c.role, c.id, c.server.PID(), howEnded(c.server), restartPause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartPause):
		}
		starting, cancel := context.WithTimeout(ctx, upLimit)
		err := l.launch(starting, c)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.say("%s %s could not be started again: %v\n", c.role, c.id, err)
		default:
			l.say("%s %s is back, process %d\n", c.role, c.id, c.server.PID())
		}
	}
}

// say writes one line of several that may come at once.
func (l *localCluster) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.app.out.Printf(format, args...)
}

func howEnded(s *serverproc.Server) string {
	switch code := s.ExitCode(); code {
	case -1:
		return "was killed"
	case 0:
		return "was stopped"
	default:
		return fmt.Sprintf("ended with exit code %d", code)
	}
}

func (l *localCluster) tell() {
	out := l.app.out
	data := filepath.Join(l.dir, "frontend-1")
	out.Printf("a cluster runs on this machine:\n\n")
	for _, c := range l.of("engine", "manager", "worker", "frontend") {
		out.Printf("  %-9s %-3s %-28s process %d\n", c.role, c.id, c.server.URL, c.server.PID())
	}
	out.Printf("\nin another terminal:\n\n  berth cluster status --data %s\n  berth deploy ./examples/python-hello --data %s\n  eval \"$(berth env --data %s)\"   # for AWS clients\n\nKill what you like: it is started again after %v. Ctrl-C stops all.\n",
		data, data, data, restartPause)
}

// of returns the children of some roles, in their order.
func (l *localCluster) of(roles ...string) []*child {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*child
	for _, role := range roles {
		first := len(list)
		for _, c := range l.children {
			if c.role == role {
				list = append(list, c)
			}
		}
		slices.SortFunc(list[first:], func(a, b *child) int { return a.number - b.number })
	}
	return list
}

// kill ends all processes at once, and returns when they are gone; a worker's sandboxes end with it.
func (l *localCluster) kill() {
	var ending sync.WaitGroup
	for _, c := range l.of("frontend", "worker", "manager", "engine") {
		ending.Go(c.server.Kill)
	}
	ending.Wait()
}

// stop ends the roles in the order in which they need one another. Processes that are gone already are no failure: people
// try what happens.
func (l *localCluster) stop() error {
	var failed []error
	for _, role := range []string{"frontend", "worker", "manager", "engine"} {
		var stopping sync.WaitGroup
		var mu sync.Mutex
		for _, c := range l.of(role) {
			s := c.server
			select {
			case <-s.Done():
				continue
			default:
			}
			stopping.Go(func() {
				if err := s.Stop(); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, fmt.Errorf("%s %s: %w", role, c.id, err))
				}
			})
		}
		stopping.Wait()
	}
	return errors.Join(failed...)
}
