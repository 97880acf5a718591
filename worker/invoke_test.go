package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/lambda"
	"berth/sandbox"
)

func TestInvokeColdThenWarm(t *testing.T) {
	h := newHarness(t, serve(func(p *standinProcess, payload string) (byte, string) {
		p.print("hello " + payload + "\n")
		return 'R', payload
	}))
	res := h.start(testVersion())
	cold := h.call(res, `1`)
	h.wantOutcome(cold, lambda.OK, `1`)
	if idle, _ := h.owner.counts(res.Environment); idle != 1 {
		t.Errorf("when Invoke returned, the owner had been told %d times", idle)
	}
	warm := h.call(res, `2`)
	h.wantOutcome(warm, lambda.OK, `2`)
	if !cold.Cold || warm.Cold || cold.Version != "$LATEST" {
		t.Errorf("cold %v, warm %v", cold.Cold, warm.Cold)
	}
	wantLog(t, cold.Log, `^START RequestId: req-1 Version: \$LATEST
hello 1
END RequestId: req-1
REPORT RequestId: req-1\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: 41 MB\tInit Duration: \d+\.\d\d ms\t
$`)
	wantLog(t, warm.Log, `^START .*\nhello 2\nEND .*\nREPORT .*\tMax Memory Used: 41 MB\t\n$`)
	if got := h.sink.messages()[0]; got != "INIT_START Runtime Version: python:3.11.v01234567\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:0123456789abcdef\n" {
		t.Errorf("first line %q", got)
	}
	if n := h.driver.box(0).execs.Load(); n != 1 {
		t.Errorf("%d processes", n)
	}
}

func wantLog(t *testing.T, log []byte, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).Match(log) {
		t.Errorf("log %q does not match %q", log, pattern)
	}
}

func TestHandlerError(t *testing.T) {
	h := newHarness(t, serve(func(*standinProcess, string) (byte, string) {
		return 'E', "\x09TypeError" + `{"errorMessage":"m","errorType":"TypeError"}`
	}))
	res := h.start(testVersion())
	for range 2 {
		out := h.call(res, `{}`)
		h.wantOutcome(out, lambda.HandlerErr, `{"errorMessage":"m","errorType":"TypeError"}`)
		wantLog(t, out.Log, `^START .*\nEND .*\nREPORT .* MB\t(Init Duration: .* ms\t)?\n$`) // no Status
	}
	if h.driver.box(0).execs.Load() != 1 {
		t.Error("a handler's error must not restart the runtime")
	}
}

func TestTimeoutResetsTheRuntimeAndKeepsTmp(t *testing.T) {
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		n := 0 // a global variable of the function
		return serve(func(p *standinProcess, payload string) (byte, string) {
			n++
			if payload == `"hang"` {
				p.box.tmp["file"] = "kept"
				p.print("before the end")
				<-p.ctx.Done()
				return 0, ""
			}
			return 'R', `["` + p.box.tmp["file"] + `",` + string(rune('0'+n)) + `]`
		})(p)
	})
	v := testVersion()
	v.Timeout = time.Second
	res := h.start(v)
	h.wantOutcome(h.call(res, `1`), lambda.OK, `["",1]`)
	began := time.Now()
	out := h.call(res, `"hang"`)
	if d := time.Since(began); d < time.Second || d > patience { // it would hang for ever
		t.Errorf("took %v", d)
	}
	h.wantOutcome(out, lambda.TimedOut, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: req-1 Error: Task timed out after 1.00 seconds"}`)
	wantLog(t, out.Log, `^START .*\nbefore the end....-..-..T..:..:..\....Z req-1 Task timed out after 1.00 seconds

END RequestId: req-1
REPORT RequestId: req-1\tDuration: 1000.00 ms\tBilled Duration: 1000 ms\tMemory Size: 128 MB\tMax Memory Used: 41 MB\tStatus: timeout
$`)
	h.wantOutcome(h.call(res, `3`), lambda.OK, `["kept",1]`)
}

func TestExits(t *testing.T) {
	for _, c := range []struct {
		exit  sandbox.Exit
		class lambda.Class
		says  string
	}{
		{sandbox.Exit{}, lambda.Exited, "Runtime exited without providing a reason"},
		{sandbox.Exit{Code: 127}, lambda.Exited, "Runtime exited with error: exit status 127"},
		{sandbox.Exit{Code: -1, Signal: syscall.SIGSEGV}, lambda.Exited, "Runtime exited with error: signal: segmentation fault"},
		{sandbox.Exit{Code: -1, Signal: syscall.SIGKILL, OOM: true}, lambda.OutOfMemory, "Runtime exited with error: signal: killed"},
	} {
		want := `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: req-1 Error: ` + c.says + `"}`
		t.Run("in the handler: "+c.says, func(t *testing.T) {
			h := newHarness(t, func(p *standinProcess) sandbox.Exit {
				p.send('N', "")
				p.event()
				return c.exit
			})
			res := h.start(testVersion())
			for range 2 { // the environment lives on
				out := h.call(res, `{}`)
				h.wantOutcome(out, c.class, want)
				wantLog(t, out.Log, `\nRequestId: req-1 Error: `+c.says+"\nRuntime.ExitError\nEND .*\nREPORT .*\tStatus: error\tError Type: Runtime.ExitError\n$")
			}
			if b := h.driver.box(0); b.execs.Load() != 2 || h.driver.live() != 1 {
				t.Errorf("%d processes, %d sandboxes", b.execs.Load(), h.driver.live())
			}
		})
		t.Run("at init: "+c.says, func(t *testing.T) {
			h := newHarness(t, func(p *standinProcess) sandbox.Exit { return c.exit })
			h.wantOutcome(h.call(h.start(testVersion()), `{}`), c.class, want)
			if !h.sink.has("\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n") ||
				!h.sink.has("\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError\n") {
				t.Errorf("log %q", h.sink.messages())
			}
		})
	}
}

func TestExitBetweenInvocations(t *testing.T) {
	gone := make(chan struct{}, 2)
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		p.send('N', "")
		_, payload, _ := p.event()
		p.send('R', payload)
		gone <- struct{}{}
		return sandbox.Exit{Code: 1}
	})
	res := h.start(testVersion())
	for range 3 {
		h.wantOutcome(h.call(res, `7`), lambda.OK, `7`)
		<-gone
		time.Sleep(time.Duration(h.driver.box(0).execs.Load()) * time.Millisecond) // also in the middle of the exit
	}
}

func TestInitError(t *testing.T) {
	const payload = `{"errorMessage":"no module","errorType":"Runtime.ImportModuleError","requestId":"","stackTrace":[]}`
	broken := true
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		if !broken {
			return serve(echo)(p)
		}
		p.print("[ERROR] no module\n")
		p.send('I', "\x19Runtime.ImportModuleError"+payload)
		<-p.ctx.Done()
		return killed
	})
	res := h.start(testVersion())
	out := h.call(res, `1`)
	h.wantOutcome(out, lambda.InitErr, payload)
	if !out.Unseen {
		t.Error("G10: the function never saw the event, and the outcome does not say so")
	}
	wantLog(t, out.Log, `^START .*\n\[ERROR\] no module\nINIT_REPORT .*\tPhase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError\nEND .*\nREPORT .*\tStatus: error\tError Type: Runtime.ImportModuleError\n$`)
	broken = false
	out = h.call(res, `2`)
	h.wantOutcome(out, lambda.OK, `2`)
	if strings.Contains(string(out.Log), "Init Duration") {
		t.Errorf("a repeated init is part of the duration: %q", out.Log)
	}
}

// A runtime that cannot start says why and ends at once: on a busy machine before anybody waits for it.
func TestInitErrorOfARuntimeThatEndedBeforeItWasWaitedFor(t *testing.T) {
	const payload = `{"errorType":"Runtime.ImportModuleError"}`
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		p.send('I', "\x19Runtime.ImportModuleError"+payload)
		return sandbox.Exit{Code: 1}
	}, func(_ *Config, d *standinDriver) { d.tardy = true })
	res := h.start(testVersion())
	for range 3 {
		h.wantOutcome(h.call(res, `1`), lambda.InitErr, payload)
	}
}

func TestInitTimeout(t *testing.T) {
	first := true
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		if first {
			first = false
			<-p.ctx.Done()
			return killed
		}
		return serve(echo)(p)
	})
	h.initLimit = 50 * time.Millisecond
	h.wantOutcome(h.call(h.start(testVersion()), `1`), lambda.OK, `1`) // the second init was good
	var took float64
	for _, m := range h.sink.messages() {
		if strings.HasSuffix(m, "\tPhase: init\tStatus: timeout\n") {
			fmt.Sscanf(m, "INIT_REPORT Init Duration: %f ms", &took)
		}
	}
	if took < 50 { // and more on a busy machine
		t.Errorf("log %q", h.sink.messages())
	}

	h = newHarness(t, func(p *standinProcess) sandbox.Exit { <-p.ctx.Done(); return killed })
	h.initLimit = 50 * time.Millisecond
	v := testVersion()
	v.Timeout = time.Second
	h.wantOutcome(h.call(h.start(v), `1`), lambda.TimedOut,
		`{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: req-1 Error: Task timed out after 1.00 seconds"}`)
}

func TestResponseTooLarge(t *testing.T) {
	big := strings.Repeat("x", lambda.MaxPayload+1)
	h := newHarness(t, serve(func(_ *standinProcess, payload string) (byte, string) {
		if payload == "1" {
			return 'R', big
		}
		return 'R', payload
	}))
	res := h.start(testVersion())
	h.wantOutcome(h.call(res, `1`), lambda.TooLarge,
		`{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`)
	h.wantOutcome(h.call(res, `2`), lambda.OK, `2`)
	if h.driver.box(0).execs.Load() != 1 {
		t.Error("the runtime survives an answer that is too large")
	}
}

// A runtime that works on after its answer: the caller does not wait for it, and the environment is busy meanwhile.
func TestRuntimeAsksLate(t *testing.T) {
	more := make(chan struct{})
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		for p.send('N', "") {
			_, payload, ok := p.event()
			if !ok || !p.send('r', payload) { // answers without asking
				break
			}
			select {
			case <-more:
			case <-p.ctx.Done():
			}
		}
		return killed
	})
	res := h.start(testVersion())
	out := h.call(res, `1`)
	h.wantOutcome(out, lambda.OK, `1`)
	wantLog(t, out.Log, `REPORT`)
	if idle, _ := h.owner.counts(res.Environment); idle != 0 {
		t.Error("the owner was told too early")
	}
	if _, err := h.Invoke(t.Context(), res, &lambda.Invocation{}); !errors.Is(err, ErrNotReserved) {
		t.Errorf("a second call meanwhile: %v", err)
	}
	more <- struct{}{}
	eventually(t, "idle", func() bool { idle, _ := h.owner.counts(res.Environment); return idle == 1 })
	h.wantOutcome(h.call(res, `2`), lambda.OK, `2`) // never asks again: reset at the time limit
	eventually(t, "idle again", func() bool { idle, _ := h.owner.counts(res.Environment); return idle == 2 })
	h.wantOutcome(h.call(res, `3`), lambda.OK, `3`)
	if n := h.driver.box(0).execs.Load(); n != 2 {
		t.Errorf("%d processes", n)
	}
}

func TestRuntimeAnswersTwice(t *testing.T) {
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		p.send('N', "")
		_, payload, _ := p.event()
		p.send('R', payload)
		p.send('R', `"again"`)
		<-p.ctx.Done()
		return killed
	})
	res := h.start(testVersion())
	h.wantOutcome(h.call(res, `1`), lambda.OK, `1`)
	// Frames carry no request id: if the second answer comes late, it belongs to the next event. Either way the process
	// that breaks the protocol is killed, and the environment goes on.
	h.call(res, `2`)
	eventually(t, "a new process serves", func() bool { return h.call(res, `3`).Class == lambda.OK })
}

func TestHTTPRuntime(t *testing.T) {
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		base := "http://" + p.box.listener.Addr().String() + "/2018-06-01/runtime/invocation/"
		for {
			req, _ := http.NewRequestWithContext(p.ctx, http.MethodGet, base+"next", nil)
			resp, err := client.Do(req)
			if err != nil {
				return killed
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			p.print("got it\n")
			resp, err = client.Post(base+resp.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "application/json", bytes.NewReader(body))
			if err != nil {
				return killed
			}
			resp.Body.Close()
		}
	})
	v := testVersion()
	v.Runtime = "provided.al2023"
	res := h.start(v)
	want := `{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: req-1 Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"}`
	h.wantOutcome(h.call(res, `1`), lambda.Exited, want)
	v = testVersion()
	v.Runtime, v.Code = "provided.al2023", withBoot
	res = h.start(v)
	for range 3 {
		out := h.call(res, `{"a":1}`)
		h.wantOutcome(out, lambda.OK, `{"a":1}`)
		wantLog(t, out.Log, `^START .*\ngot it\nEND .*\nREPORT .*\n$`)
	}
}

func TestBootstrapThatCannotRun(t *testing.T) {
	h := newHarness(t, serve(echo), func(_ *Config, d *standinDriver) {
		d.fault = func(op string) error {
			if op == "exec" {
				return fmt.Errorf("sandbox: %w", &os.PathError{Op: "exec", Path: "/var/task/bootstrap", Err: syscall.ENOEXEC})
			}
			return nil
		}
	})
	v := testVersion()
	v.Runtime, v.Code = "provided.al2023", withBoot
	h.wantOutcome(h.call(h.start(v), `1`), lambda.Exited,
		`{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: req-1 Error: fork/exec /var/task/bootstrap: exec format error"}`)
}

// A caller that leaves changes nothing once its call has arrived; before, its reservation is given back.
func TestCallerLeaves(t *testing.T) {
	ready, answer := make(chan struct{}), make(chan struct{})
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		<-ready
		return serve(func(_ *standinProcess, payload string) (byte, string) {
			<-answer
			return 'R', payload
		})(p)
	})
	res := h.start(testVersion())
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := h.Invoke(ctx, res, &lambda.Invocation{RequestID: "req-1", Payload: []byte(`1`)})
		done <- err
	}()
	eventually(t, "claimed", func() bool {
		e := h.registry.find(res.Environment)
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.claimed
	})
	leave() // during the start
	close(ready)
	answer <- struct{}{}
	if err := <-done; err != nil {
		t.Errorf("left during the start: %v", err)
	}
	ctx, leave = context.WithCancel(t.Context())
	go func() {
		_, err := h.Invoke(ctx, res, &lambda.Invocation{RequestID: "req-2", Payload: []byte(`1`)})
		done <- err
	}()
	eventually(t, "running", func() bool { return h.Stats().Environments[Running] == 1 })
	leave() // during the run
	answer <- struct{}{}
	if err := <-done; err != nil {
		t.Errorf("left during the run: %v", err)
	}
	if _, err := h.Invoke(ctx, res, &lambda.Invocation{}); !errors.Is(err, context.Canceled) {
		t.Errorf("left before: %v", err)
	}
	if idle, _ := h.owner.counts(res.Environment); idle != 3 {
		t.Errorf("the owner was told %d times that it is idle", idle)
	}
	other := h.start(testVersion())
	if _, err := h.Invoke(ctx, other, &lambda.Invocation{}); !errors.Is(err, context.Canceled) {
		t.Errorf("left before, during the start: %v", err)
	}
	eventually(t, "given back", func() bool { idle, _ := h.owner.counts(other.Environment); return idle == 1 })
	go func() { answer <- struct{}{} }()
	h.wantOutcome(h.call(other, `5`), lambda.OK, `5`)
}

func TestEnvironmentReachesTheProcess(t *testing.T) {
	h := newHarness(t, serve(func(p *standinProcess, _ string) (byte, string) {
		p.box.mu.Lock() // the processor share is limited meanwhile
		defer p.box.mu.Unlock()
		all, _ := json.Marshal(map[string]any{"env": p.cmd.Env, "args": p.cmd.Args, "dir": p.cmd.Dir, "mounts": p.box.spec.Mounts, "limits": p.box.spec.Limits})
		return 'R', string(all)
	}))
	v := testVersion()
	v.Env = map[string]string{"MINE": "1"}
	var got struct {
		Env, Args []string
		Dir       string
		Mounts    []sandbox.Mount
		Limits    sandbox.Limits
	}
	if err := json.Unmarshal(h.call(h.start(v), `1`).Payload, &got); err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.Args, " ") != "/var/lang/bin/python3" || got.Dir != "/var/task" || !strings.Contains(strings.Join(got.Env, " "), "MINE=1") {
		t.Errorf("started with %+v", got)
	}
	if len(got.Mounts) != 1 || got.Mounts[0].Target != "/var/task" || got.Limits.MemoryBytes != 128<<20 || got.Limits.ScratchBytes != 512<<20 {
		t.Errorf("sandbox %+v %+v", got.Mounts, got.Limits)
	}
}
