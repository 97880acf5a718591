package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

// longVariable makes the tests that have a long version run it.
const longVariable = "BERTH_E2E_LONG"

func long() bool { return os.Getenv(longVariable) != "" }

// enough memory for some hundred environments: it is promised, not used.
const plenty = "32768"

// deployMarked makes marked functions, in parallel.
func deployMarked(t *testing.T, c *client.Client, names ...string) {
	t.Helper()
	runtime := pythonRuntime(t)
	var making sync.WaitGroup
	places := make(chan struct{}, 8)
	for _, name := range names {
		making.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			in := &awslambda.CreateFunctionInput{
				FunctionName: &name, Runtime: types.Runtime(runtime), Handler: aws.String("app.handler"), Role: aws.String(role),
				Code: &types.FunctionCode{ZipFile: zipOf(t, "app.py", marked+"# "+name+"\n")}, Timeout: aws.Int32(60), // the machine may be busy
			}
			if _, err := c.Lambda.CreateFunction(t.Context(), in); err != nil {
				t.Errorf("CreateFunction: %v", err)
			}
		})
	}
	making.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, name := range names {
		waitActive(t, c, name)
	}
}

// knows waits until a frontend knows the functions: each follows the engine by itself.
func knows(t *testing.T, c *client.Client, names ...string) {
	t.Helper()
	for _, name := range names {
		waitActive(t, c, name)
	}
}

// newFrontend starts one more frontend.
func (p *processes) newFrontend(id string) *client.Client {
	p.t.Helper()
	s := p.start("frontend", id)
	if s == nil {
		p.t.FailNow()
	}
	c := client.New(s.Client)
	p.t.Cleanup(c.Close)
	return c
}

// stop stops a process in good order.
func (p *processes) stop(id string) {
	p.t.Helper()
	p.mu.Lock()
	s := p.servers[id]
	p.mu.Unlock()
	began := time.Now()
	if err := s.Stop(); err != nil {
		p.t.Errorf("stopping %s: %v", id, err)
	}
	p.t.Logf("%s stopped in good order within %v", id, time.Since(began).Round(time.Millisecond))
}

// TestUpgradeReplacesEveryProcess: every manager, then every frontend, then every worker is replaced one by one while 200 calls
// a second go to 50 functions. No call fails. All idle environments outlive their managers and frontends.
func TestUpgradeReplacesEveryProcess(t *testing.T) {
	functions, every, each := 10, 20*time.Millisecond, 1
	if long() {
		functions, every, each = 50, 5*time.Millisecond, 2
	}
	p := startProcesses(t, 3, 2, "--memory", plenty)
	if p.start("worker", "w2") == nil {
		t.FailNow()
	}
	var names []string
	idle := map[string]int{}
	for i := range functions {
		names = append(names, fmt.Sprintf("upgrade-%d", i))
		idle[names[i]] = each
	}
	deployMarked(t, p.frontends[0], names...)
	knows(t, p.frontends[1], names...)
	to := &balancer{frontends: p.frontends}
	waitRing(t, p.frontends[0], "m1", "m2", "m3")
	idleSet(t, to, idle)
	var all []answer
	phase := func(what string, survive bool, replace func()) {
		waitIdle(t, to)
		before, _ := idleSet(t, to, idle)
		f := startTraffic(t, to, every, 0, names...)
		time.Sleep(500 * time.Millisecond)
		replace()
		time.Sleep(500 * time.Millisecond)
		got := f.stop().seen()
		all = append(all, got...)
		for _, a := range got { // some function may have more now: two of its calls met
			if a.err == nil {
				before[a.function][a.mark.Environment] = before[a.function][a.mark.Environment] || a.mark.Calls > 1
				idle[a.function] = max(idle[a.function], len(before[a.function]))
			}
		}
		t.Logf("%s: %s", what, summary(got))
		reportFailures(t, got)
		if !survive {
			return
		}
		waitIdle(t, to)
		after, started := idleSet(t, to, idle)
		survived, of := kept(before, after)
		t.Logf("%s: %d of %d idle environments survived; %d calls of them were cold", what, survived, of, started)
		if survived < of || started > 0 {
			t.Errorf("%s: %d of %d idle environments are lost", what, of-survived, of)
			logStatus(t, to)
		}
	}
	phase("all managers were replaced", true, func() {
		for _, next := range [][2]string{{"m1", "m4"}, {"m2", "m5"}, {"m3", "m6"}} {
			p.start("manager", next[1])
			p.stop(next[0])
		}
	})
	phase("all frontends were replaced", true, func() {
		for _, next := range [][2]string{{"f1", "f3"}, {"f2", "f4"}} {
			c := p.newFrontend(next[1])
			knows(t, c, names...)
			to.add(c)
			p.stop(next[0])
		}
	})
	phase("all workers were replaced", false, func() {
		for _, next := range [][2]string{{"w1", "w3"}, {"w2", "w4"}} {
			p.start("worker", next[1])
			p.stop(next[0])
		}
	})
	checkAlone(t, all)
	t.Logf("in all: %d calls, one every %v while processes were replaced; %d failed; %d connections were refused", len(all), every, len(failed(all)), to.refused.Load())
}

// waitIdle waits until the managers know that nothing runs: a worker's word of it may come after the caller's answer.
func waitIdle(t *testing.T, to *balancer) {
	t.Helper()
	for deadline := time.Now().Add(clusterWithin); ; time.Sleep(20 * time.Millisecond) {
		all := to.all()
		s, err := all[len(all)-1].Cluster(t.Context())
		environments, idle := 0, 0
		for _, p := range s.Processes {
			if p.Manager != nil {
				environments, idle = environments+p.Manager.Environments, idle+p.Manager.Idle
			}
		}
		if err == nil && s.Silent == 0 && environments == idle {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("of %d environments %d are idle, %v", environments, idle, err)
		}
	}
}

// logStatus writes what the server says of itself.
func logStatus(t *testing.T, to *balancer) {
	t.Helper()
	for _, c := range to.all() {
		if s, err := c.Cluster(t.Context()); err == nil {
			raw, _ := json.MarshalIndent(s, "", " ")
			t.Logf("%s", raw)
			return
		}
	}
}
