package runtimes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/runtimeapi"
)

// discovered is what this host has, found once for all tests.
var discovered = sync.OnceValues(func() (*Set, error) {
	dir, err := os.MkdirTemp("", "berth-runtimes-")
	if err != nil {
		return nil, err
	}
	stateDir = dir
	return Discover(context.Background(), config(dir))
})

// config looks in the default places, and in those of BERTH_TEST_SEARCH: directories of more interpreters to test with.
func config(stateDir string) Config {
	extra := filepath.SplitList(os.Getenv("BERTH_TEST_SEARCH"))
	return Config{StateDir: stateDir, Search: append(slices.Clone(DefaultSearch), extra...)}
}

var stateDir string

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(stateDir)
	os.Exit(code)
}

// installed returns the host's runtimes of one language, or skips.
func installed(t testing.TB, language string) []*Runtime {
	t.Helper()
	set, err := discovered()
	if err != nil {
		t.Fatal(err)
	}
	var found []*Runtime
	for _, r := range set.All() {
		if strings.HasPrefix(r.Name, language) {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		t.Skipf("no %s interpreter in %s", language, strings.Join(DefaultSearch, ", "))
	}
	return found
}

// process is a runtime that runs as a plain process of the host, in place of the sandbox.
type process struct {
	t    testing.TB
	api  *runtimeapi.API
	cmd  *exec.Cmd
	log  string // file that gets stdout and stderr
	root string
	done chan error // the process's end
	up   chan error // what became of its init phase
}

// source is the files of a function, by name.
type source map[string]string

// start runs the function with rt until the test ends.
func start(t testing.TB, rt *Runtime, src source, handler string, env ...string) *process {
	t.Helper()
	return startAs(t, rt, src, handler, false, env...)
}

// startAs starts the process with the function's environment, or parks it first and then hands that over.
func startAs(t testing.TB, rt *Runtime, src source, handler string, parks bool, env ...string) *process {
	t.Helper()
	root := t.TempDir()
	for name, text := range src {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	// What the sandbox shows through its mounts is spelled out here.
	shown := []string{"/var/task", root}
	for _, m := range rt.Mounts {
		if m.Target == "/var/lang" || m.Target == "/var/runtime" {
			shown = append(shown, m.Target, m.Source)
		}
	}
	replace := strings.NewReplacer(shown...)
	p := &process{t: t, api: runtimeapi.New(runtimeapi.Config{}), log: filepath.Join(root, ".log"), root: root, done: make(chan error, 1), up: make(chan error, 1)}
	var args []string
	for _, a := range rt.Command {
		args = append(args, replace.Replace(a))
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Dir = root
	vars := map[string]string{}
	for _, e := range slices.Concat(rt.Env, standardEnv, []string{"_HANDLER=" + handler}, env) {
		name, value, _ := strings.Cut(replace.Replace(e), "=")
		vars[name] = value
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		all = append(all, name+"="+vars[name])
	}
	p.cmd.Env = all
	if !parks {
		p.run(nil)
		return p
	}
	p.cmd.Dir, p.cmd.Env = "/", []string{ParkVariable + "=" + rt.Ahead, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256"}
	for _, e := range rt.Env {
		p.cmd.Env = append(p.cmd.Env, replace.Replace(e))
	}
	p.run(append(TakeFrame(p.cmd.Env, all, false), GoFrame()...))
	return p
}

var standardEnv = []string{
	"AWS_LAMBDA_FUNCTION_NAME=fn", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
	"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/fn", "AWS_LAMBDA_LOG_STREAM_NAME=stream",
}

// run starts the process. With a take frame, and go, it waits until the process is parked, and sends that.
func (p *process) run(take []byte) {
	ours, theirs, err := runtimeapi.Pipes()
	if err != nil {
		p.t.Fatal(err)
	}
	log, err := os.Create(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = log, log, theirs[:]
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	theirs.Close()
	log.Close()
	if take != nil {
		if err := AwaitParked(ours); err != nil {
			p.t.Fatal(err, p.logs())
		}
		if _, err := ours.Write(take); err != nil {
			p.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	up := make(chan struct{})
	go func() {
		close(up)
		p.up <- p.api.WaitReady(ctx)
		cancel()
	}()
	<-up
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := p.api.ServeConn(context.Background(), ours, nil); errors.Is(err, runtimeapi.ErrProtocol) {
			p.t.Error(err)
		}
		ours.Close()
	}()
	go func() {
		p.done <- p.cmd.Wait()
		<-served
		p.api.Reset()
	}()
	p.t.Cleanup(func() {
		p.api.Close()
		_ = p.cmd.Process.Kill()
		<-served
	})
}

const requestID = "8b0b3b1c-3d5c-4b8e-9d3e-2a1f0c9e7d6b"

// event is what the tests invoke with, unless they say more.
func event(payload string) *runtimeapi.Event {
	return &runtimeapi.Event{RequestID: requestID, Deadline: time.Now().Add(10 * time.Second), Payload: []byte(payload),
		InvokedARN: "arn:aws:lambda:us-east-1:000000000001:function:fn"}
}

// invoke returns the answer: its payload, with "E:TYPE " before it if it is an error.
func (p *process) invoke(payload string) string {
	p.t.Helper()
	return p.invokeEvent(event(payload))
}

func (p *process) invokeEvent(ev *runtimeapi.Event) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := runtimeapi.Response{}, <-p.up
	p.up <- err
	if err == nil {
		r, err = p.api.Invoke(ctx, ev)
	}
	if init := (*runtimeapi.InitError)(nil); errors.As(err, &init) {
		return "I:" + init.ErrorType + " " + string(init.Payload)
	}
	if err != nil {
		return "failed: " + err.Error()
	}
	if r.IsError {
		return "E:" + r.ErrorType + " " + string(r.Payload)
	}
	return string(r.Payload)
}

// exit waits for the process to end and returns its status.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		p.t.Fatal("the process did not end")
		return 0
	}
}

func (p *process) logs() string {
	p.t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// object decodes an answer's JSON, with the function's folder written as /var/task.
func (p *process) object(answer string) map[string]any {
	p.t.Helper()
	_, text, found := strings.Cut(answer, "{")
	var m map[string]any
	if err := json.Unmarshal([]byte("{"+strings.ReplaceAll(text, p.root, "/var/task")), &m); !found || err != nil {
		p.t.Fatalf("not an object: %s", answer)
	}
	return m
}

// want compares an answer, in which %s of format stands for the request id.
func want(t testing.TB, got, format string, args ...any) {
	t.Helper()
	if w := fmt.Sprintf(format, args...); got != w {
		t.Errorf("\n got %s\nwant %s", got, w)
	}
}

func jsonText(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
