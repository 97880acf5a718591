package e2e

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
	"berth/internal/serverproc"
)

const answering = "import os, time\ndef handler(event, context):\n    time.sleep(0.005)\n    return {'pid': os.getpid()}\n"

// TestSecondServer: a second server on the same data says so and stops; the first one goes on.
func TestSecondServer(t *testing.T) {
	c := sharedClient(t)
	_, errs, code := berth(t, nil, "serve", "--data", dataDir(), "--addr", "127.0.0.1:0")
	if code == 0 || !regexp.MustCompile(`(?i)already|in use|another`).MatchString(errs) {
		t.Errorf("exit code %d and %q, want a failure that tells of the other server", code, errs)
	}
	if _, err := c.Lambda.ListFunctions(t.Context(), &lambda.ListFunctionsInput{}); err != nil {
		t.Errorf("the first server: %v", err)
	}
}

// TestStopLeavesNothing stops a server with idle and busy environments in good order.
func TestStopLeavesNothing(t *testing.T) {
	sharedClient(t)
	mountsBefore := mounts(t)
	s := start(t, t.TempDir())
	c := client.New(s.Client)
	defer c.Close()
	python(t, c, "idle", answering)
	python(t, c, "busy", "import time\ndef handler(event, context):\n    time.sleep(60)\n", timeout(60))
	call(t, c, "idle", "", `{}`)
	var calls sync.WaitGroup
	calls.Go(func() { // ends with an error when the server stops
		_, _ = c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("busy")})
	})
	found := waitForTraces(t, s, 2)
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	calls.Wait()
	found.wantGone(t, mountsBefore)
}

// waitForTraces waits until a server has some processes below it.
func waitForTraces(t *testing.T, s *serverproc.Server, processes int) traces {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if found := tracesOf(t, s); len(found.processes) >= processes {
			return found
		}
	}
	t.Fatalf("the server has fewer than %d processes below it", processes)
	return traces{}
}

// TestKillUnderLoad kills the server (SIGKILL) while functions are made and called, and starts it again: every function
// whose creation was acknowledged is there and works, and the killed server's processes and cgroups are gone.
func TestKillUnderLoad(t *testing.T) {
	sharedClient(t)
	pythonRuntime(t)
	mountsBefore := mounts(t)
	data := t.TempDir()
	var made acknowledged
	var found []traces
	const kills = 3
	for range kills {
		s := start(t, data)
		c := client.New(s.Client)
		made.check(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		var load sync.WaitGroup
		for range 4 {
			load.Go(func() { made.createAndCall(ctx, c, types.Runtime(pythonRuntime(t)), zipOf(t, "app.py", answering)) })
		}
		before := made.count()
		waitUntil(t, "functions are made", func() bool { return made.count() >= before+8 })
		found = append(found, waitForTraces(t, s, 1))
		s.Kill()
		cancel()
		load.Wait()
		c.Close()
	}
	s := start(t, data)
	c := client.New(s.Client)
	made.check(t, c)
	c.Close()
	found = append(found, tracesOf(t, s))
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	for _, f := range found {
		f.wantGone(t, mountsBefore)
	}
	t.Logf("%d functions survived %d kills", made.count(), kills)
}

func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("waited %s until %s", readyWithin, what)
}

// acknowledged holds the names of functions whose creation the server has acknowledged.
type acknowledged struct {
	mu    sync.Mutex
	names []string
	tried int
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.names)
}

func (a *acknowledged) next() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tried++
	return fmt.Sprintf("kept-%d", a.tried)
}

// createAndCall makes functions, and calls each one, until ctx ends or the server does.
func (a *acknowledged) createAndCall(ctx context.Context, c *client.Client, runtime types.Runtime, zipped []byte) {
	for ctx.Err() == nil {
		name := a.next()
		_, err := c.Lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
			FunctionName: &name, Runtime: runtime, Handler: aws.String("app.handler"), Role: aws.String(role),
			Code: &types.FunctionCode{ZipFile: zipped},
		})
		if err != nil {
			return
		}
		a.mu.Lock()
		a.names = append(a.names, name)
		a.mu.Unlock()
		for range 3 { // the first may come before it is active: only load is wanted
			_, _ = c.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name})
		}
	}
}

// check expects every acknowledged function to be there, and some of them to work.
func (a *acknowledged) check(t *testing.T, c *client.Client) {
	t.Helper()
	for i, name := range a.names {
		if _, err := c.Lambda.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &name}); err != nil {
			t.Errorf("lost %s: %v", name, err)
			continue
		}
		if i%5 == 0 || i == len(a.names)-1 {
			waitActive(t, c, name)
			call(t, c, name, "", `{}`)
		}
	}
}
