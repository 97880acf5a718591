package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/admin"
	"berth/client"
	"berth/internal/serverproc"
)

// The functions of the rollout tests: all but three do not know the module.
const (
	importsAtInit  = "import " + removed + "\ndef handler(event, context):\n    return 1\n"
	importsInCalls = "def handler(event, context):\n    import " + removed + "\n    return 1\n"
	importsForSome = "def handler(event, context):\n    if event['n'] % 2 == 0:\n        import " + removed + "\n    return 1\n"
	importsNothing = "def handler(event, context):\n    return 1\n"
	hears          = "import json\ndef handler(event, context):\n    print('heard', json.dumps(event))\n"
)

// rolloutFigures say how large a rollout is.
type rolloutFigures struct {
	functions int
	broken    map[string]string // function → its code; the others import nothing
	flags     []string          // of berth serve
}

// The rollout that runs always, and the one of the default number of calls a stage, which takes three minutes.
var (
	brokenThree = map[string]string{"f05": importsAtInit, "f14": importsInCalls, "f23": importsForSome}
	quickly     = rolloutFigures{30, brokenThree, []string{"--rollout-pace", "2s", "--rollout-calls", "1,4,12"}}
	thoroughly  = rolloutFigures{30, brokenThree, []string{"--rollout-pace", "2s"}}
	small       = rolloutFigures{6, map[string]string{"f01": importsAtInit, "f03": importsInCalls, "f04": importsForSome}, quickly.flags}
)

// rolloutBed is the server that a rollout runs on.
type rolloutBed struct {
	data      string // of a server with the public API
	clients   func() []*client.Client
	interrupt func() // kills something in the middle, and brings it back
}

// TestG_RealRollout: two versions of Python that differ by a module, 30 functions of which 3 need it: exactly these are pinned, and
// no other call fails. The server is killed in the middle (G12). The rules of rollouts are tested in virtual time, in package control.
func TestG_RealRollout(t *testing.T) {
	t.Parallel()
	figures := quickly
	if os.Getenv("BERTH_LONG") != "" {
		figures = thoroughly
	}
	needServer(t)
	runtime, whole, lacking := pythonTrees(t)
	bed := rolloutBed{data: t.TempDir()}
	said := &complaints{}
	defer said.show(t)
	var current atomic.Pointer[[]*client.Client]
	var s *serverproc.Server
	begin := func() {
		s = startSaying(t, said, bed.data, slices.Concat(figures.flags, []string{"--image-dir", whole, "--image-dir", lacking, "--memory", "32000"})...)
		c := client.New(s.Client)
		t.Cleanup(c.Close)
		current.Store(&[]*client.Client{c})
	}
	bed.clients = func() []*client.Client { return *current.Load() }
	bed.interrupt = func() {
		current.Store(&[]*client.Client{}) // whoever calls waits
		s.Kill()
		begin()
	}
	begin()
	realRollout(t, &bed, &figures, runtime, whole, lacking)
	waitUntil(t, "the owner has heard of each verdict", func() bool {
		out, _, _ := berth(t, nil, "--data", bed.data, "logs", "hears")
		return strings.Count(out, "berth.rollout.verdict") >= figures.functions
	})
}

// TestG_RealRolloutOverProcesses: the same with two control processes, of which the one that acts is killed, two frontends that draw
// and count, a manager and a worker.
func TestG_RealRolloutOverProcesses(t *testing.T) {
	t.Parallel()
	needServer(t)
	runtime, whole, lacking := pythonTrees(t)
	figures := small
	p := startProcessesWith(t, "engine", 1, 2, slices.Concat(figures.flags, []string{"--image-dir", whole, "--image-dir", lacking, "--log-level", "warn"})...)
	acting := p.start("control", "c1")
	p.start("control", "c2")
	if t.Failed() {
		return
	}
	realRollout(t, &rolloutBed{
		data:      filepath.Join(p.dir, "frontend-f1"),
		clients:   func() []*client.Client { return p.frontends },
		interrupt: acting.Kill, // the other one goes on
	}, &figures, runtime, whole, lacking)
}

// realRollout makes the functions, rolls the version out that lacks a module while all functions are called, and looks at what has
// become of each of them and of every call.
func realRollout(t *testing.T, bed *rolloutBed, figures *rolloutFigures, runtime, whole, lacking string) {
	command := func(args ...string) string {
		t.Helper()
		out, errs, code := berth(t, nil, append([]string{"--data", bed.data, "--json"}, args...)...)
		if code != 0 {
			t.Fatalf("berth %q: %d %s %s", args, code, out, errs)
		}
		return out
	}
	command("runtime", "publish", runtime, "--at-once", "--from", "dir:"+whole)
	command("runtime", "add", runtime, "--from", "dir:"+lacking)
	names := makeRolloutFunctions(t, bed.clients()[0], figures, runtime)
	for _, c := range bed.clients() {
		waitActive(t, c, names[len(names)-1])
	}
	load := &rolloutLoad{bed: bed, failed: map[string]int{}}
	load.names.Store(&names)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var callers sync.WaitGroup
	for i := range 3 {
		callers.Go(func() { load.run(ctx, load.names.Load, i, 3) })
	}
	broken := slices.Sorted(maps.Keys(figures.broken)) // often called, so that on a slow machine they are found out as well
	callers.Go(func() {
		load.run(ctx, func() *[]string {
			if load.found.Load() {
				return load.names.Load()
			}
			return &broken
		}, 0, 1)
	})

	began := time.Now()
	command("runtime", "publish", runtime, "--version", "2")
	detail := func() (d admin.RolloutDetail) {
		if all := bed.clients(); len(all) > 0 {
			d, _ = all[0].Rollout(t.Context(), runtime, admin.MaxRolloutFunctions) // a failure is a rollout of nothing
		}
		load.favour(names, d.Evidence)
		return d
	}
	waitLong(t, "the first function is pinned", func() bool { return detail().Functions["Incompatible"] > 0 })
	pinned, before := time.Since(began), load.calls.Load()
	bed.interrupt()
	back := time.Since(began)
	waitLong(t, "the rollout is done", func() bool { return detail().Phase == "done" })
	took := time.Since(began)
	stop()
	callers.Wait()

	d := detail()
	t.Logf("%d calls in %v; verdicts %v; calls that callers saw fail: %v", load.calls.Load(), took.Round(time.Second), d.Functions, load.failed)
	t.Logf("the first pin came after %v and %d calls, the kill was over after %v", pinned.Round(time.Second), before, back.Round(time.Second))
	checkVerdicts(t, d, figures, load)
	var state client.Runtime
	if err := json.Unmarshal([]byte(command("runtime", "show", runtime)), &state); err != nil || state.Current != state.Releases[1].ID || state.Candidate != "" {
		t.Errorf("the runtime: %+v, %v", state, err)
	}
	checkMoved(t, bed.clients()[0], figures, names, &state)
}

// makeRolloutFunctions makes the functions and the one that hears of verdicts.
func makeRolloutFunctions(t *testing.T, c *client.Client, figures *rolloutFigures, runtime string) (names []string) {
	t.Helper()
	create(t, c, &lambda.CreateFunctionInput{FunctionName: aws.String("hears"), Runtime: types.Runtime(runtime), Handler: aws.String("app.handler"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, "app.py", hears)}})
	if _, err := c.Lambda.PutRuntimeManagementConfig(t.Context(), &lambda.PutRuntimeManagementConfigInput{
		FunctionName: aws.String("hears"), UpdateRuntimeOn: types.UpdateRuntimeOnFunctionUpdate, // so that the rollout does not wait for its calls
	}); err != nil {
		t.Fatal(err)
	}
	for i := range figures.functions {
		name, code := fmt.Sprintf("f%02d", i), importsNothing
		if figures.broken[name] != "" {
			code = figures.broken[name]
		}
		create(t, c, &lambda.CreateFunctionInput{FunctionName: &name, Runtime: types.Runtime(runtime), Handler: aws.String("app.handler"),
			Code: &types.FunctionCode{ZipFile: zipOf(t, "app.py", code)},
			Tags: map[string]string{"berth:rollout-notice": "arn:aws:lambda:us-east-1:000000000001:function:hears"}})
		names = append(names, name)
	}
	return names
}

// checkVerdicts: the broken ones are pinned and no others; the only calls that failed are trial calls of those, for the module's sake.
func checkVerdicts(t *testing.T, d admin.RolloutDetail, figures *rolloutFigures, load *rolloutLoad) {
	t.Helper()
	if len(load.errors) > 0 {
		t.Errorf("%d calls ended with an error, for example: %s", len(load.errors), load.errors[0])
	}
	trialCalls, failed, seen := uint64(0), uint64(0), 0
	for _, f := range d.Evidence {
		wanted := figures.broken[f.Function] != ""
		if wanted != (f.Verdict == "Incompatible") {
			t.Errorf("%s is %s: %s", f.Function, f.Verdict, f.Reason)
		}
		if f.Notice != "sent" {
			t.Errorf("the notice of %s: %q", f.Function, f.Notice)
		}
		trialCalls += f.New.Calls
		for kind, n := range f.New.Failed {
			failed += n
			if !wanted {
				t.Errorf("%s: %d of %d calls in the new version count as %s", f.Function, n, f.New.Calls, kind)
			}
		}
		if wanted {
			t.Logf("%s: %s (notice %s)", f.Function, f.Reason, f.Notice)
		}
	}
	for name, n := range load.failed {
		seen += n
		if figures.broken[name] == "" || figures.broken[name] == importsAtInit || n > 60 { // the last runs in the old version then
			t.Errorf("callers saw %d calls of %s fail", n, name)
		}
	}
	t.Logf("of %d trial calls %d failed, as far as they were counted; callers saw %d", trialCalls, failed, seen)
}

// checkMoved: pinned functions are in the old version and say why, the others in the new one, and all of them work.
func checkMoved(t *testing.T, c *client.Client, figures *rolloutFigures, names []string, state *client.Runtime) {
	t.Helper()
	for _, name := range names {
		release := state.Releases[1]
		if figures.broken[name] != "" {
			release = state.Releases[0]
			out, err := c.Lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
			if err != nil || out.RuntimeVersionConfig.Error == nil || !strings.Contains(aws.ToString(out.RuntimeVersionConfig.Error.Message), "failed") {
				t.Errorf("the owner of %s is told %+v, %v", name, out.RuntimeVersionConfig, err)
			}
		}
		wantRuntime(t, c, name, "arn:aws:lambda:us-east-1::runtime:"+release.ID)
		for range 5 {
			if out, err := c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"n":2}`)}); err != nil || out.FunctionError != nil {
				t.Errorf("%s after the rollout: %v", name, err)
			}
		}
	}
}

// rolloutLoad calls functions in turn until it is told to stop, and counts what callers saw fail.
type rolloutLoad struct {
	bed    *rolloutBed
	names  atomic.Pointer[[]string] // some more than once: they are called more often
	found  atomic.Bool              // the broken ones are
	calls  atomic.Int64
	mu     sync.Mutex
	failed map[string]int
	errors []string
}

// favour calls functions without a verdict more often: the rollout waits for them.
func (l *rolloutLoad) favour(names []string, evidence []admin.RolloutFunction) {
	const often = 10 // ten times as often as all others together
	var more []string
	pinned := 0
	for _, f := range evidence {
		switch f.Verdict {
		case "":
			more = append(more, f.Function)
		case "Incompatible":
			pinned++
		}
	}
	l.found.Store(pinned >= len(brokenThree))
	if len(more) > 0 {
		names = slices.Concat(names, slices.Repeat(more, 1+often*len(names)/len(more)))
	}
	l.names.Store(&names)
}

func (l *rolloutLoad) run(ctx context.Context, from func() *[]string, first, step int) {
	for i := first; ctx.Err() == nil; i += step {
		clients, names := l.bed.clients(), *from()
		if len(clients) == 0 {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		c, name := clients[i%len(clients)], names[i%len(names)]
		out, err := c.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: fmt.Appendf(nil, `{"n":%d}`, rand.IntN(2))})
		l.calls.Add(1)
		if ctx.Err() != nil || !slices.Contains(l.bed.clients(), c) { // the server was killed meanwhile
			continue
		}
		l.mu.Lock()
		switch {
		case err != nil:
			l.errors = append(l.errors, name+": "+err.Error())
		case out.FunctionError != nil && bytes.Contains(out.Payload, []byte("No module named '"+removed+"'")):
			l.failed[name]++
		case out.FunctionError != nil:
			l.errors = append(l.errors, fmt.Sprintf("%s: %s", name, out.Payload))
		}
		l.mu.Unlock()
	}
}

// complaints are the warnings and errors among a server's log lines.
type complaints struct {
	mu   sync.Mutex
	all  []byte
	rest []byte // an unfinished line
}

// Write implements io.Writer.
func (c *complaints) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, p...)
	for {
		line, rest, whole := bytes.Cut(c.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		if bytes.Contains(line, []byte("level=WARN")) || bytes.Contains(line, []byte("level=ERROR")) {
			c.all = append(append(c.all, line...), '\n')
		}
		c.rest = rest
	}
}

// show shows them when the test has failed, or when everything is wanted.
func (c *complaints) show(t *testing.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) > 0 && (t.Failed() || testing.Verbose()) {
		t.Logf("the server complained:\n%s", c.all)
	}
}

// waitLong waits for what takes as long as the machine is slow.
func waitLong(t *testing.T, what string, condition func() bool) {
	t.Helper()
	const limit = 10 * time.Minute
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("waited %s until %s", limit, what)
}
