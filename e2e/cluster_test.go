package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/admin"
	"berth/client"
	"berth/internal/serverproc"
)

// engineMember is how one engine of a cluster is started.
type engineMember struct {
	url  string
	args []string
}

// clusterWithin bounds each wait for a cluster to notice something: it takes seconds, on a busy machine more.
const clusterWithin = time.Minute

// startCluster starts three engines that are a cluster, then the others as startProcesses does.
func startCluster(t *testing.T, managers, frontends int, args ...string) (*processes, map[string]*serverproc.Server) {
	t.Helper()
	return startClusterWith(t, "engine,control", managers, frontends, args...)
}

// startClusterWith is startCluster with other roles of the engines' processes.
func startClusterWith(t *testing.T, engineRoles string, managers, frontends int, args ...string) (*processes, map[string]*serverproc.Server) {
	t.Helper()
	sharedClient(t)
	p := &processes{t: t, dir: t.TempDir(), engineRoles: engineRoles, args: args, managers: map[string]*serverproc.Server{}, members: map[string]engineMember{}}
	p.token = filepath.Join(p.dir, "cluster-token")
	if err := os.WriteFile(p.token, []byte(strings.Repeat("secret", 6)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var urls, routes []string
	for range 3 {
		urls, routes = append(urls, "nats://"+stableAddress(t)), append(routes, stableAddress(t))
	}
	for i := range 3 {
		others := slices.Delete(slices.Clone(routes), i, i+1)
		p.members[fmt.Sprint("e", i+1)] = engineMember{urls[i], []string{"--engine-cluster", routes[i], "--engine-routes", strings.Join(others, ",")}}
	}
	engines := map[string]*serverproc.Server{}
	p.parallel(3, func(i int) {
		id := fmt.Sprint("e", i+1)
		s := p.start("engine", id)
		p.mu.Lock()
		defer p.mu.Unlock()
		engines[id] = s
	})
	p.engineURL = strings.Join(urls, ",")
	p.worker = p.start("worker", "w1")
	p.parallel(managers, func(i int) {
		id := fmt.Sprint("m", i+1)
		s := p.start("manager", id)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.managers[id] = s
	})
	for i := range frontends {
		if s := p.start("frontend", fmt.Sprint("f", i+1)); s != nil {
			c := client.New(s.Client)
			t.Cleanup(c.Close)
			p.frontends = append(p.frontends, c)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return p, engines
}

// stableAddress returns an address that is free now, and stays so while nobody listens there: below the ports that the kernel
// gives to connections.
func stableAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port was found")
	return ""
}

// parallel runs f for 0 … n-1 at the same time.
func (p *processes) parallel(n int, f func(i int)) {
	p.t.Helper()
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { f(i) })
	}
	running.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
}

// waitRing waits until the ring has these managers, and returns it and how long that took.
func waitRing(t *testing.T, c *client.Client, managers ...string) (admin.Ring, time.Duration) {
	t.Helper()
	began := time.Now()
	for {
		rings, err := c.Rings(t.Context()) // the newest first; the cluster's status would wait for the silent
		if err == nil && len(rings) > 0 && slices.Equal(rings[0].Members, managers) {
			return rings[0], time.Since(began)
		}
		if time.Since(began) > clusterWithin {
			t.Fatalf("the rings are %+v (%v), want the managers %v", rings, err, managers)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// background calls a function again and again until the test has seen enough; it returns how many calls there were and how
// many failed.
func background(t *testing.T, c *client.Client, name string) (stop func() (calls, failures int64)) {
	t.Helper()
	var calls, failures atomic.Int64
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(5 * time.Millisecond):
			}
			calls.Add(1)
			out, err := c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{}`)})
			if err != nil || out.FunctionError != nil {
				failures.Add(1)
				t.Logf("a call failed: %v", err)
			}
		}
	})
	stop = sync.OnceValues(func() (int64, int64) { close(ended); running.Wait(); return calls.Load(), failures.Load() })
	t.Cleanup(func() { stop() })
	return stop
}

// TestRingVersionsFollowTheManagers: joined, killed, told to stop, deployed, rolled back.
func TestRingVersionsFollowTheManagers(t *testing.T) {
	p := startProcesses(t, 3, 1)
	c := p.frontends[0]
	waitRing(t, c, "m1", "m2", "m3")
	python(t, c, "rings", "def handler(event, context):\n    return {}\n")
	call(t, c, "rings", "", `{}`)

	p.managers["m2"].Kill()
	lost, took := waitRing(t, c, "m1", "m3")
	t.Logf("a ring without the killed manager after %v", took.Round(time.Millisecond))
	if !strings.Contains(lost.Reason, "lost: m2") {
		t.Errorf("the reason is %q", lost.Reason)
	}
	call(t, c, "rings", "", `{}`)
	p.managers["m2"] = p.start("manager", "m2")
	waitRing(t, c, "m1", "m2", "m3")
	if err := p.managers["m3"].Stop(); err != nil {
		t.Error(err)
	}
	waitRing(t, c, "m1", "m2")
	call(t, c, "rings", "", `{}`)

	env := []string{"AWS_ENDPOINT_URL_LAMBDA=" + c.Server().Endpoint, "AWS_ACCESS_KEY_ID=" + c.Server().AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + c.Server().SecretAccessKey}
	run := func(args ...string) string {
		t.Helper()
		out, errs, code := berth(t, env, args...)
		if code != 0 {
			t.Fatalf("berth %v: %s", args, errs)
		}
		return out
	}
	var deployed admin.Ring
	if err := json.Unmarshal([]byte(run("ring", "deploy", "--q", "40", "--managers", "m1", "--json")), &deployed); err != nil ||
		deployed.Quota != 40 || !slices.Equal(deployed.Members, []string{"m1"}) || !deployed.Pinned {
		t.Errorf("deployed %+v, %v", deployed, err)
	}
	call(t, c, "rings", "", `{}`)
	run("ring", "rollback")
	back, _ := waitRing(t, c, "m1", "m2")
	if back.Quota != lost.Quota || back.Version != deployed.Version+1 {
		t.Errorf("rolled back to %+v", back)
	}
	call(t, c, "rings", "", `{}`)
	if out := run("ring", "history"); !strings.Contains(out, "rolled back to version") || !strings.Contains(out, "lost: m2") {
		t.Errorf("the history is\n%s", out)
	}
	if out := run("cluster", "status"); !strings.Contains(out, "elected") || !strings.Contains(out, "worker") || !strings.Contains(out, "ring version") {
		t.Errorf("the status is\n%s", out)
	}
	if _, errs, code := berth(t, env, "ring", "deploy", "--managers", "nobody"); code == 0 || !strings.Contains(errs, "m1, m2") {
		t.Errorf("a ring of nobody: %d, %s", code, errs)
	}
}

// TestAnotherControlTakesOver: the process that makes rings is killed together with a manager.
func TestAnotherControlTakesOver(t *testing.T) {
	p := startProcessesWith(t, "engine", 2, 1)
	c := p.frontends[0]
	controls := map[string]*serverproc.Server{"c1": p.start("control", "c1"), "c2": p.start("control", "c2")}
	if t.Failed() {
		t.FailNow()
	}
	waitRing(t, c, "m1", "m2")
	var elected []string
	s, err := c.Cluster(t.Context())
	for _, process := range s.Processes {
		if process.Elected {
			elected = append(elected, process.ID)
		}
	}
	if err != nil || len(elected) != 1 || controls[elected[0]] == nil {
		t.Fatalf("elected are %v, %v", elected, err)
	}
	began := time.Now()
	controls[elected[0]].Kill()
	p.managers["m2"].Kill()
	waitRing(t, c, "m1")
	t.Logf("another control was elected and made a ring %v after both were killed", time.Since(began).Round(time.Millisecond))
}

// TestThreeEnginesSurviveTheLossOfAny: each of three engines is killed in turn, one of them is the leader. Calls go on,
// changes wait and succeed.
func TestThreeEnginesSurviveTheLossOfAny(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	p, engines := startCluster(t, 2, 2)
	c := p.frontends[0]
	waitRing(t, c, "m1", "m2")
	python(t, c, "steady", "def handler(event, context):\n    return {}\n")
	call(t, c, "steady", "", `{}`)
	waitSame(t, p.frontends[0], p.frontends[1], "steady")
	stop := background(t, p.frontends[1], "steady")
	for i, id := range []string{"e1", "e2", "e3"} {
		engines[id].Kill()
		began := time.Now()
		name := fmt.Sprint("made-", i)
		python(t, c, name, "def handler(event, context):\n    return {}\n")
		t.Logf("without %s a function was made and ready after %v", id, time.Since(began).Round(time.Millisecond))
		call(t, c, name, "", `{}`)
		if engines[id] = p.start("engine", id); engines[id] == nil {
			t.FailNow()
		}
		settle(t, c)
	}
	calls, failures := stop()
	t.Logf("%d calls meanwhile, %d failed", calls, failures)
	if failures > 0 || calls == 0 {
		t.Errorf("%d of %d calls failed while engines were killed", failures, calls)
	}
}

// settle waits until a change is answered quickly again: the engine that was started anew has caught up. An election takes
// 4 s and more.
func settle(t *testing.T, c *client.Client) {
	t.Helper()
	for deadline := time.Now().Add(clusterWithin); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		began := time.Now()
		if _, err := c.SetConcurrency(t.Context(), 1000); err == nil && time.Since(began) < 2*time.Second {
			return
		}
	}
	t.Fatal("changes stay slow")
}

// awaitKey waits until a server has heard of the key that was imported into its engine.
func awaitKey(t *testing.T, c *client.Client, name string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := c.Lambda.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &name})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the key is not known after 30 s: %v", err)
		}
	}
}

// TestFromOneMachineToACluster: functions, versions, aliases and keys survive the move.
func TestFromOneMachineToACluster(t *testing.T) {
	data := t.TempDir()
	one := start(t, data)
	c := client.New(one.Client)
	defer c.Close()
	name := "moved"
	python(t, c, name, "def handler(event, context):\n    return {'answer': 'one', 'event': event}\n")
	version := publish(t, c, name)
	updateCode(t, c, name, sources[0].zip(t, "two"))
	waitUpdated(t, c, name)
	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "functions.tar")
	if out, errs, code := berth(t, nil, "cluster", "export", file, "--data", data); code != 0 || !strings.Contains(out, "exported") {
		t.Fatalf("export: %d, %s%s", code, out, errs)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive has mode %v, %v", info.Mode(), err)
	}

	p := startProcesses(t, 2, 1)
	args := []string{"cluster", "import", file, "--engine", p.engineURL, "--cluster-token-file", p.token}
	if out, errs, code := berth(t, nil, args...); code != 0 || !strings.Contains(out, "imported") {
		t.Fatalf("import: %d, %s%s", code, out, errs)
	}
	moved := one.Client // the key of the old server, at the new one's address
	moved.Endpoint = p.frontends[0].Server().Endpoint
	nc := client.New(moved)
	defer nc.Close()
	awaitKey(t, nc, name)
	wantAnswer(t, nc, name, "", "two")
	wantAnswer(t, nc, name, version, "one")
	if _, errs, code := berth(t, nil, args...); code == 0 || !strings.Contains(errs, "--overwrite") {
		t.Errorf("imported over functions: %d, %s", code, errs)
	}
	// The old directory must not become an engine of a cluster: it would lose everything.
	_, errs, code := berth(t, nil, "serve", "--role", "engine", "--data", data, "--engine", freeAddress(t), "--cluster-token-file", p.token,
		"--engine-cluster", "127.0.0.1:0", "--engine-routes", "127.0.0.1:1,127.0.0.1:2")
	if code == 0 || !strings.Contains(errs, "berth cluster export") {
		t.Errorf("a standalone directory as a member: %d, %s", code, errs)
	}
	remove(t, nc, name)
}
