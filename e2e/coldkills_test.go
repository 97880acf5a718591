package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
	"berth/internal/serverproc"
)

// TestKillsWhileEnvironmentsStart kills the server (SIGKILL) at random moments while environments of all languages start, in sandboxes that were made
// ahead and in others. After each restart on the same data every function answers at once and as itself; at the end nothing is left of any server.
func TestKillsWhileEnvironmentsStart(t *testing.T) {
	const kills, each = 4, 4
	sharedClient(t)
	mountsBefore := mounts(t)
	data := t.TempDir()
	s := start(t, data)
	c := client.New(s.Client)
	var names []string
	for _, from := range sources {
		for i := range each {
			name := fmt.Sprintf("cold-%s-%d", from.language, i)
			_, err := c.Lambda.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
				FunctionName: &name, Runtime: types.Runtime(from.runtime(t)), Handler: &from.handler, Role: aws.String(role), Timeout: aws.Int32(30),
				Code: &types.FunctionCode{ZipFile: from.zip(t, name)},
			})
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
	}
	for _, name := range names {
		waitActive(t, c, name)
	}
	var found []traces
	for range kills {
		found = append(found, killAmongColdCalls(t, s, c, names))
		c.Close()
		s = start(t, data)
		c = client.New(s.Client)
		for i, name := range names {
			checkEcho(t, c, name, fmt.Sprint("after-", i), false)
		}
	}
	c.Close()
	found = append(found, tracesOf(t, s))
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	for _, f := range found {
		f.wantGone(t, mountsBefore)
	}
	for _, pattern := range []string{"sandbox/image-*", "code/tmp/*", "images-tmp/*"} {
		if left, err := filepath.Glob(filepath.Join(data, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left in the data directory: %v %v", left, err)
		}
	}
}

// killAmongColdCalls calls all functions, none of which has an environment, and kills the server when some of them have answered.
func killAmongColdCalls(t *testing.T, s *serverproc.Server, c *client.Client, names []string) traces {
	t.Helper()
	after := rand.IntN(len(names) - 1)
	ended := make(chan bool, len(names))
	var calls sync.WaitGroup
	for _, i := range rand.Perm(len(names)) {
		calls.Go(func() { ended <- checkEcho(t, c, names[i], fmt.Sprint("before-", i), true) })
	}
	for range after {
		if !<-ended { // each ends within the time limit of its function
			t.Error("a call failed before the server was killed")
		}
	}
	if err := syscall.Kill(s.PID(), syscall.SIGSTOP); err != nil { // what it has made by now is looked at, and stays as it is
		t.Fatal(err)
	}
	found := tracesOf(t, s)
	s.Kill()
	calls.Wait()
	t.Logf("killed after %d of %d answers, with %d processes below the server", after, len(names), len(found.processes))
	return found
}

// checkEcho calls one of the functions of sources, and fails the test if another one answers, or to another event, or if none does and none may fail.
func checkEcho(t *testing.T, c *client.Client, name, event string, mayFail bool) bool {
	t.Helper()
	payload, err := json.Marshal(event)
	if err != nil {
		t.Error(err)
		return false
	}
	out, err := c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: payload})
	if err != nil {
		if !mayFail {
			t.Errorf("%s: %v", name, err)
		}
		return false
	}
	var got struct{ Answer, Event string }
	if err := json.Unmarshal(out.Payload, &got); err != nil || got.Answer != name || got.Event != event {
		t.Errorf("%s answered %s to %q: %v", name, out.Payload, event, err)
		return false
	}
	return true
}
