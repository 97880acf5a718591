package worker_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/code"
	"berth/lambda"
	"berth/logs"
	"berth/runtimes"
	"berth/sandbox/namespace"
	"berth/worker"
)

// real is a worker with real sandboxes, runtimes and code; only blobs, logs and owner are kept in memory.
type real struct {
	*worker.Worker
	t      testing.TB
	set    *runtimes.Set
	zips   zips
	next   atomic.Int64
	pooled bool
	mu     sync.Mutex
	lines  strings.Builder
}

func (r *real) Append(_ lambda.AccountID, _ string, events ...logs.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		r.lines.WriteString(e.Message)
	}
}

func (r *real) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.String()
}

func (*real) EnvironmentIdle(lambda.EnvironmentID, uint64) {}
func (*real) EnvironmentGone(lambda.EnvironmentID)         {}

// bothWays runs a test with environments that begin in parked sandboxes, and with those that are made on demand.
func bothWays(t *testing.T, test func(t *testing.T, r *real)) {
	t.Run("parked", func(t *testing.T) { test(t, newReal(t)) })
	t.Run("on demand", func(t *testing.T) { test(t, newReal(t, func(c *worker.Config) { c.ParkedBytes = -1 })) })
}

// newReal starts a worker, or skips.
func newReal(t testing.TB, change ...func(*worker.Config)) *real {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("real sandboxes with all their limits need root")
	}
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // runtimes and code are read by other users
		t.Fatal(err)
	}
	initProgram := buildInit(t, dir)
	driver, err := namespace.New(namespace.Config{StateDir: filepath.Join(dir, "sandboxes"), Init: initProgram})
	must(t, err)
	_, err = driver.Sweep(ctx)
	must(t, err)
	r := &real{t: t, zips: zips{}}
	r.set, err = runtimes.Discover(ctx, runtimes.Config{StateDir: dir})
	must(t, err)
	cache, err := code.NewCache(code.CacheConfig{Dir: filepath.Join(dir, "code"), Blobs: r.zips})
	must(t, err)
	config := worker.Config{
		ID: "w", Driver: driver, Runtimes: r.set, Code: cache, Logs: r, MemoryBytes: 64 << 30,
		Owners:     func(lambda.ManagerID) worker.Owner { return r },
		IdleFreeze: 50 * time.Millisecond,
		Credentials: func(*lambda.Version) worker.Credentials {
			return worker.Credentials{AccessKeyID: "ASIAX", SecretAccessKey: "s", SessionToken: "t"}
		},
	}
	for _, c := range change {
		c(&config)
	}
	r.pooled = config.ParkedBytes >= 0
	r.Worker, err = worker.New(config)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := driver.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func buildInit(t testing.TB, dir string) []byte {
	t.Helper()
	out := filepath.Join(dir, "init")
	if text, err := exec.Command("../sandbox/namespace/init/build.sh", out).CombinedOutput(); err != nil {
		t.Skipf("the sandbox init cannot be built here: %v %s", err, text)
	}
	program, err := os.ReadFile(out)
	must(t, err)
	return program
}

// runtime returns the name of one installed runtime of a language, or skips.
func (r *real) runtime(language string) string {
	r.t.Helper()
	for _, rt := range r.set.All() {
		if strings.HasPrefix(rt.Name, language) {
			return rt.Name
		}
	}
	r.t.Skipf("no %s on this host", language)
	return ""
}

// version stores files as code and returns a version that runs them.
func (r *real) version(runtime, handler string, files map[string]string) *lambda.Version {
	r.t.Helper()
	digest := r.zip(files)
	v := &lambda.Version{
		Account: "000000000001", Region: "us-east-1", Function: "hello", Number: lambda.Latest, ConfigID: "c", State: lambda.Active,
		Code: digest, Runtime: runtime, Handler: handler, MemoryMB: 256, Timeout: 5 * time.Second, EphemeralMB: 512,
		Env: map[string]string{"MINE": "1"},
	}
	must(r.t, r.Prepare(context.Background(), v))
	return v
}

// zip stores files as code or a layer.
func (r *real) zip(files map[string]string) lambda.CodeDigest {
	r.t.Helper()
	dir := r.t.TempDir()
	for name, text := range files {
		must(r.t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(r.t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	zip, err := code.Zip(dir)
	must(r.t, err)
	digest := lambda.CodeDigest(fmt.Sprintf("%x", sha256.Sum256(zip)))
	r.zips[digest] = zip
	return digest
}

// start starts an environment; where there is a pool, in a parked sandbox if v can take one. It waits for two of those: a take
// that was begun before may still be to come.
func (r *real) start(v *lambda.Version) lambda.Reservation {
	r.t.Helper()
	rt, err := r.set.Find(v.Runtime)
	must(r.t, err)
	if r.pooled && rt.CanTake(v.Env) {
		must(r.t, r.Prepare(context.Background(), v))
		for end := time.Now().Add(2 * time.Minute); r.ParkedFor(v) < 2; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				r.t.Fatal("no sandbox was parked")
			}
		}
	}
	return r.begin(v)
}

// begin starts an environment in whatever sandbox there is.
func (r *real) begin(v *lambda.Version) lambda.Reservation {
	r.t.Helper()
	id := lambda.EnvironmentID(fmt.Sprintf("real-%d", r.next.Add(1)))
	must(r.t, r.Start(context.Background(), lambda.StartRequest{Environment: id, Owner: "m", Version: v}))
	return lambda.Reservation{Environment: id}
}

func (r *real) call(res lambda.Reservation, payload string) *lambda.Outcome {
	r.t.Helper()
	inv := &lambda.Invocation{RequestID: "8c5a4b0e-0000-4000-8000-000000000001",
		InvokedARN: "arn:aws:lambda:us-east-1:000000000001:function:hello", Payload: []byte(payload), WantLog: true}
	out, err := r.Invoke(context.Background(), res, inv)
	for end := time.Now().Add(time.Minute); errors.Is(err, worker.ErrNotReserved) && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // it still works on the invocation before
		out, err = r.Invoke(context.Background(), res, inv)
	}
	must(r.t, err)
	return out
}

func (r *real) want(out *lambda.Outcome, class lambda.Class, pattern string) {
	r.t.Helper()
	if out.Class != class || !regexp.MustCompile(pattern).Match(out.Payload) {
		r.t.Errorf("got %s %s, want %s %s; log:\n%s", out.Class, out.Payload, class, pattern, r.log())
	}
}

const pythonSource = `
import os, sys, time, ctypes
count = 0
def handler(event, context):
    global count
    count += 1
    if event == "env": return dict(os.environ)
    if event == "raise": raise ValueError("boom")
    if event == "exit": sys.exit(0)
    if event == "exit3": os._exit(3)
    if event == "segv": os.kill(os.getpid(), 11)
    if event == "oom": x = bytearray(900 << 20); return len(x)
    if event == "write": open("/tmp/f", "w").write("kept"); time.sleep(60)
    if event == "read": return [open("/tmp/f").read(), count]
    if event == "big": return "x" * 7000000
    print("hello from", event)
    return {"event": event, "count": count}
`

func TestRealPython(t *testing.T) { bothWays(t, testRealPython) }

func testRealPython(t *testing.T, r *real) {
	v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": pythonSource})
	v.Timeout = 30 * time.Second // filling its memory takes a small function on a busy machine some seconds
	res := r.start(v)
	out := r.call(res, `"a"`)
	r.want(out, lambda.OK, `^{"event": ?"a", ?"count": ?1}$`)
	if !regexp.MustCompile(`^START RequestId: .*\nhello from a\nEND .*\nREPORT .*\tMax Memory Used: [1-9]\d* MB\tInit Duration: .* ms\t\n$`).Match(out.Log) {
		t.Errorf("log %q", out.Log)
	}
	for limit := time.Now().Add(time.Minute); r.Stats().Frozen != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("it is not frozen: %+v", r.Stats())
		}
	}
	r.want(r.call(res, `"b"`), lambda.OK, `"count": ?2`)
	r.want(r.call(res, `"raise"`), lambda.HandlerErr, `"errorMessage": ?"boom".*"errorType": ?"ValueError"`)
	r.want(r.call(res, `"exit"`), lambda.Exited, `"errorType":"Runtime.ExitError","errorMessage":"RequestId: .* Error: Runtime exited without providing a reason"`)
	r.want(r.call(res, `"exit3"`), lambda.Exited, `Runtime exited with error: exit status 3`)
	r.want(r.call(res, `"segv"`), lambda.Exited, `Runtime exited with error: signal: segmentation fault`)
	r.want(r.call(res, `"oom"`), lambda.OutOfMemory, `Runtime exited with error: signal: killed`)
	r.want(r.call(res, `"big"`), lambda.TooLarge, `Function.ResponseSizeTooLarge`)

	var env map[string]string
	must(t, json.Unmarshal(r.call(res, `"env"`).Payload, &env))
	maps.DeleteFunc(env, func(k, _ string) bool { return k == "_X_AMZN_TRACE_ID" })
	if env["MINE"] != "1" || env["AWS_LAMBDA_FUNCTION_NAME"] != "hello" || env["AWS_ACCESS_KEY_ID"] != "ASIAX" || env["AWS_EXECUTION_ENV"] != "AWS_Lambda_"+v.Runtime {
		t.Errorf("environment %v", env)
	}
	must(t, r.End(context.Background(), res.Environment))
}

func TestRealTimeout(t *testing.T) { bothWays(t, testRealTimeout) }

func testRealTimeout(t *testing.T, r *real) {
	v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": pythonSource})
	v.Timeout = 3 * time.Second
	res := r.start(v)
	r.want(r.call(res, `"write"`), lambda.TimedOut, `^{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: .* Error: Task timed out after 3.00 seconds"}$`)
	r.want(r.call(res, `"read"`), lambda.OK, `^\["kept", ?1\]$`)
}

func TestRealInitError(t *testing.T) { bothWays(t, testRealInitError) }

func testRealInitError(t *testing.T, r *real) {
	v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": "import nothing_like_this\n"})
	out := r.call(r.start(v), `1`)
	r.want(out, lambda.InitErr, `"errorType": ?"Runtime.ImportModuleError"`)
	v = r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": "import sys; sys.exit(7)\n"})
	r.want(r.call(r.start(v), `1`), lambda.Exited, `Runtime exited with error: exit status 7`)
}

func TestRealNode(t *testing.T) { bothWays(t, testRealNode) }

func testRealNode(t *testing.T, r *real) {
	v := r.version(r.runtime("nodejs"), "index.handler", map[string]string{"index.js": `
exports.handler = async (event) => { console.log("hello", event); if (event === "exit") process.exit(0); return {event, m: process.env.MINE} }`})
	res := r.start(v)
	out := r.call(res, `"a"`)
	r.want(out, lambda.OK, `^{"event":"a","m":"1"}$`)
	if !strings.Contains(string(out.Log), "hello a\n") {
		t.Errorf("log %q", out.Log)
	}
	r.want(r.call(res, `"exit"`), lambda.Exited, `Runtime exited without providing a reason`)
	r.want(r.call(res, `"b"`), lambda.OK, `"b"`)
}

func TestRealProvided(t *testing.T) { bothWays(t, testRealProvided) }

func testRealProvided(t *testing.T, r *real) {
	v := r.version("provided.al2023", "x", map[string]string{"h.txt": ""})
	r.want(r.call(r.start(v), `1`), lambda.Exited, `Runtime.InvalidEntrypoint.*Couldn't find valid bootstrap`)
	v = r.version("provided.al2023", "x", map[string]string{"bootstrap": "not a program"})
	r.want(r.call(r.start(v), `1`), lambda.Exited, `Runtime.InvalidEntrypoint.*fork/exec /var/task/bootstrap: exec format error`)
	v = r.version("provided.al2023", "x", map[string]string{"bootstrap": buildGo(t)})
	res := r.start(v)
	r.want(r.call(res, `"a"`), lambda.OK, `^"go: a"$`)
	r.want(r.call(res, `"b"`), lambda.OK, `^"go: b"$`)
}

// buildGo compiles an unmodified aws-lambda-go function.
func buildGo(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "bootstrap")
	main := filepath.Join("testdata", "gofunction")
	cmd := exec.Command("go", "build", "-o", out, "./"+main)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v %s", err, text)
	}
	program, err := os.ReadFile(out)
	must(t, err)
	return string(program)
}

func BenchmarkReal(b *testing.B) {
	for _, c := range []struct {
		language, handler string
		files             map[string]string
	}{
		{"python", "h.handler", map[string]string{"h.py": "def handler(e, c): return e\n"}},
		{"nodejs", "h.handler", map[string]string{"h.js": "exports.handler = async (e) => e\n"}},
		{"provided.al2023", "h", nil},
	} {
		b.Run(c.language, func(b *testing.B) {
			r := newReal(b)
			if c.files == nil {
				c.files = map[string]string{"bootstrap": buildGo(b)}
			}
			v := r.version(r.runtime(c.language), c.handler, c.files)
			v.MemoryMB = 1769
			b.Run("warm", func(b *testing.B) {
				res := r.start(v)
				r.call(res, `"a"`)
				for b.Loop() {
					r.call(res, `"a"`)
				}
				must(b, r.End(context.Background(), res.Environment))
			})
			b.Run("cold", func(b *testing.B) {
				for b.Loop() {
					res := r.start(v)
					r.call(res, `"a"`)
					b.StopTimer()
					must(b, r.End(context.Background(), res.Environment))
					b.StartTimer()
				}
			})
		})
	}
}
