package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/lambda"
	"berth/worker"
)

// extensionSource is an external extension. EXT_MODE says how it behaves; what it sees goes to /tmp, which the function reads.
const extensionSource = `#!/var/lang/bin/python3 -S
import json, os, socket, sys, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
base, mode, name = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"], os.environ.get("EXT_MODE", ""), os.path.basename(sys.argv[0])
def note(*words):
    with open("/tmp/" + name, "a") as f: f.write(json.dumps(words) + "\n")
def call(method, path, body=None, **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    r = urllib.request.Request(base + path, None if body is None else json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(r) as a: return a.headers, a.read()
if mode == "leave": sys.exit(0)
note("env", sorted(k for k in os.environ if k in ("_HANDLER", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_FUNCTION_NAME", "MINE", "PYTHONPATH")))
head, body = call("POST", "/2020-01-01/extension/register", {"events": ["INVOKE", "SHUTDOWN"]},
    Lambda_Extension_Name=name, Lambda_Extension_Accept_Feature="accountId")
note("registered", json.loads(body))
me = {"Lambda_Extension_Identifier": head["Lambda-Extension-Identifier"]}
class Sink(BaseHTTPRequestHandler):
    def do_POST(self):
        for e in json.loads(self.rfile.read(int(self.headers["Content-Length"]))): note("telemetry", e["type"], e["record"])
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
def lines(s):
    for line in s.accept()[0].makefile(): note("tcp", json.loads(line)["type"])
if mode == "telemetry":
    server = HTTPServer(("", 4243), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    note("subscribed", call("PUT", "/2022-07-01/telemetry", {"schemaVersion": "2022-12-13", "types": ["platform", "function", "extension"],
        "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25}, "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/x"}}, **me)[1].decode())
if mode == "tcp":
    s = socket.create_server(("127.0.0.1", 4244))
    threading.Thread(target=lines, args=(s,), daemon=True).start()
    call("PUT", "/2020-08-15/logs", {"types": ["platform", "function"], "buffering": {"timeoutMs": 25}, "destination": {"protocol": "TCP", "port": 4244}}, **me)
print("extension", name, "up", flush=True)
if mode == "initerror":
    call("POST", "/2020-01-01/extension/init/error", {}, Lambda_Extension_Function_Error_Type="Mine.Bad", **me)
    sys.exit(0)
if mode == "sleepinit": time.sleep(60)
while True:
    event = json.loads(call("GET", "/2020-01-01/extension/event/next", **me)[1])
    note("event", event["eventType"], event.get("requestId"), event.get("shutdownReason"), event["deadlineMs"] > time.time() * 1000)
    if event["eventType"] == "SHUTDOWN":
        print("extension", name, "bye", event["shutdownReason"], flush=True)
        if mode == "stay": time.sleep(60)
        sys.exit(0)
    if mode == "crash": sys.exit(3)
    if mode == "hang": time.sleep(60)
`

const extendedSource = `
import os, sys, time
open("/tmp/began", "a").write("x")
def handler(event, context):
    print("function says", event)
    if event == "exit": os._exit(1)
    if event == "sleep": time.sleep(60)
    if event in ("one", "two"): return open("/tmp/" + event).read()
    return event
`

// extended is a function with extensions in a layer.
func (r *real) extended(mode string, files map[string]string) *lambda.Version {
	r.t.Helper()
	v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": extendedSource})
	v.Env, v.Timeout = map[string]string{"MINE": "1", "EXT_MODE": mode}, 20*time.Second
	v.MemoryMB = 512
	return r.layered(v, files)
}

// unpooled makes all sandboxes on demand: how they come into being matters to TestExtensions only.
func unpooled(c *worker.Config) { c.ParkedBytes = -1 }

func one() map[string]string { return map[string]string{"extensions/one": extensionSource} }

// until calls the function until its answer matches.
func (r *real) until(res lambda.Reservation, payload, pattern string) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out := r.call(res, payload)
		if out.Class == lambda.OK && regexp.MustCompile(pattern).Match(out.Payload) {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("the function never answered %s, but %s %s; log:\n%s", pattern, out.Class, out.Payload, r.log())
		}
	}
}

// logged waits for a pattern in the log.
func (r *real) logged(pattern string) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !regexp.MustCompile(pattern).MatchString(r.log()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("no %q in the log:\n%s", pattern, r.log())
		}
	}
}

func TestExtensions(t *testing.T) {
	bothWays(t, func(t *testing.T, r *real) {
		v := r.extended("", map[string]string{"extensions/one": extensionSource, "extensions/two": extensionSource, "extensions/lib/x": "no program"})
		res := r.start(v)
		r.want(r.call(res, `"a"`), lambda.OK, `^"a"$`)
		r.logged(`(?s)INIT_START.*EXTENSION\tName: one\tState: Ready\tEvents: \[INVOKE, SHUTDOWN\]\nEXTENSION\tName: two\tState: Ready\tEvents: \[INVOKE, SHUTDOWN\]\nSTART`)
		r.logged(`extension one up\n`)
		r.until(res, `"one"`, `registered.*accountId[^}]*000000000001.*functionName[^}]*hello`)
		out := r.call(res, `"two"`)
		r.want(out, lambda.OK, `AWS_LAMBDA_FUNCTION_NAME.{1,12}MINE[^_]*registered.*INVOKE.*8c5a4b0e.*INVOKE`)
		if strings.Contains(string(out.Payload), "_HANDLER") || strings.Contains(string(out.Payload), "PYTHONPATH") {
			t.Errorf("the extension sees the runtime's variables: %s", out.Payload)
		}
		must(t, r.End(context.Background(), res.Environment))
		r.logged(`extension one bye spindown\n`)
		r.wantPooled(1)
	})
}

// TestInternalExtension: the runtime's own process registers one while it initialises.
func TestInternalExtension(t *testing.T) {
	r := newReal(t, unpooled)
	v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": `
import json, os, queue, threading, urllib.request
base, got = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2020-01-01/extension/", queue.Queue()
def call(path, headers, body=None):
    with urllib.request.urlopen(urllib.request.Request(base + path, body, headers)) as a: return a.headers["Lambda-Extension-Identifier"], json.loads(a.read())
me, _ = call("register", {"Lambda-Extension-Name": "inner"}, b'{"events": ["INVOKE"]}')
def work():
    while True: got.put(call("event/next", {"Lambda-Extension-Identifier": me})[1])
threading.Thread(target=work, daemon=True).start()
def handler(event, context): return got.get()["requestId"] == context.aws_request_id
`})
	v.Timeout = 30 * time.Second
	res := r.start(v)
	for range 3 {
		r.want(r.call(res, `1`), lambda.OK, `^true$`)
	}
	r.logged(`EXTENSION\tName: inner\tState: Ready\tEvents: \[INVOKE\]\n`)
	must(t, r.End(context.Background(), res.Environment))
}

func TestExtensionTelemetry(t *testing.T) {
	r := newReal(t, unpooled)
	res := r.start(r.extended("telemetry", one()))
	r.call(res, `"a"`)
	r.logged(`TELEMETRY\tName: one\tState: Subscribed\tTypes: \[Platform, Function, Extension\]\n`)
	r.until(res, `"one"`, `platform.report`)
	out := r.call(res, `"one"`)
	var text string
	must(t, json.Unmarshal(out.Payload, &text))
	for _, kind := range []string{"platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone", "platform.extension", "platform.initReport",
		"platform.start", "platform.runtimeDone", "platform.report"} {
		if !strings.Contains(text, fmt.Sprintf(`["telemetry", %q, {`, kind)) {
			t.Errorf("no %s in\n%s", kind, text)
		}
	}
	for _, line := range []string{`["telemetry", "function", "function says a"]`, `["telemetry", "extension", "extension one up"]`, `["subscribed", "\"OK\""]`} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

func TestExtensionLogsTCP(t *testing.T) {
	r := newReal(t, unpooled)
	res := r.start(r.extended("tcp", one()))
	r.call(res, `"a"`)
	r.logged(`LOGS\tName: one\tState: Subscribed\tTypes: \[platform,function\]\n`)
	r.until(res, `"one"`, `tcp.*platform.start.*tcp.*function.*tcp.*platform.end.*tcp.*platform.report`)
}

// TestExtensionFailures: an extension that fails fails its environment, and the next call starts both anew.
func TestExtensionFailures(t *testing.T) {
	r := newReal(t, unpooled)
	for _, c := range []struct{ mode, answer, log string }{
		{"leave", `^{"errorType":"Extension.Crash","errorMessage":"RequestId: \S+ Error: exit code 0"}$`, `INIT_REPORT .*Status: error\tError Type: Extension.Crash\n`},
		{"initerror", `^{"errorType":"Extension.InitError","errorMessage":"RequestId: \S+ Error: exit code 0"}$`,
			`EXTENSION\tName: one\tState: InitError\tEvents: \[INVOKE, SHUTDOWN\]\tError Type: Mine.Bad\n`},
		{"crash", `^{"errorType":"Extension.Crash","errorMessage":"RequestId: \S+ Error: exit status 3"}$`, `State: Ready`},
	} {
		res := r.start(r.extended(c.mode, one()))
		r.want(r.call(res, `"sleep"`), lambda.Exited, c.answer)
		r.logged(c.log)
		r.want(r.call(res, `"sleep"`), lambda.Exited, c.answer)
	}
	res := r.start(r.extended("", map[string]string{"extensions/one": "nothing that runs"}))
	r.want(r.call(res, `"a"`), lambda.Exited, `^{"errorType":"Extension.LaunchError","errorMessage":"RequestId: \S+ Error: fork/exec /opt/extensions/one: exec format error"}$`)
	r.logged(`EXTENSION\tName: one\tState: LaunchError\tEvents: \[\]\tError Type: UnknownError\n`)
}

// TestExtensionReset: when the runtime ends, extensions are told why, and begin anew with it.
func TestExtensionReset(t *testing.T) {
	r := newReal(t, unpooled)
	v := r.extended("", one())
	v.Timeout = 5 * time.Second
	res := r.start(v)
	r.want(r.call(res, `"exit"`), lambda.Exited, `Runtime.ExitError`)
	r.logged("extension one bye failure\n")
	r.until(res, `"one"`, `SHUTDOWN.{1,30}failure.{1,10}true.*registered`)
	r.want(r.call(res, `"sleep"`), lambda.TimedOut, `Task timed out`)
	r.logged("extension one bye timeout\n")
	r.until(res, `"one"`, `SHUTDOWN.{1,30}timeout.*registered`)
}

// idle waits until no environment runs.
func (r *real) idle() {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); r.Stats().Environments[worker.Idle] == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("never idle: %v", r.Stats().Environments)
		}
	}
}

// TestExtensionKeepsEnvironment: the caller has its answer at once, but the environment is busy until the extension asks again.
func TestExtensionKeepsEnvironment(t *testing.T) {
	r := newReal(t, unpooled)
	v := r.extended("hang", one())
	v.Timeout = time.Minute
	r.want(r.call(r.start(v), `"a"`), lambda.OK, `"a"`)
	if s := r.Stats(); s.Environments[worker.Running] != 1 {
		t.Errorf("the environment is %v while its extension works", s.Environments)
	}
}

// TestExtensionHangs: the function's time limit is its extensions', too.
func TestExtensionHangs(t *testing.T) {
	r := newReal(t, unpooled)
	v := r.extended("hang", one())
	v.Timeout = 5 * time.Second
	res := r.start(v)
	for range 2 {
		r.want(r.call(res, `"a"`), lambda.OK, `"a"`)
		r.idle()
	}
	r.logged(`(?s)extension one up.*extension one up`) // it was started anew
}

// TestExtensionStays: an extension that does not end is killed in time.
func TestExtensionStays(t *testing.T) {
	r := newReal(t, unpooled)
	res := r.start(r.extended("stay", one()))
	r.call(res, `"a"`)
	r.idle()
	began := time.Now()
	must(t, r.End(context.Background(), res.Environment))
	if took := time.Since(began); took < time.Second {
		t.Errorf("the end took %v, want 2 s", took)
	}
	r.logged("extension one bye spindown\n")
}

// TestExecWrapper: a script in a layer wraps the runtime's command, which must be started for it.
func TestExecWrapper(t *testing.T) {
	r := newReal(t)
	v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": "import os\ndef handler(e, c): return os.environ.get('WRAPPED')\n"})
	v.Env = map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}
	r.layered(v, map[string]string{"wrapper": "#!/bin/sh\nexport WRAPPED=\"$#\"\nexec \"$@\"\n"})
	r.want(r.call(r.start(v), `1`), lambda.OK, `^"\d"$`)
	r.wantTaken(0)
}
