package worker_test

import (
	"context"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"berth/lambda"
)

// wantTaken checks that n environments began in parked sandboxes.
func (r *real) wantTaken(n uint64) {
	r.t.Helper()
	if s := r.Stats(); s.ParkedStarts != n {
		r.t.Errorf("%d environments began in parked sandboxes, want %d; log:\n%s", s.ParkedStarts, n, r.log())
	}
}

const lookSource = `
import os, sys, time, random, uuid
born = time.time()
seeds = [random.random(), str(uuid.uuid4()), hash("x")]
def handler(event, context):
    if event == "seeds": return seeds
    if event == "fds": return sorted(os.readlink("/proc/self/fd/" + n).split(":")[0] for n in os.listdir("/proc/self/fd") if os.path.islink("/proc/self/fd/" + n))
    if event == "age": return time.time() - born
    if event == "now": return time.time()
    if event == "tmp": return sorted(os.listdir("/tmp"))
    if event == "fill":
        n = 0
        try:
            with open("/tmp/x", "wb") as f:
                while True: n += f.write(b"x" * (1 << 20))
        except OSError as e: return [n >> 20, e.errno]
    if event == "limits":
        import resource
        return [resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_NPROC)[0]]
    if event == "eat":
        x = bytearray(400 << 20)
        return len(x)
    if event == "task": return sorted(os.listdir("/var/task"))
    return {"env": dict(os.environ), "argv": sys.argv, "main": sys.modules["__main__"].__file__, "cwd": os.getcwd(), "path": sys.path,
            "zone": time.tzname[0], "hour": time.localtime(0).tm_hour, "fn": context.function_name, "uid": os.getuid(), "procs": sorted(n for n in os.listdir("/proc") if n.isdigit())}
`

// TestParkedLooksMade: a function in a parked sandbox sees what it sees in one that was made for it.
func TestParkedLooksMade(t *testing.T) {
	var seen []map[string]any
	bothWays(t, func(t *testing.T, r *real) {
		v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": lookSource})
		v.Env = map[string]string{"MINE": "ü = x\ny", "EMPTY": "", "TZ": "Asia/Tokyo"}
		v.Logging.Format = lambda.JSON
		res := r.start(v)
		var got map[string]any
		must(t, json.Unmarshal(r.call(res, `"all"`).Payload, &got))
		env := got["env"].(map[string]any)
		if env["MINE"] != "ü = x\ny" || env["EMPTY"] != "" || env["AWS_SESSION_TOKEN"] != "t" || got["zone"] != "JST" || got["hour"] != 9.0 {
			t.Errorf("%v", got)
		}
		if stream := env["AWS_LAMBDA_LOG_STREAM_NAME"].(string); !strings.Contains(stream, "[$LATEST]") {
			t.Errorf("log stream %q", stream)
		}
		delete(env, "AWS_LAMBDA_LOG_STREAM_NAME")
		seen = append(seen, got)
		if r.pooled {
			r.wantTaken(1)
		} else {
			r.wantTaken(0)
		}
		if n := strings.Count(r.log(), "INIT_START"); n > 1 {
			t.Errorf("%d INIT_START lines", n)
		}
	})
	if len(seen) == 2 && !reflect.DeepEqual(seen[0], seen[1]) {
		t.Errorf("parked and made differ:\n%v\n%v", seen[0], seen[1])
	}
}

// TestParkedIsOwn: two environments share no seed, file, descriptor or code, and init code runs in each; the clock is right.
func TestParkedIsOwn(t *testing.T) {
	r := newReal(t)
	v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": lookSource})
	other := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": lookSource, "secret.txt": "s"})
	other.Function, other.Env = "other", map[string]string{"OTHERS": "s"}
	other.Timeout = 2 * time.Minute // filling a /tmp takes a busy machine a while
	first := r.start(other)
	r.want(r.call(first, `"task"`), lambda.OK, `^\["h.py", ?"secret.txt"\]$`)
	r.want(r.call(first, `"fill"`), lambda.OK, `^\[5\d\d, ?28\]$`)
	time.Sleep(50 * time.Millisecond) // the next ones wait longer than they live
	second, third := r.start(v), r.start(v)
	a, b, c := r.call(first, `"seeds"`).Payload, r.call(second, `"seeds"`).Payload, r.call(third, `"seeds"`).Payload
	if string(a) == string(b) || string(b) == string(c) {
		t.Errorf("seeds %s %s %s", a, b, c)
	}
	r.want(r.call(second, `"task"`), lambda.OK, `^\["h.py"\]$`)
	r.want(r.call(second, `"tmp"`), lambda.OK, `^\[\]$`)
	if out := r.call(second, `"all"`); strings.Contains(string(out.Payload), "OTHERS") {
		t.Errorf("another function's variable: %s", out.Payload)
	}
	// null, two times the log pipe, the two pipes of frames, and what lists them
	r.want(r.call(second, `"fds"`), lambda.OK, `^\["/dev/null", ?("/proc/\d+/fd", ?)?"pipe", ?"pipe", ?"pipe", ?"pipe"\]$`)
	var now float64
	must(t, json.Unmarshal(r.call(second, `"now"`).Payload, &now))
	if d := time.Since(time.UnixMicro(int64(now * 1e6))); d < -time.Second || d > time.Minute {
		t.Errorf("the function's clock differs by %v", d)
	}
	r.wantTaken(3)
	for _, res := range []lambda.Reservation{first, second, third} {
		must(t, r.End(context.Background(), res.Environment))
	}
}

// TestParkedLimits: the limits of the function hold although the sandbox was made with others.
func TestParkedLimits(t *testing.T) {
	bothWays(t, func(t *testing.T, r *real) {
		v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": lookSource})
		v.MemoryMB, v.EphemeralMB, v.Timeout = 256, 600, 2*time.Minute
		res := r.start(v)
		r.want(r.call(res, `"fill"`), lambda.OK, `^\[6\d\d, ?28\]$`)
		r.want(r.call(res, `"eat"`), lambda.OutOfMemory, `signal: killed`)
		r.want(r.call(res, `"limits"`), lambda.OK, `^\[1024, ?742\]$`)
		large := *v
		large.MemoryMB, large.ConfigID = 1024, "c2"
		r.want(r.call(r.start(&large), `"eat"`), lambda.OK, `^419430400$`)
	})
}

// TestParkedNotForStartVariables: what must be there when a process starts is there.
func TestParkedNotForStartVariables(t *testing.T) {
	r := newReal(t)
	v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": "import sys\ndef handler(e, c): return [sys.flags.hash_randomization, sys.flags.optimize]\n"})
	v.Env = map[string]string{"PYTHONHASHSEED": "0", "PYTHONOPTIMIZE": "1"}
	r.want(r.call(r.start(v), `1`), lambda.OK, `^\[0, ?1\]$`)
	r.wantTaken(0)
}

func TestParkedNode(t *testing.T) {
	var heaps []string
	bothWays(t, func(t *testing.T, r *real) {
		v := r.version(r.runtime("nodejs"), "index.handler", map[string]string{"index.js": `
const r = [Math.random(), require('crypto').randomUUID()];
exports.handler = async (e) => e === 'seeds' ? r : {mine: process.env.MINE, cwd: process.cwd(), hour: new Date(0).getHours(), park: process.env._BERTH_PARK,
  dir: __dirname, heap: require('v8').getHeapStatistics().heap_size_limit, args: process.execArgv}`})
		v.Env["TZ"] = "Asia/Tokyo"
		a, b := r.start(v), r.start(v)
		out := r.call(a, `1`)
		r.want(out, lambda.OK, `^{"mine":"1","cwd":"/var/task","hour":9,"dir":"/var/task","heap":\d+,"args":\["--max-old-space-size=230"\]}$`)
		heaps = append(heaps, string(out.Payload))
		if x, y := r.call(a, `"seeds"`).Payload, r.call(b, `"seeds"`).Payload; string(x) == string(y) {
			t.Errorf("seeds %s", x)
		}
		if r.pooled {
			r.wantTaken(2)
		}
	})
	if len(heaps) == 2 && heaps[0] != heaps[1] {
		t.Errorf("parked %s, made %s", heaps[0], heaps[1])
	}
}

// TestParkedDies: a runtime that dies while it waits is replaced, and no function notices.
func TestParkedDies(t *testing.T) {
	r := newReal(t)
	v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": lookSource})
	r.start(v)
	for _, pid := range parkedProcesses(t) {
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
	for range 3 {
		r.want(r.call(r.start(v), `"tmp"`), lambda.OK, `^\[\]$`)
	}
}
