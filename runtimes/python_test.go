package runtimes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"berth/runtimeapi"
)

// everyPython runs a test with each Python of the host.
func everyPython(t *testing.T, f func(t *testing.T, rt *Runtime)) {
	for _, rt := range installed(t, "python") {
		t.Run(rt.Name, func(t *testing.T) { f(t, rt) })
	}
}

func TestPythonAnswers(t *testing.T) {
	const handler = `
import decimal
def handler(event, context):
    return eval(event["e"])
`
	everyPython(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"h.py": handler}, "h.handler")
		for _, c := range []struct{ expr, want string }{
			{`{"a": [1, 2.5, None, True], "b": {}}`, `{"a": [1, 2.5, null, true], "b": {}}`},
			{`None`, `null`},
			{`"text"`, `"text"`},
			{`b"\x00raw\xff"`, "\x00raw\xff"},
			{`{"n": b"bytes"}`, `{"n": "bytes"}`},
			{`[decimal.Decimal("1.10"), decimal.Decimal("1E+3")]`, `[1.10, 1E+3]`},
			{`(1, "x")`, `[1, "x"]`},
			{`{1: 2, None: 3, 2.5: 4}`, `{"1": 2, "null": 3, "2.5": 4}`},
			{`event["e"][:0] + "x" * 100000`, `"` + strings.Repeat("x", 100000) + `"`},
		} {
			payload, err := json.Marshal(map[string]string{"e": c.expr})
			if err != nil {
				t.Fatal(err)
			}
			want(t, p.invoke(string(payload)), "%s", c.want)
		}
		umlaut := `"\u00fc"`
		if rt.Name >= "python3.12" && len(rt.Name) == len("python3.12") {
			umlaut = `"ü"`
		}
		want(t, p.invoke(`{"e":"'\u00fc'"}`), "%s", umlaut)
		want(t, p.invoke(" \n{\"e\": \"event['x']\", \"x\": [1e3, -5, true, null, \"\\ud83d\\ude00\"]}\t"),
			"%s", strings.Replace(`[1000.0, -5, true, null, GRIN]`, "GRIN", map[bool]string{true: `"\ud83d\ude00"`, false: `"😀"`}[umlaut != `"ü"`], 1))
	})
}

func TestPythonMarshalErrors(t *testing.T) {
	const handler = `
def handler(event, context):
    loop = []
    loop.append(loop)
    return {"set": {1}, "loop": loop, "nan": float("nan"), "key": {(1, 2): 3}, "class": handler}[event]
`
	everyPython(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"h.py": handler}, "h.handler")
		fault := func(kind, message string) string {
			return `E:Runtime.` + kind + ` {"errorMessage": "` + message + `", "errorType": "Runtime.` + kind + `", "requestId": "` +
				requestID + `", "stackTrace": []}`
		}
		want(t, p.invoke(`"set"`), "%s", fault("MarshalError", "Unable to marshal response: Object of type set is not JSON serializable"))
		want(t, p.invoke(`"class"`), "%s", fault("MarshalError", "Unable to marshal response: Object of type function is not JSON serializable"))
		want(t, p.invoke(`"loop"`), "%s", fault("MarshalError", "Unable to marshal response: Circular reference detected"))
		want(t, p.invoke(`"key"`), "%s", fault("MarshalError", "Unable to marshal response: keys must be str, int, float, bool or None, not tuple"))
		if got := p.invoke(`"nan"`); !strings.Contains(got, "Unable to marshal response: Out of range float values are not JSON compliant") {
			t.Error(got)
		}
		want(t, p.invoke(`{"a":}`), "%s", fault("UnmarshalError", "Unable to unmarshal input: Expecting value: line 1 column 6 (char 5)"))
		want(t, p.invoke(``), "%s", fault("UnmarshalError", "Unable to unmarshal input: Expecting value: line 1 column 1 (char 0)"))
		want(t, p.invoke(`{} x`), "%s", fault("UnmarshalError", "Unable to unmarshal input: Extra data: line 1 column 4 (char 3)"))
	})
}

func TestPythonContext(t *testing.T) {
	const handler = `
import os, sys
def handler(event, c):
    cc = c.client_context
    return {
        "id": c.aws_request_id, "name": c.function_name, "version": c.function_version, "arn": c.invoked_function_arn,
        "memory": c.memory_limit_in_mb, "group": c.log_group_name, "stream": c.log_stream_name, "tenant": c.tenant_id,
        "identity": [c.identity.cognito_identity_id, c.identity.cognito_identity_pool_id],
        "client": cc and [cc.custom, cc.env, cc.client and cc.client.app_title],
        "time": 9000 < c.get_remaining_time_in_millis() <= 10000, "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "path": [p.replace(os.getcwd(), "/var/task") for p in sys.path[:3]], "exit": exit.__class__.__name__,
        "repr": repr(c)[:29],
    }
`
	everyPython(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"h.py": handler}, "h.handler")
		expect := map[string]any{
			"id": requestID, "name": "fn", "version": "$LATEST", "arn": "arn:aws:lambda:us-east-1:000000000001:function:fn",
			"memory": "256", "group": "/aws/lambda/fn", "stream": "stream", "tenant": nil, "identity": []any{nil, nil},
			"client": nil, "time": true, "trace": nil, "exit": "Quitter", "repr": "LambdaContext([aws_request_id"[:29],
			"path": []any{"/var/task", "/opt/python/lib/" + rt.Name + "/site-packages", "/opt/python"},
		}
		if got := p.object(p.invoke("1")); !reflect.DeepEqual(got, expect) {
			t.Errorf("\n got %v\nwant %v", got, expect)
		}
		ev := event("1")
		ev.TraceID, ev.Tenant, ev.CognitoIdentity = "Root=1-2-3", "blue", `{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}`
		ev.ClientContext = `{"custom":{"k":"v"},"client":{"app_title":"T"}}`
		expect["trace"], expect["tenant"], expect["identity"] = "Root=1-2-3", "blue", []any{"i", "p"}
		expect["client"] = []any{map[string]any{"k": "v"}, nil, "T"}
		if got := p.object(p.invokeEvent(ev)); !reflect.DeepEqual(got, expect) {
			t.Errorf("\n got %v\nwant %v", got, expect)
		}
		ev = event("1")
		ev.ClientContext = "{"
		if got := p.invokeEvent(ev); !strings.HasPrefix(got, `E:Runtime.LambdaContextUnmarshalError {"errorMessage": "Unable to parse Client Context JSON: `) {
			t.Error(got)
		}
		if got := p.object(p.invoke("1")); got["trace"] != nil {
			t.Errorf("the trace id of an earlier event is left: %v", got["trace"])
		}
	})
}

// The form of the recorded answers (test_lambda_handler_error, test_lambda_runtime_error).
func TestPythonRaises(t *testing.T) {
	everyPython(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"lambda_handler_error.py": "def handler(event, context):\n    raise Exception(\"Handler fails\")\n"}, "lambda_handler_error.handler")
		answer := p.invoke("{}")
		want(t, strings.ReplaceAll(answer, p.root, "/var/task"), "%s", `E:Exception {"errorMessage": "Handler fails", "errorType": "Exception", "requestId": "`+requestID+
			`", "stackTrace": ["  File \"/var/task/lambda_handler_error.py\", line 2, in handler\n    raise Exception(\"Handler fails\")\n"]}`)
		matchRecording(t, "invoke::TestLambdaErrors::test_lambda_handler_error", p.object(answer))
		want(t, strings.ReplaceAll(p.logs(), p.root, "/var/task"), "%s", "[ERROR] Exception: Handler fails\nTraceback (most recent call last):\n"+
			"\u00a0\u00a0File \"/var/task/lambda_handler_error.py\", line 2, in handler\n\u00a0\u00a0\u00a0\u00a0raise Exception(\"Handler fails\")\n")

		p = start(t, rt, source{"lambda_runtime_error.py": "raise Exception(\"Runtime startup fails\")\n"}, "lambda_runtime_error.handler")
		answer = p.invoke("{}")
		got := p.object(answer)
		if !strings.HasPrefix(answer, "I:Exception ") || got["requestId"] != "" {
			t.Error(answer)
		}
		matchStack(t, got["stackTrace"].([]any))
		stack := got["stackTrace"].([]any)
		first, last := stack[0].(string), stack[len(stack)-1].(string)
		if !strings.Contains(first, `importlib/__init__.py", line `) || !strings.Contains(first, ", in import_module\n    return _bootstrap._gcd_import(name[level:], package, level)\n") {
			t.Errorf("first frame %q", first)
		}
		want(t, last, "%s", "  File \"/var/task/lambda_runtime_error.py\", line 1, in <module>\n    raise Exception(\"Runtime startup fails\")\n")
		if p.exit() != 1 {
			t.Error("a failed init must end the process")
		}
	})
}

// An exception that cannot be shown as it is must not cost the environment.
func TestPythonRaisesWhatCannotBeShown(t *testing.T) {
	const handler = `
import sys
class Mute(Exception):
    def __str__(self): raise ValueError("no")
def handler(event, context):
    if event == "mute": raise Mute()
    if event == "closed": sys.stdout.close()
    raise Exception("no file \ud800")
`
	everyPython(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"h.py": handler}, "h.handler")
		for _, c := range []struct{ event, want string }{
			{`"mute"`, `E:Mute {"errorMessage": "<exception str() failed>"`},
			{`"lone surrogate"`, `E:Exception {"errorMessage": "no file `},
			{`"closed"`, `E:Exception {"errorMessage": "no file `},
			{`"mute"`, `E:Mute {`},
		} {
			if answer := p.invoke(c.event); !strings.HasPrefix(answer, c.want) {
				t.Errorf("%s: %q", c.event, answer)
			}
		}
		if logs := p.logs(); !strings.Contains(logs, "[ERROR] Mute: <exception") || !strings.Contains(logs, `[ERROR] Exception: no file \ud800`) {
			t.Errorf("%q", logs)
		}
	})
}

func TestPythonInitErrors(t *testing.T) {
	everyPython(t, func(t *testing.T, rt *Runtime) {
		for _, c := range []struct {
			handler, kind, message string
			src                    source
		}{
			{"nodot", "MalformedHandlerName", "Bad handler 'nodot': not enough values to unpack (expected 2, got 1)", nil},
			{"missing.handler", "ImportModuleError", "Unable to import module 'missing': No module named 'missing'", nil},
			{"a/b.handler", "ImportModuleError", "Unable to import module 'a/b': No module named 'a'", nil},
			{"h.handler", "ImportModuleError", "Unable to import module 'h': No module named 'nowhere'", source{"h.py": "import nowhere"}},
			{"h.nope", "HandlerNotFound", "Handler 'nope' missing on module 'h'", source{"h.py": ""}},
			{"sys.exit", "BuiltInModuleConflict", "Cannot use built-in module sys as a handler module", nil},
		} {
			p := start(t, rt, c.src, c.handler)
			want(t, p.invoke("1"), "%s", `I:Runtime.`+c.kind+` {"errorMessage": "`+c.message+`", "errorType": "Runtime.`+c.kind+`", "requestId": "", "stackTrace": []}`)
			want(t, p.logs(), "[ERROR] Runtime.%s: %s\nTraceback (most recent call last):\n", c.kind, c.message)
		}
		p := start(t, rt, source{"h.py": "def f(:\n  pass\n"}, "h.f")
		got := p.object(p.invoke("1"))
		if got["errorType"] != "Runtime.UserCodeSyntaxError" || got["errorMessage"] != "Syntax error in module 'h': invalid syntax (h.py, line 1)" ||
			!reflect.DeepEqual(got["stackTrace"], []any{"  File \"/var/task/h.py\" Line 1\n    def f(:\n"}) {
			t.Errorf("%v", got)
		}
	})
}

func TestPythonModulesAndExit(t *testing.T) {
	everyPython(t, func(t *testing.T, rt *Runtime) {
		src := source{"pkg/sub/mod.py": "import helper\ndef f(e, c):\n    if e == 'exit': exit(3)\n    return helper.X\n", "helper.py": "X = 7\n"}
		for _, handler := range []string{"pkg/sub/mod.f", "pkg.sub.mod.f"} {
			p := start(t, rt, src, handler)
			want(t, p.invoke("1"), "7")
			want(t, p.invoke(`"exit"`), "failed: %s", runtimeapi.ErrReset)
			if code := p.exit(); code != 3 {
				t.Errorf("exit status %d", code)
			}
		}
		p := start(t, rt, source{"h.py": "import sys\nsys.exit(0)\n"}, "h.f")
		want(t, p.invoke("1"), "failed: %s", runtimeapi.ErrReset)
	})
}

func TestPythonLogs(t *testing.T) {
	const handler = `
print("init")
import logging
def handler(event, context):
    print("multi\nline\nstring")
    print("another\rline")
    print("no newline", end="")
    logging.getLogger().setLevel("INFO")
    logging.info("info %s", 1)
    logging.getLogger("x").warning("warn", extra={"k": 5})
    try:
        1 / 0
    except Exception:
        logging.exception("exc")
    context.log("raw\n")
    if event: raise ValueError("bad")
`
	const stamp = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`
	everyPython(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"h.py": handler}, "h.handler")
		want(t, p.invoke("0"), "null")
		text := "^init\nmulti\nline\nstring\nanother\rline\nno newline" +
			`\[INFO\]\tSTAMP\tID\tinfo 1\n\[WARNING\]\tSTAMP\tID\twarn\n\[ERROR\]\tSTAMP\tID\texc\nTraceback[^\0]*ZeroDivisionError: division by zero\nraw\n$`
		matchLines(t, p.logs(), strings.NewReplacer("STAMP", stamp, "ID", requestID).Replace(text))

		p = start(t, rt, source{"h.py": handler}, "h.handler", "AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=WARN")
		p.invoke("1")
		text = `\{"timestamp": "STAMP", "level": "INFO", "message": "info 1", "logger": "root", "requestId": "ID"\}\n` +
			`\{"timestamp": "STAMP", "level": "WARNING", "message": "warn", "logger": "x", "requestId": "ID", "k": 5\}\n` +
			`\{"timestamp": "STAMP", "level": "ERROR", "message": "exc", "logger": "root", "stackTrace": \[.*\], "errorType": "ZeroDivisionError", ` +
			`"errorMessage": "division by zero", "requestId": "ID", "location": ".*/h.py:handler:\d+"\}\nraw\n` +
			`\{"timestamp": "STAMP", "level": "ERROR", "errorMessage": "bad", "errorType": "ValueError", "requestId": "ID", "stackTrace": \[.*\]\}\n$`
		matchLines(t, p.logs(), strings.NewReplacer("STAMP", stamp, "ID", requestID).Replace(text))
	})
}

func matchLines(t *testing.T, got, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("log\n%s\ndoes not match\n%s", got, pattern)
	}
}

func TestPythonWrapper(t *testing.T) {
	const wrapper = "#!/bin/sh\nexport WRAPPED=yes\nexec \"$@\"\n"
	const handler = "import os\ndef handler(e, c):\n    return [os.environ['WRAPPED'], '_BERTH_WRAPPED' in os.environ]\n"
	everyPython(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"h.py": handler, "wrap": wrapper}, "h.handler", "AWS_LAMBDA_EXEC_WRAPPER=/var/task/wrap")
		want(t, p.invoke("1"), `["yes", false]`)
		for file, status := range map[string]int{"gone": 127, "h.py": 126} {
			p = start(t, rt, source{"h.py": handler}, "h.handler", "AWS_LAMBDA_EXEC_WRAPPER=/var/task/"+file)
			if got := p.exit(); got != status {
				t.Errorf("wrapper %s: exit status %d, want %d", file, got, status)
			}
		}
	})
}

// recordings is the folder of answers recorded on AWS; tests that need it skip without.
func recordings(t *testing.T) map[string]struct{ Answers map[string]json.RawMessage } {
	t.Helper()
	dir := os.Getenv("LAMBDA_RECORDINGS")
	if dir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "recordings.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct{ Answers map[string]json.RawMessage }
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// matchStack compares the trace of a failed import with the recorded one, but for the interpreter's version: its line
// numbers, and where its library lies.
func matchStack(t *testing.T, got []any) {
	t.Helper()
	all := recordings(t)
	if all == nil {
		return
	}
	var recorded struct{ Payload struct{ StackTrace []string } }
	if err := json.Unmarshal(all["invoke::TestLambdaErrors::test_lambda_runtime_error"].Answers["invocation_error"], &recorded); err != nil {
		t.Fatal(err)
	}
	varying := regexp.MustCompile(`line \d+|"/\S+/lib/python3\.\d+/`)
	want := recorded.Payload.StackTrace
	if len(got) != len(want) {
		t.Errorf("%d frames, recorded %d", len(got), len(want))
		return
	}
	for i := range want {
		if g, w := varying.ReplaceAllString(got[i].(string), "*"), varying.ReplaceAllString(want[i], "*"); g != w {
			t.Errorf("frame %d is %q, recorded %q", i, g, w)
		}
	}
}

// matchRecording compares an error payload with the recorded one; placeholders such as <uuid> match anything.
func matchRecording(t *testing.T, id string, got map[string]any) {
	t.Helper()
	all := recordings(t)
	if all == nil {
		return
	}
	var recorded struct{ Payload map[string]any }
	if err := json.Unmarshal(all[id].Answers["invocation_error"], &recorded); err != nil {
		t.Fatal(err)
	}
	for key, w := range recorded.Payload {
		if s, ok := w.(string); ok && strings.HasPrefix(s, "<") {
			w = got[key]
		}
		if !reflect.DeepEqual(got[key], w) {
			t.Errorf("%s: %s is %v, recorded %v", id, key, got[key], w)
		}
	}
	if len(got) != len(recorded.Payload) {
		t.Errorf("%s: %d members, recorded %d", id, len(got), len(recorded.Payload))
	}
}
