package runtimes

import (
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestCanTake(t *testing.T) {
	booted, empty := &Runtime{Parks: true, Frames: true}, &Runtime{Parks: true}
	for _, c := range []struct {
		rt   *Runtime
		name string
		want bool
	}{
		{booted, "TABLE", true}, {booted, "TZ", true}, {booted, "PATH", true}, {booted, "HOME", true}, {booted, "PWD", false}, {booted, "PYTHONHASHSEED", false}, {booted, "NODE_OPTIONS", false},
		{booted, "LD_PRELOAD", false}, {booted, "MALLOC_ARENA_MAX", false}, {booted, "OPENSSL_CONF", false}, {booted, "LC_ALL", false},
		{booted, "AWS_LAMBDA_EXEC_WRAPPER", false}, {booted, "_BERTH_PARK", false},
		{empty, "LD_PRELOAD", true}, {&Runtime{Frames: true}, "TABLE", false},
	} {
		if got := c.rt.CanTake(map[string]string{"A": "1", c.name: "x"}); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// parked starts a function's process before the function is there, and then gives it.
func parked(t testing.TB, rt *Runtime, src source, handler string, env ...string) *process {
	t.Helper()
	return startAs(t, rt, src, handler, true, env...)
}

// parking a runtime changes nothing that a function sees: each case runs both ways.
func bothWays(t *testing.T, language string, f func(t *testing.T, rt *Runtime, start func(testing.TB, *Runtime, source, string, ...string) *process)) {
	for _, rt := range installed(t, language) {
		t.Run(rt.Name+"/started", func(t *testing.T) { f(t, rt, start) })
		t.Run(rt.Name+"/parked", func(t *testing.T) { f(t, rt, parked) })
	}
}

func TestParkedPythonLooksStarted(t *testing.T) {
	const handler = `
import os, sys, time, json, random, logging
first = random.random()
logging.getLogger().warning("in init %s", os.environ["MINE"])
def handler(event, context):
    if event == "log":
        logging.getLogger().warning("now")
    return {"env": dict(os.environ), "argv": sys.argv, "main": sys.modules["__main__"].__file__, "cwd": os.getcwd(), "path": sys.path,
            "name": context.function_name, "memory": context.memory_limit_in_mb, "stream": context.log_stream_name, "zone": time.tzname[0],
            "hour": time.localtime(0).tm_hour, "fds": sorted(os.listdir("/proc/self/fd"))[:-1], "home": os.popen("echo $MINE").read(),
            "logger": [type(h).__name__ for h in logging.getLogger().handlers]}
`
	seen := map[string]string{}
	bothWays(t, "python", func(t *testing.T, rt *Runtime, start func(testing.TB, *Runtime, source, string, ...string) *process) {
		p := start(t, rt, source{"h.py": handler}, "h.handler", "MINE=\u00fc =x", "TZ=Asia/Tokyo", "AWS_LAMBDA_LOG_LEVEL=INFO")
		answer := p.object(p.invoke(`"log"`))
		if answer["zone"] != "JST" || answer["hour"] != 9.0 || answer["home"] != "\u00fc =x\n" || answer["name"] != "fn" || answer["memory"] != "256" {
			t.Errorf("answer %v", answer)
		}
		text := strings.ReplaceAll(jsonText(t, answer), p.root, "/var/task")
		if old := seen[rt.Name]; old != "" && old != text {
			t.Errorf("parked and started differ:\n%s\n%s", old, text)
		}
		seen[rt.Name] = text
		if log := p.logs(); !strings.Contains(log, "[WARNING]\t") || !strings.Contains(log, "in init \u00fc =x") || !strings.Contains(log, requestID+"\tnow") {
			t.Errorf("log %q", log)
		}
	})
}

// TestParkedPythonShadowing: a file of the function wins over a module that was imported ahead.
func TestParkedPythonShadowing(t *testing.T) {
	bothWays(t, "python", func(t *testing.T, rt *Runtime, start func(testing.TB, *Runtime, source, string, ...string) *process) {
		p := start(t, rt, source{"h.py": "import base64, encodings\nfrom own import x\ndef handler(e, c): return [base64.mine, x]", "base64.py": "mine = 1", "own/__init__.py": "x = 2"}, "h.handler")
		want(t, p.invoke(`1`), `[1, 2]`)
		p = start(t, rt, source{"h.py": "import base64\ndef handler(e, c): return base64.b64encode(b'x')", "base32.py": ""}, "h.handler")
		want(t, p.invoke(`1`), `eA==`)
	})
}

func TestParkedPythonInitErrors(t *testing.T) {
	bothWays(t, "python", func(t *testing.T, rt *Runtime, start func(testing.TB, *Runtime, source, string, ...string) *process) {
		p := start(t, rt, source{"h.py": "import nothing_like_this"}, "h.handler")
		if got := p.invoke(`1`); !strings.HasPrefix(got, "I:Runtime.ImportModuleError ") {
			t.Error(got)
		}
		if p.exit() != 1 {
			t.Error("exit status")
		}
	})
}

// TestParkedPythonImports: a handler's module is what importlib makes of it, however it was found.
func TestParkedPythonImports(t *testing.T) {
	const shows = `import sys
def handler(e, c):
    m = sys.modules[__name__]
    return [sorted(vars(m)), repr(m), m.__file__, m.__cached__, repr(vars(m.__spec__)), repr(vars(m.__loader__)), repr(m.__package__), repr(sys.meta_path[0]),
        handler.__code__.co_filename, __doc__, "_berth_parking" in sys.modules]
`
	cases := []struct {
		handler string
		files   source
	}{
		{"h.handler", source{"h.py": shows}},
		{"h.handler", source{"h.py": "# -*- coding: latin-1 -*-\n'\xe9'\n" + shows}},
		{"h.handler", source{"h.py": "\ufeff" + shows + strings.Repeat("# long\n", 20000)}},
		{"h.handler", source{"h.py": "", "h/__init__.py": shows}},
		{"h.handler", source{"h.py": shows, "h/other.py": "x = 1"}},
		{"h.handler", source{"h.py": shows, "__pycache__/h.x": ""}},
		{"h.handler", source{"h.py": shows, "h.so": "not a library"}},
		{"a/h.handler", source{"a/h.py": shows}},
		{"a.h.handler", source{"a/h.py": shows}},
		{"h.handler", source{"h.py/x": ""}},
		{"h.handler", source{"h.py": ""}},
		{"h.handler", source{"h.py": "x = 1\n1 / 0\n"}},
		{"h.handler", source{"h.py": "def broken(:\n"}},
		{"h.handler", source{"h.py": "x = '\x00'\n"}},
		{"h.handler", source{"h.py": "import other", "other.py": "import nothing_like_this"}},
		{"h.handler", source{"x.py": ""}},
		{"__hello__.handler", source{"__hello__.py": shows}},
		{"json.handler", source{"json.py": shows}},
		{"logging.handler", source{"logging.py": shows}},
		{"handler", source{"handler.py": shows}},
		{"../h.handler", source{"h.py": shows}},
	}
	seen := map[string]string{}
	bothWays(t, "python", func(t *testing.T, rt *Runtime, start func(testing.TB, *Runtime, source, string, ...string) *process) {
		for i, c := range cases {
			p := start(t, rt, c.files, c.handler)
			answer := pointer.ReplaceAllString(strings.ReplaceAll(p.invoke(`1`)+p.logs(), p.root, "/var/task"), "0x")
			key := fmt.Sprint(rt.Name, i)
			if old, both := seen[key]; both && old != answer {
				t.Errorf("%s of %v: parked and started differ:\n%s\n%s", c.handler, slices.Sorted(maps.Keys(c.files)), old, answer)
			}
			seen[key] = answer
		}
	})
}

// pointer is what differs in texts from process to process.
var pointer = regexp.MustCompile(`0x[0-9a-f]+`)

func TestTakeFrame(t *testing.T) {
	has := []string{"A=1", "B=2", "C=x=y", "GONE="}
	for _, c := range []struct {
		env    []string
		layers bool
		want   string
	}{
		{[]string{"A=1", "B=2", "C=x=y", "GONE=", "PWD=/", "SHLVL=0", "_=x", "OLDPWD="}, false, "T\x00PWD=/\x00SHLVL=0\x00_=x\x00OLDPWD="},
		{[]string{"A=", "B=2\n=\xff", "C=x=y", "D", "PWD=/"}, true, "T\x01A=\x00B=2\n=\xff\x00PWD=/\x00GONE\x00OLDPWD\x00SHLVL\x00_"},
	} {
		frame := TakeFrame(has, c.env, c.layers)
		if got := string(frame[4:]); got != c.want || int(binary.LittleEndian.Uint32(frame)) != len(c.want) {
			t.Errorf("%q\nwant %q", frame, c.want)
		}
	}
}

// TestParkedPythonRandom: no two processes share seeds.
func TestParkedPythonRandom(t *testing.T) {
	for _, rt := range installed(t, "python") {
		seen := map[string]bool{}
		for range 3 {
			p := parked(t, rt, source{"h.py": "import random, uuid\nr = [random.random(), str(uuid.uuid4()), hash('x')]\ndef handler(e, c): return r"}, "h.handler")
			seen[p.invoke(`1`)] = true
		}
		if len(seen) != 3 {
			t.Errorf("%v", seen)
		}
	}
}

func TestParkedNodeLooksStarted(t *testing.T) {
	const handler = `
const first = process.env.MINE;
console.log("in init", first);
const order = [];
Promise.resolve().then(() => order.push("promise"));
process.nextTick(() => order.push("tick"));
exports.handler = async (event, context) => ({ first, env: process.env, argv: process.argv, cwd: process.cwd(), main: require.main && require.main.filename,
  name: context.functionName, memory: context.memoryLimitInMB, stream: context.logStreamName, hour: new Date(0).getHours(), exec: process.execArgv,
  child: require('child_process').execSync('echo $MINE').toString(), path: module.paths[0], heap: require('v8').getHeapStatistics().heap_size_limit,
  fds: require('fs').readdirSync('/proc/self/fd').length < 40, global: require('module').globalPaths, order });
`
	seen := map[string]string{}
	bothWays(t, "nodejs", func(t *testing.T, rt *Runtime, start func(testing.TB, *Runtime, source, string, ...string) *process) {
		p := start(t, rt, source{"h.js": handler}, "h.handler", "MINE=\u00fc =x", "TZ=Asia/Tokyo", "HOME=/tmp/home")
		answer := p.object(p.invoke(`1`))
		if answer["hour"] != 9.0 || answer["child"] != "\u00fc =x\n" || answer["name"] != "fn" || answer["memory"] != "256" || answer["first"] != "\u00fc =x" {
			t.Errorf("answer %v", answer)
		}
		text := strings.ReplaceAll(jsonText(t, answer), p.root, "/var/task")
		if old := seen[rt.Name]; old != "" && old != text {
			t.Errorf("parked and started differ:\n%s\n%s", old, text)
		}
		seen[rt.Name] = text
		if log := p.logs(); !strings.Contains(log, "in init \u00fc =x") {
			t.Errorf("log %q", log)
		}
	})
}

func TestParkedNodeRandom(t *testing.T) {
	for _, rt := range installed(t, "nodejs") {
		seen := map[string]bool{}
		for range 3 {
			p := parked(t, rt, source{"h.js": "const r = [Math.random(), require('crypto').randomUUID()]; exports.handler = async () => r"}, "h.handler")
			seen[p.invoke(`1`)] = true
		}
		if len(seen) != 3 {
			t.Errorf("%v", seen)
		}
	}
}

// TestParkedNodeModule: an ES module, and one whose name the waiting process has used for itself.
func TestParkedNodeModule(t *testing.T) {
	bothWays(t, "nodejs", func(t *testing.T, rt *Runtime, start func(testing.TB, *Runtime, source, string, ...string) *process) {
		p := start(t, rt, source{"app.mjs": "export const handler = async (e) => [import.meta.url.split('/').pop(), process.env.MINE]"}, "app.handler", "MINE=1")
		want(t, p.invoke(`1`), `["app.mjs","1"]`)
		p = start(t, rt, source{"rehearsal.js": "exports.handler = async () => 'mine'"}, "rehearsal.handler")
		want(t, p.invoke(`1`), `"mine"`)
	})
}
