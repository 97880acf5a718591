package runtimes

import (
	"reflect"
	"strings"
	"testing"

	"berth/runtimeapi"
)

// everyNode runs a test with each Node of the host.
func everyNode(t *testing.T, f func(t *testing.T, rt *Runtime)) {
	for _, rt := range installed(t, "nodejs") {
		t.Run(rt.Name, func(t *testing.T) { f(t, rt) })
	}
}

func TestNodeHandlerForms(t *testing.T) {
	everyNode(t, func(t *testing.T, rt *Runtime) {
		esm := source{"package.json": `{"type": "module"}`, "index.js": "const x = await Promise.resolve(5);\nexport const handler = async (e) => ({ x, e });\n"}
		for _, c := range []struct {
			name, handler string
			src           source
			want          string
		}{
			{"async", "index.handler", source{"index.js": "exports.handler = async (e) => ({ got: e });"}, `{"got":{"k":"ü"}}`},
			{"callback", "index.handler", source{"index.js": "exports.handler = (e, c, cb) => { setTimeout(() => cb(null, e), 5); };"}, `{"k":"ü"}`},
			{"callback does not wait", "index.handler", source{"index.js": "exports.handler = (e, c, cb) => { c.callbackWaitsForEmptyEventLoop = false; setInterval(() => {}, 1000); cb(null, 1); };"}, `1`},
			{"waits for the loop", "index.handler", source{"index.js": "let n = 0;\nexports.handler = (e, c, cb) => { const r = { toJSON: () => n }; setTimeout(() => { n = 2; }, 20); cb(null, r); };"}, `2`},
			{"nothing", "index.handler", source{"index.js": "exports.handler = () => {};"}, `null`},
			{"undefined", "index.handler", source{"index.js": "exports.handler = async () => {};"}, `null`},
			{"done", "index.handler", source{"index.js": "exports.handler = (e, c) => { c.done(null, 'd'); };"}, `"d"`},
			{"succeed", "index.handler", source{"index.js": "exports.handler = (e, c) => { c.succeed('s'); c.fail('late'); };"}, `"s"`},
			{"thenable", "index.handler", source{"index.js": "exports.handler = () => ({ then(f) { f([1]); return Promise.resolve(); } });"}, `[1]`},
			{"mjs", "index.handler", source{"index.mjs": "const x = await Promise.resolve(4);\nexport const handler = async () => x;"}, `4`},
			{"cjs", "index.handler", source{"index.cjs": "exports.handler = async () => 'cjs';"}, `"cjs"`},
			{"type module", "index.handler", esm, `{"x":5,"e":{"k":"ü"}}`},
			{"nested", "a/b/mod.x.y.h", source{"a/b/mod.js": "module.exports.x = { y: { h: async () => 6 } };"}, `6`},
			{"package", "pkg.handler", source{"node_modules/pkg/package.json": `{"main": "m.js"}`, "node_modules/pkg/m.js": "exports.handler = async () => 'pkg';"}, `"pkg"`},
			{"streaming", "index.handler", source{"index.js": "exports.handler = awslambda.streamifyResponse(async (e, s) => { s.write('a'); s.write({ b: 1 }); s.end('c'); });"}, `a{"b":1}c`},
			{"http stream", "index.handler", source{"index.js": "exports.handler = awslambda.streamifyResponse(async (e, s, c) => { s = awslambda.HttpResponseStream.from(s, { statusCode: 201 }); s.write('x'); s.end(); });"},
				"{\"statusCode\":201}\x00\x00\x00\x00\x00\x00\x00\x00x"},
		} {
			t.Run(c.name, func(t *testing.T) {
				p := start(t, rt, c.src, c.handler)
				for range 3 {
					want(t, p.invoke(`{"k":"ü"}`), "%s", c.want)
				}
			})
		}
	})
}

func TestNodeLargePayloads(t *testing.T) {
	everyNode(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"index.js": "exports.handler = async (e) => e + e;"}, "index.handler")
		for _, n := range []int{1, 5000, 100_000, 1_000_000} {
			text := strings.Repeat("aü€😀", n/4)
			want(t, p.invoke(`"`+text+`"`), "%s", `"`+text+text+`"`)
		}
		ctx := t.Context()
		r, err := p.api.Invoke(ctx, event(`"`+strings.Repeat("x", 4<<20)+`"`))
		if err != nil || !r.TooLarge {
			t.Errorf("an answer of 8 MiB: %v %v", err, r.TooLarge)
		}
		want(t, p.invoke(`"x"`), `"xx"`)
	})
}

func TestNodeContext(t *testing.T) {
	const handler = `
exports.handler = async (event, c) => ({
  id: c.awsRequestId, name: c.functionName, version: c.functionVersion, arn: c.invokedFunctionArn, memory: c.memoryLimitInMB,
  group: c.logGroupName, stream: c.logStreamName, tenant: c.tenantId, identity: c.identity, client: c.clientContext,
  waits: c.callbackWaitsForEmptyEventLoop, trace: process.env._X_AMZN_TRACE_ID,
  time: c.getRemainingTimeInMillis() > 9000 && c.getRemainingTimeInMillis() <= 10000,
});`
	everyNode(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"index.js": handler}, "index.handler")
		expect := map[string]any{
			"id": requestID, "name": "fn", "version": "$LATEST", "arn": "arn:aws:lambda:us-east-1:000000000001:function:fn",
			"memory": "256", "group": "/aws/lambda/fn", "stream": "stream", "waits": true, "time": true,
		}
		if got := p.object(p.invoke("1")); !reflect.DeepEqual(got, expect) {
			t.Errorf("\n got %v\nwant %v", got, expect)
		}
		ev := event("1")
		ev.TraceID, ev.Tenant, ev.CognitoIdentity, ev.ClientContext = "Root=1-2-3", "blue", `{"cognitoIdentityId":"i"}`, `{"custom":1}`
		expect["trace"], expect["tenant"], expect["identity"], expect["client"] = "Root=1-2-3", "blue", map[string]any{"cognitoIdentityId": "i"}, map[string]any{"custom": 1.0}
		if got := p.object(p.invokeEvent(ev)); !reflect.DeepEqual(got, expect) {
			t.Errorf("\n got %v\nwant %v", got, expect)
		}
		ev.ClientContext = "{"
		if got := p.object(p.invokeEvent(ev)); !strings.HasPrefix(got["errorMessage"].(string), "Cannot parse ClientContext as json: SyntaxError") {
			t.Error(got)
		}
		if got := p.object(p.invoke("1")); got["trace"] != nil {
			t.Errorf("the trace id of an earlier event is left: %v", got["trace"])
		}
	})
}

func TestNodeErrors(t *testing.T) {
	const handler = `
class MyError extends Error { constructor(m) { super(m); this.name = 'MyError'; this.code = 'C'; } }
exports.handler = (event, c, cb) => {
  switch (event) {
    case 'throw': throw new MyError('thrown');
    case 'callback': return cb(new TypeError('called'));
    case 'string': return Promise.reject('text');
    case 'fail': return c.fail();
    case 'bigint': return Promise.resolve(1n);
    default: return Promise.resolve('fine');
  }
};`
	everyNode(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"index.js": handler}, "index.handler")
		for _, c := range []struct{ event, kind, message, trace string }{
			{"throw", "MyError", "thrown", "MyError: thrown"},
			{"callback", "TypeError", "called", "TypeError: called"},
			{"string", "string", "text", ""},
			{"fail", "string", "handled", ""},
			{"bigint", "Error", "Unable to stringify response body", "Error: Unable to stringify response body"},
		} {
			answer := p.invoke(`"` + c.event + `"`)
			got := p.object(answer)
			trace, _ := got["trace"].([]any)
			if !strings.HasPrefix(answer, `E:`+c.kind+` {"errorType":"`+c.kind+`","errorMessage":"`+c.message+`","trace":[`) || len(got) != 3 ||
				(c.trace == "") != (len(trace) == 0) || len(trace) > 0 && trace[0] != c.trace {
				t.Errorf("%s: %s", c.event, answer)
			}
			if c.event == "throw" && (!strings.HasPrefix(trace[1].(string), "    at ") || !strings.HasSuffix(trace[1].(string), "(/var/task/index.js:5:25)")) {
				t.Errorf("trace %q", trace)
			}
			want(t, p.invoke(`1`), `"fine"`)
		}
		log := strings.ReplaceAll(p.logs(), p.root, "/var/task")
		matchLines(t, log, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t`+requestID+`\tERROR\tInvoke Error \t\{"errorType":"MyError","errorMessage":"thrown","code":"C","name":"MyError","stack":\["MyError: thrown",.*\n`)
	})
}

func TestNodeUncaught(t *testing.T) {
	const handler = `
exports.handler = (event, c, cb) => {
  if (event === 'throw') setTimeout(() => { throw new RangeError('later'); }, 1);
  else if (event === 'reject') { Promise.reject(new Error('nobody')); setTimeout(() => {}, 1000); }
  else { setImmediate(() => { throw new Error('after the answer'); }); c.done(null, 'ok'); }
};`
	everyNode(t, func(t *testing.T, rt *Runtime) {
		for _, c := range []struct {
			event, want string
			exit        int
		}{
			{"throw", `E:RangeError {"errorType":"RangeError","errorMessage":"later","trace":["RangeError: later",`, 129},
			{"reject", `E:Runtime.UnhandledPromiseRejection {"errorType":"Runtime.UnhandledPromiseRejection","errorMessage":"Error: nobody","trace":["Runtime.UnhandledPromiseRejection: Error: nobody",`, 128},
			{"answered", `"ok"`, 129},
		} {
			p := start(t, rt, source{"index.js": handler}, "index.handler")
			if got := p.invoke(`"` + c.event + `"`); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s: %s", c.event, got)
			}
			if got := p.exit(); got != c.exit {
				t.Errorf("%s: exit status %d", c.event, got)
			}
		}
	})
}

func TestNodeInitErrors(t *testing.T) {
	everyNode(t, func(t *testing.T, rt *Runtime) {
		for _, c := range []struct {
			handler, kind, message string
			src                    source
		}{
			{"index", "Runtime.MalformedHandlerName", "Bad handler", nil},
			{"../index.handler", "Runtime.MalformedHandlerName", "'../index.handler' is not a valid handler name. Use absolute paths when specifying root directories in handler names.", nil},
			{"index.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'index'\nRequire stack:\n- ", nil},
			{"index.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'nowhere'\nRequire stack:\n- /var/task/index.js", source{"index.js": "require('nowhere')"}},
			{"index.nope", "Runtime.HandlerNotFound", "index.nope is undefined or not exported", source{"index.js": ""}},
			{"index.x", "Runtime.HandlerNotFound", "index.x is not a function", source{"index.js": "exports.x = 1"}},
			{"index.x", "Runtime.UserCodeSyntaxError", "SyntaxError: Unexpected token ')'", source{"index.js": "exports.x = )"}},
			{"index.x", "Error", "at start", source{"index.js": "throw new Error('at start')"}},
			{"index.x", "ReferenceError", "nope is not defined", source{"index.mjs": "nope();"}},
		} {
			p := start(t, rt, c.src, c.handler)
			answer := p.invoke("1")
			got := p.object(answer)
			if !strings.HasPrefix(answer, "I:"+c.kind+" ") || got["errorType"] != c.kind || !strings.HasPrefix(got["errorMessage"].(string), c.message) {
				t.Errorf("%s: %s", c.handler, answer)
			}
			if code := p.exit(); code != 129 {
				t.Errorf("exit status %d", code)
			}
			matchLines(t, p.logs(), `^\d{4}-\d\d-\d\dT\S*Z\tundefined\tERROR\tUncaught Exception \t\{"errorType":"`+c.kind)
		}
		p := start(t, rt, source{"index.js": "process.exit(4)"}, "index.handler")
		want(t, p.invoke("1"), "failed: %s", runtimeapi.ErrReset)
		if code := p.exit(); code != 4 {
			t.Errorf("exit status %d", code)
		}
	})
}

func TestNodeLogs(t *testing.T) {
	const handler = `
console.log('init');
exports.handler = async () => {
  console.log('a %s', 1, { b: 2 }); console.info({ c: 3 }); console.warn('w'); console.debug('d'); console.error(new Error('e').message); console.trace('t');
  process.stdout.write('raw\n');
  console.log(new Error('boom'), 'x');
};`
	everyNode(t, func(t *testing.T, rt *Runtime) {
		const stamp = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`
		p := start(t, rt, source{"index.js": handler}, "index.handler")
		want(t, p.invoke("1"), "null")
		matchLines(t, p.logs(), strings.NewReplacer("STAMP", stamp, "ID", requestID).Replace(
			`^STAMP\tundefined\tINFO\tinit\nSTAMP\tID\tINFO\ta 1 \{ b: 2 \}\nSTAMP\tID\tINFO\t\{ c: 3 \}\nSTAMP\tID\tWARN\tw\n`+
				`STAMP\tID\tDEBUG\td\nSTAMP\tID\tERROR\te\nSTAMP\tID\tTRACE\tt\nraw\nSTAMP\tID\tINFO\tError: boom\n    at `))

		p = start(t, rt, source{"index.js": handler}, "index.handler", "AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=INFO")
		ev := event("1")
		ev.Tenant = "blue"
		want(t, p.invokeEvent(ev), "null")
		matchLines(t, p.logs(), strings.NewReplacer("STAMP", stamp, "ID", requestID).Replace(
			`^\{"timestamp":"STAMP","level":"INFO","message":"init"\}\n`+
				`\{"timestamp":"STAMP","level":"INFO","requestId":"ID","tenantId":"blue","message":"a 1 \{ b: 2 \}"\}\n`+
				`\{"timestamp":"STAMP","level":"INFO","requestId":"ID","tenantId":"blue","message":\{"c":3\}\}\n`+
				`\{"timestamp":"STAMP","level":"WARN","requestId":"ID","tenantId":"blue","message":"w"\}\n`+
				`\{"timestamp":"STAMP","level":"ERROR","requestId":"ID","tenantId":"blue","message":"e"\}\nraw\n`+
				`\{"timestamp":"STAMP","level":"INFO","requestId":"ID","tenantId":"blue","message":"Error: boom.*","errorType":"Error","errorMessage":"boom","stackTrace":\["Error: boom",.*\]\}\n$`))
	})
}

func TestNodeWrapper(t *testing.T) {
	const wrapper = "#!/bin/sh\nexport WRAPPED=yes\nexec \"$@\"\n"
	everyNode(t, func(t *testing.T, rt *Runtime) {
		src := source{"index.js": "exports.handler = async () => process.env.WRAPPED;", "wrap": wrapper}
		p := start(t, rt, src, "index.handler", "AWS_LAMBDA_EXEC_WRAPPER=/var/task/wrap")
		want(t, p.invoke("1"), `"yes"`)
		for file, status := range map[string]int{"gone": 127, "index.js": 126} {
			p = start(t, rt, src, "index.handler", "AWS_LAMBDA_EXEC_WRAPPER=/var/task/"+file)
			if got := p.exit(); got != status {
				t.Errorf("wrapper %s: exit status %d, want %d", file, got, status)
			}
		}
	})
}

// Timers of the function go on while events come one after another.
func TestNodeEventLoopTurns(t *testing.T) {
	everyNode(t, func(t *testing.T, rt *Runtime) {
		p := start(t, rt, source{"index.js": "let n = 0;\nsetInterval(() => { n++; }, 1).unref();\nexports.handler = async () => n;"}, "index.handler")
		for range 20000 {
			if p.invoke("1") != "0" {
				return
			}
		}
		t.Error("a timer did not run during 20,000 invocations")
	})
}
