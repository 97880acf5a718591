package e2e

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/client"
	"berth/internal/serverproc"
)

// processes is a server that consists of several processes on this machine.
type processes struct {
	t           testing.TB
	dir         string
	engineURL   string
	engineRoles string   // of its process
	token       string   // its file
	args        []string // for all
	program     string   // that runs berth; "" is the binary itself
	engine      *serverproc.Server
	worker      *serverproc.Server
	managers    map[string]*serverproc.Server
	frontends   []*client.Client
	endpoints   []string                      // of the frontends
	mu          sync.Mutex                    // of what is filled by several goroutines
	servers     map[string]*serverproc.Server // all that were started, by id: the last of each
	members     map[string]engineMember       // of the engine's cluster, by id; nil for one engine
}

// startProcesses starts an engine, managers m1…, a worker, and frontends f1…, each as a process.
func startProcesses(t testing.TB, managers, frontends int, args ...string) *processes {
	t.Helper()
	return startProcessesWith(t, "engine,control", managers, frontends, args...)
}

// startProcessesWith is startProcesses with other roles of the engine's process.
func startProcessesWith(t testing.TB, engineRoles string, managers, frontends int, args ...string) *processes {
	t.Helper()
	sharedClient(t) // the tests' look at runtimes goes there
	p := &processes{t: t, dir: t.TempDir(), engineRoles: engineRoles, args: args, managers: map[string]*serverproc.Server{}}
	p.token = filepath.Join(p.dir, "cluster-token")
	p.startEngine("nats://127.0.0.1:0")
	p.worker = p.start("worker", "w1")
	var mu sync.Mutex
	var starting sync.WaitGroup
	for i := range managers {
		starting.Go(func() {
			id := "m" + strconv.Itoa(i+1)
			s := p.start("manager", id)
			mu.Lock()
			defer mu.Unlock()
			p.managers[id] = s
		})
	}
	starting.Wait()
	for i := range frontends {
		s := p.start("frontend", "f"+strconv.Itoa(i+1))
		if s == nil {
			break
		}
		c := client.New(s.Client)
		t.Cleanup(c.Close)
		p.frontends, p.endpoints = append(p.frontends, c), append(p.endpoints, s.Client.Endpoint)
	}
	if t.Failed() {
		t.FailNow()
	}
	return p
}

func (p *processes) startEngine(url string) {
	p.engineURL = url
	if p.engine = p.start("engine", "e1"); p.engine == nil {
		p.t.FailNow()
	}
	p.engineURL = p.engine.URL
}

// start starts one process; nil when it failed, which is noted. Its data directory lasts for the test.
func (p *processes) start(role, id string) *serverproc.Server {
	p.t.Helper()
	data := filepath.Join(p.dir, role+"-"+id)
	if err := os.MkdirAll(data, 0o700); err != nil {
		p.t.Error(err)
		return nil
	}
	roles := role
	engine, extra := p.engineURL, p.args
	if role == "engine" {
		roles = p.engineRoles
		if own, ok := p.members[id]; ok {
			engine, extra = own.url, slices.Concat(p.args, own.args)
		}
	}
	args := append([]string{"--role", roles, "--id", id, "--engine", engine, "--cluster-token-file", p.token}, extra...)
	s, err := serverproc.Start(p.t.Context(), serverproc.Config{Binary: cmp.Or(p.program, binary), DataDir: data, Args: args, NoAPI: role != "frontend"})
	if err != nil {
		p.t.Errorf("%s %s: %v", role, id, err)
		return nil
	}
	p.mu.Lock()
	if p.servers == nil {
		p.servers = map[string]*serverproc.Server{}
	}
	p.servers[id] = s
	p.mu.Unlock()
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("%s %s said:\n%s", role, id, s.Tail())
		}
		s.Kill()
		if reportRace(s) != 0 {
			p.t.Errorf("data race in %s %s", role, id)
		}
	})
	return s
}

// TestProcessesLifecycle: a function's life through two frontends of one server.
func TestProcessesLifecycle(t *testing.T) {
	p := startProcesses(t, 2, 2)
	one, two := p.frontends[0], p.frontends[1]
	name := "life"
	s := sources[0]
	python(t, one, name, "def handler(event, context):\n    return {'answer': 'one', 'event': event}\n")
	waitActive(t, two, name)
	waitSame(t, one, two, name)
	wantAnswer(t, one, name, "", "one")
	wantAnswer(t, two, name, "", "one")
	first := publish(t, one, name)
	updateCode(t, two, name, s.zip(t, "two"))
	waitUpdated(t, two, name)
	waitSame(t, one, two, name)
	wantAnswer(t, one, name, "", "two")
	second := publish(t, one, name)
	wantAnswer(t, one, name, first, "one")
	weighted(t, one, name, first, second)
	remove(t, one, name)
}

// waitSame waits until two frontends say the same of a function: each follows the engine by itself, milliseconds apart.
func waitSame(t *testing.T, a, b *client.Client, name string) {
	t.Helper()
	revision := func(c *client.Client) string {
		out, err := c.Lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			return err.Error()
		}
		return aws.ToString(out.RevisionId)
	}
	for deadline := time.Now().Add(readyWithin); revision(a) != revision(b); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the frontends still differ on %s", name)
		}
	}
}

// TestProcessesWithTLS: the same over mutual TLS; who has no certificate is not let in.
func TestProcessesWithTLS(t *testing.T) {
	files := writeCertificates(t)
	p := startProcesses(t, 1, 1, "--tls-cert", files.Cert, "--tls-key", files.Key, "--tls-ca", files.CA)
	python(t, p.frontends[0], "secure", "def handler(event, context):\n    return {'answer': 42}\n")
	if got := call(t, p.frontends[0], "secure", "", `{}`)["answer"]; got != float64(42) {
		t.Errorf("the answer is %v", got)
	}
	if url := p.managers["m1"].URL; !strings.HasPrefix(url, "https://") {
		t.Errorf("the manager listens on %s", url)
	}
	_, errs, code := berth(t, nil, "serve", "--role", "manager", "--engine", p.engineURL, "--cluster-token-file", p.token, "--data", t.TempDir())
	if code == 0 || !strings.Contains(errs, p.engineURL) {
		t.Errorf("without a certificate: exit code %d, %q", code, errs)
	}
}

// TestProcessesWithoutTheEngine: the path of a call does not wait for the engine. When it is back, changes work again.
func TestProcessesWithoutTheEngine(t *testing.T) {
	p := startProcesses(t, 1, 1)
	c := p.frontends[0]
	python(t, c, "steady", "def handler(event, context):\n    return {}\n")
	call(t, c, "steady", "", `{}`)
	p.engine.Kill()
	for range 20 {
		call(t, c, "steady", "", `{}`)
	}
	p.startEngine(p.engineURL)
	python(t, c, "later", "def handler(event, context):\n    return {}\n")
	call(t, c, "later", "", `{}`)
	call(t, c, "steady", "", `{}`)
	remove(t, c, "steady") // now: its clean-up comes after the second engine's
}

// TestProcessesAddLittleTime: two hops between processes, beside the same call in one process. How little is the benchmark's to
// say; here the machine may be busy, and only a wait on the way, for a time limit or a retry, would take so long.
func TestProcessesAddLittleTime(t *testing.T) {
	const rounds, most = 100, 100 * time.Millisecond
	one, three := hops(t, startProcesses(t, 1, 1), rounds)
	t.Logf("p50 of a warm call: %v in one process, %v over three, %v more", one, three, three-one)
	if three-one > most {
		t.Errorf("separate processes add %v, want at most %v", three-one, most)
	}
}

// BenchmarkProcessesAdd holds what separate processes add to a warm call's p50 to 0.5 ms, on a machine that does nothing else.
func BenchmarkProcessesAdd(b *testing.B) {
	const most = 500 * time.Microsecond
	p := startProcesses(b, 1, 1)
	b.ResetTimer()
	one, three := hops(b, p, max(b.N, 100))
	b.ReportMetric(float64(one.Microseconds()), "µs-one-p50")
	b.ReportMetric(float64(three.Microseconds()), "µs-three-p50")
	b.ReportMetric(float64((three - one).Microseconds()), "µs-added-p50")
	if b.N > 100 && three-one > most {
		b.Errorf("separate processes add %v, want at most %v", three-one, most)
	}
}

// hops returns the p50 of a warm call in one process and over three.
func hops(t testing.TB, p *processes, rounds int) (one, three time.Duration) {
	clients := []*client.Client{sharedClient(t), p.frontends[0]}
	name := fmt.Sprint("hops-", rounds)
	var took [2][]time.Duration
	for _, c := range clients {
		python(t, c, name, "def handler(event, context):\n    return {}\n")
		for range 50 {
			call(t, c, name, "", `{}`)
		}
	}
	for range rounds { // in turns: what else the machine does slows both
		for i, c := range clients {
			began := time.Now()
			invoke(t, c, &lambda.InvokeInput{FunctionName: &name})
			took[i] = append(took[i], time.Since(began))
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	return took[0][rounds/2], took[1][rounds/2]
}

// TestProcessesThatCannotStart: bad input ends a process within seconds, and says what is wrong.
func TestProcessesThatCannotStart(t *testing.T) {
	p := startProcesses(t, 1, 0)
	write := func(content string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unreachable engine": {[]string{"--role", "manager", "--engine", freeAddress(t), "--cluster-token-file", p.token}, "no engine answers at"},
		"wrong token": {[]string{"--role", "manager", "--engine", p.engineURL, "--cluster-token-file", write(strings.Repeat("x", 32), 0o600)},
			"refuses the cluster token"},
		"no token":         {[]string{"--role", "manager", "--engine", p.engineURL}, "cluster-token is not there"},
		"open token":       {[]string{"--role", "manager", "--engine", p.engineURL, "--cluster-token-file", write(strings.Repeat("x", 32), 0o644)}, "chmod 600"},
		"short token":      {[]string{"--role", "manager", "--engine", p.engineURL, "--cluster-token-file", write("x", 0o600)}, "16 to"},
		"unknown role":     {[]string{"--role", "manager,boss", "--engine", p.engineURL}, `"boss" is not known: the roles are frontend, manager, worker, engine`},
		"no engine":        {[]string{"--role", "manager"}, "--engine nats://"},
		"not an engine":    {[]string{"--role", "manager", "--engine", "http://127.0.0.1:1", "--cluster-token-file", p.token}, "nats://HOST:PORT"},
		"duplicate id":     {[]string{"--role", "manager", "--id", "m1", "--engine", p.engineURL, "--cluster-token-file", p.token}, `manager "m1" already`},
		"impossible id":    {[]string{"--role", "manager", "--id", "a.b", "--engine", p.engineURL, "--cluster-token-file", p.token}, "letters, digits"},
		"half of TLS":      {[]string{"--role", "manager", "--engine", p.engineURL, "--cluster-token-file", p.token, "--tls-ca", p.token}, "--tls-key"},
		"address for none": {[]string{"--role", "manager", "--engine", p.engineURL, "--cluster-token-file", p.token, "--listen-internal", ":0"}, "--listen-internal"},
		"bad calls":        {[]string{"--role", "engine,control", "--engine", "nats://127.0.0.1:0", "--rollout-calls", "1,2"}, "--rollout-calls"},
		"bad quota":        {[]string{"--role", "manager", "--engine", p.engineURL, "--pool-quota", "0"}, "--pool-quota"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"serve", "--data", t.TempDir(), "--addr", "127.0.0.1:0"}, c.args...)
			_, errs, code := berth(t, nil, args...)
			if code == 0 || !strings.Contains(errs, c.want) {
				t.Errorf("exit code %d and %q, want a failure with %q", code, errs, c.want)
			}
		})
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprintf("nats://%s", l.Addr())
}
