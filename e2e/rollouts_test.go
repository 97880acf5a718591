package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
)

// removed is the module of the standard library that the second version of the runtime lacks.
const removed = "colorsys"

// The functions of the rollout test: all but three do not know the module.
const (
	rolloutFunctions = 30
	importsAtInit    = "import " + removed + "\ndef handler(event, context):\n    return 1\n"
	importsInCalls   = "def handler(event, context):\n    import " + removed + "\n    return 1\n"
	importsForSome   = "def handler(event, context):\n    if event['n'] % 2 == 0:\n        import " + removed + "\n    return 1\n"
	importsNothing   = "def handler(event, context):\n    return 1\n"
	hears            = "import json\ndef handler(event, context):\n    print('heard', json.dumps(event))\n"
)

// pythonTrees copies the distribution's Python into two directories, each the root of a file system: as it is, and without the
// removed module.
func pythonTrees(t *testing.T) (runtime, whole, lacking string) {
	t.Helper()
	found, _ := filepath.Glob("/usr/bin/python3.*")
	i := slices.IndexFunc(found, func(p string) bool { return regexp.MustCompile(`/python3\.(9|1[0-4])$`).MatchString(p) })
	if i < 0 {
		t.Skip("there is no /usr/bin/python3.N of a distribution here to make two versions of")
	}
	runtime = filepath.Base(found[i])
	if _, err := os.Stat("/usr/lib/" + runtime + "/" + removed + ".py"); err != nil {
		t.Skipf("the standard library of %s is not in /usr/lib: %v", found[i], err)
	}
	whole, lacking = t.TempDir(), t.TempDir()
	libraries, err := exec.Command("ldd", found[i]).Output()
	if err != nil {
		t.Skipf("ldd %s: %v", found[i], err)
	}
	files := append([]string{found[i]}, regexp.MustCompile(`/[^ ]+\.so[^ ]*`).FindAllString(string(libraries), -1)...)
	err = filepath.WalkDir("/usr/lib/"+runtime, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{"test", "dist-packages", "idlelib", "ensurepip", "lib2to3", "tkinter", "pydoc_data"}, d.Name()),
			d.IsDir() && strings.HasPrefix(d.Name(), "config-"):
			return filepath.SkipDir
		case d.Type().IsRegular():
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		copyInto(t, path, whole)
		if !strings.HasPrefix(filepath.Base(path), removed+".") {
			copyInto(t, path, lacking)
		}
	}
	return runtime, whole, lacking
}

func copyInto(t *testing.T, path, root string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(to, info.ModTime(), info.ModTime()); err != nil { // else Python compiles what it finds compiled
		t.Fatal(err)
	}
}

// rolloutLoad calls functions in turn until it is told to stop, and counts what callers saw fail.
type rolloutLoad struct {
	names  []string
	client atomic.Pointer[client.Client] // nil: the server is away
	calls  atomic.Int64
	mu     sync.Mutex
	failed map[string]int
	errors []string
}

func (l *rolloutLoad) run(ctx context.Context, from, step int) {
	for i := from; ctx.Err() == nil; i += step {
		c := l.client.Load()
		if c == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		name := l.names[i%len(l.names)]
		out, err := c.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: fmt.Appendf(nil, `{"n":%d}`, i/len(l.names))})
		l.calls.Add(1)
		switch {
		case ctx.Err() != nil || l.client.Load() != c: // the server was killed meanwhile
		case err != nil:
			l.mu.Lock()
			l.errors = append(l.errors, name+": "+err.Error())
			l.mu.Unlock()
		case out.FunctionError != nil:
			l.mu.Lock()
			l.failed[name]++
			l.mu.Unlock()
		}
	}
}

// TestG_RealRollout: two versions of Python that differ by a module, 30 functions of which 3 need it: exactly these are pinned, and
// no other call fails. The server is killed in the middle (G12).
//
// It takes three minutes, so it runs when BERTH_LONG is set; the rules of rollouts are tested in virtual time, in package control.
func TestG_RealRollout(t *testing.T) {
	if os.Getenv("BERTH_LONG") == "" {
		t.Skip("takes three minutes: set BERTH_LONG=1 to run it")
	}
	needServer(t)
	runtime, whole, lacking := pythonTrees(t)
	data := t.TempDir()
	args := []string{"--image-dir", whole, "--image-dir", lacking, "--rollout-pace", "2s", "--memory", "32000"}
	s := start(t, data, args...)
	command := func(args ...string) string {
		t.Helper()
		out, errs, code := berth(t, nil, append([]string{"--data", data, "--json"}, args...)...)
		if code != 0 {
			t.Fatalf("berth %q: %d %s %s", args, code, out, errs)
		}
		return out
	}
	command("runtime", "publish", runtime, "--from", "dir:"+whole)
	c := client.New(s.Client)
	load := &rolloutLoad{failed: map[string]int{}}
	load.client.Store(c)
	create(t, c, &lambda.CreateFunctionInput{FunctionName: aws.String("hears"), Runtime: types.Runtime(runtime), Handler: aws.String("app.handler"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, "app.py", hears)}})
	broken := map[int]string{5: importsAtInit, 14: importsInCalls, 23: importsForSome}
	for i := range rolloutFunctions {
		name, code := fmt.Sprintf("f%02d", i), importsNothing
		if broken[i] != "" {
			code = broken[i]
		}
		create(t, c, &lambda.CreateFunctionInput{FunctionName: &name, Runtime: types.Runtime(runtime), Handler: aws.String("app.handler"),
			Code: &types.FunctionCode{ZipFile: zipOf(t, "app.py", code)},
			Tags: map[string]string{"berth:rollout-notice": "arn:aws:lambda:us-east-1:000000000001:function:hears"}})
		load.names = append(load.names, name)
	}
	all := slices.Clone(load.names)
	for range 4 { // some are called more often: on a slow machine the others are undecided
		load.names = append(load.names, all[:6]...)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() { load.run(ctx, i, 4) })
	}
	began := time.Now()
	command("runtime", "publish", runtime, "--candidate", "--from", "dir:"+lacking)
	detail := func() (d admin.RolloutDetail) {
		c := load.client.Load()
		d, err := c.Rollout(t.Context(), runtime, admin.MaxRolloutFunctions)
		if err != nil {
			return admin.RolloutDetail{}
		}
		return d
	}
	waitLong(t, "the first function is pinned", func() bool { return detail().Functions["Incompatible"] > 0 })

	load.client.Store(nil)
	s.Kill()
	c.Close()
	s = start(t, data, args...)
	c = client.New(s.Client)
	defer c.Close()
	load.client.Store(c)
	waitLong(t, "the rollout is done", func() bool { return detail().Phase == "done" })
	took := time.Since(began)
	stop()
	callers.Wait()

	d := detail()
	t.Logf("%d calls in %v; verdicts %v; calls that callers saw fail: %v", load.calls.Load(), took.Round(time.Second), d.Functions, load.failed)
	if len(load.errors) > 0 {
		t.Errorf("%d calls ended with an error, for example: %s", len(load.errors), load.errors[0])
	}
	for _, f := range d.Evidence {
		wanted := f.Function == "f05" || f.Function == "f14" || f.Function == "f23"
		if wanted != (f.Verdict == "Incompatible") {
			t.Errorf("%s is %s: %s", f.Function, f.Verdict, f.Reason)
		}
		if wanted {
			t.Logf("%s: %s (notice %s)", f.Function, f.Reason, f.Notice)
		}
	}
	for name, n := range load.failed {
		if name != "f14" && name != "f23" || n > 60 {
			t.Errorf("callers saw %d calls of %s fail", n, name)
		}
	}
	var state client.Runtime
	if err := json.Unmarshal([]byte(command("runtime", "show", runtime)), &state); err != nil || state.Current != state.Releases[1].ID || state.Candidate != "" {
		t.Errorf("the runtime: %+v, %v", state, err)
	}
	arn := func(i int) string { return "arn:aws:lambda:us-east-1::runtime:" + state.Releases[i].ID }
	wantRuntime(t, c, "f00", arn(1))
	wantRuntime(t, c, "f05", arn(0))
	out, err := c.Lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("f14")})
	if err != nil || out.RuntimeVersionConfig.Error == nil || !strings.Contains(aws.ToString(out.RuntimeVersionConfig.Error.Message), "failed") {
		t.Errorf("its owner is told %+v, %v", out.RuntimeVersionConfig, err)
	}
	for _, name := range all { // and all of them work
		if out, err := c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"n":2}`)}); err != nil || out.FunctionError != nil {
			t.Errorf("%s after the rollout: %v", name, err)
		}
	}
	waitUntil(t, "the owner has heard of each verdict once", func() bool {
		out, _, _ := berth(t, nil, "--data", data, "logs", "hears")
		return strings.Count(out, "berth.rollout.verdict") >= rolloutFunctions
	})
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
