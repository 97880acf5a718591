package extensions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"berth/sandbox"
)

// newHost makes a host that is closed in the end.
func newHost(t *testing.T, change ...func(*Config)) *Host {
	t.Helper()
	cfg := Config{Account: "000000000001", Function: "hello", Version: "$LATEST", Handler: "h.handler", Alarm: func() {}}
	for _, c := range change {
		c(&cfg)
	}
	h := New(cfg)
	t.Cleanup(h.Close)
	return h
}

// ask sends a request; headers are pairs.
func ask(ctx context.Context, h *Host, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// enrol registers an extension and returns its identifier.
func enrol(t *testing.T, h *Host, name, events string) string {
	t.Helper()
	w := ask(t.Context(), h, "POST", "/2020-01-01/extension/register", `{"events":[`+events+`]}`, nameHeader, name)
	if w.Code != http.StatusOK {
		t.Fatalf("register: %d %s", w.Code, w.Body)
	}
	return w.Header().Get(identifierHeader)
}

func wantBody(t *testing.T, w *httptest.ResponseRecorder, code int, body string) {
	t.Helper()
	if w.Code != code || w.Body.String() != body {
		t.Errorf("got %d %q, want %d %q", w.Code, w.Body, code, body)
	}
}

func TestRegister(t *testing.T) {
	h := newHost(t)
	h.Begin([]string{"ext"})
	const path = "/2020-01-01/extension/register"
	for _, c := range []struct {
		name, body string
		code       int
		want       string
	}{
		{"", `{}`, 403, `{"errorMessage":"Empty extension name","errorType":"Extension.InvalidExtensionName"}`},
		{"in", `{"events":["SHUTDOWN"]}`, 403, `{"errorMessage":"SHUTDOWN: ErrorInvalidEventType","errorType":"Extension.InvalidEventType"}`},
		{"ext", `{"events":["OTHER"]}`, 403, `{"errorMessage":"OTHER: ErrorInvalidEventType","errorType":"Extension.InvalidEventType"}`},
		{"in", `x`, 403, `{"errorMessage":"invalid character 'x' looking for beginning of value","errorType":"InvalidRequestFormat"}`},
		{"in", `{"configurationKeys":["a"]}`, 403, `{"errorMessage":"configurationKeys are deprecated; use environment variables instead","errorType":"InvalidRequestFormat"}`},
		{"in\tEvents: x", `{}`, 403, `{"errorMessage":"Invalid extension name","errorType":"Extension.InvalidExtensionName"}`},
		{"in", `{"events":["INVOKE"]}`, 200, `{"functionName":"hello","functionVersion":"$LATEST","handler":"h.handler"}`},
		{"in", `{"events":[]}`, 403, `{"errorMessage":"Extension with this name already registered","errorType":"Extension.InvalidExtensionState"}`},
		{"ext", `{"events":["SHUTDOWN","INVOKE"]}`, 200, `{"functionName":"hello","functionVersion":"$LATEST","handler":"h.handler"}`},
		{"ext", `{}`, 403, `{"errorMessage":"State transition from Registered to Registered failed for extension ext. Error: State transition is not allowed","errorType":"Extension.InvalidExtensionState"}`},
	} {
		wantBody(t, ask(t.Context(), h, "POST", path, c.body, nameHeader, c.name), c.code, c.want+"\n")
	}
	w := ask(t.Context(), h, "POST", path, `{}`, nameHeader, "third", featureHeader, "other, accountId")
	wantBody(t, w, 200, `{"accountId":"000000000001","functionName":"hello","functionVersion":"$LATEST","handler":"h.handler"}`+"\n")
	for i := 3; i < MaxExtensions; i++ {
		enrol(t, h, fmt.Sprint("in", i), "")
	}
	wantBody(t, ask(t.Context(), h, "POST", path, `{}`, nameHeader, "more"), 403, `{"errorMessage":"Extension limit (10) reached","errorType":"Extension.TooManyExtensions"}`+"\n")
	if n := h.InitDone(); n != MaxExtensions {
		t.Errorf("%d extensions", n)
	}
	wantBody(t, ask(t.Context(), h, "POST", path, `{}`, nameHeader, "late"), 403, `{"errorMessage":"Extension registration closed already","errorType":"Extension.RegistrationClosed"}`+"\n")
	if x := h.Infos()[0]; x.Name != "ext" || x.State != "Registered" || strings.Join(x.Events, " ") != "INVOKE SHUTDOWN" {
		t.Errorf("%+v", x)
	}
}

func TestIdentifiers(t *testing.T) {
	h := newHost(t)
	h.Begin(nil)
	id := enrol(t, h, "in", "")
	stranger := "7f1c9a44-3c7b-4a0e-9d0c-0d1f0f1f2f3f"
	for _, c := range []struct {
		method, path, id, want string
		code                   int
	}{
		{"GET", "/2020-01-01/extension/event/next", "", `{"errorMessage":"Missing Lambda-Extension-Identifier header","errorType":"Extension.MissingExtensionIdentifier"}`, 403},
		{"GET", "/2020-01-01/extension/event/next", "x", `{"errorMessage":"Invalid Lambda-Extension-Identifier","errorType":"Extension.InvalidExtensionIdentifier"}`, 403},
		{"GET", "/2020-01-01/extension/event/next", stranger, `{"errorMessage":"Unknown extension ` + stranger + `","errorType":"Extension.UnknownExtensionIdentifier"}`, 403},
		{"POST", "/2020-01-01/extension/init/error", stranger, `{"errorMessage":"Lambda-Extension-Function-Error-Type not found","errorType":"Extension.MissingHeader"}`, 403},
		{"PUT", "/2022-07-01/telemetry", stranger, `{"errorMessage":"Unknown extension ` + stranger + `","errorType":"Extension.UnknownExtensionIdentifier"}`, 403},
	} {
		wantBody(t, ask(t.Context(), h, c.method, c.path, "{}", identifierHeader, c.id), c.code, c.want+"\n")
	}
	w := ask(t.Context(), h, "POST", "/2020-01-01/extension/exit/error", "{}", identifierHeader, stranger, errorTypeHeader, "A.B")
	wantBody(t, w, 403, `{"errorMessage":"Unknown Lambda-Extension-Identifier","errorType":"Extension.UnknownExtensionIdentifier"}`+"\n")
	wantBody(t, ask(t.Context(), h, "POST", "/2020-01-01/extension/event/next", "", identifierHeader, id), 405, "Method Not Allowed\n")
	if w := ask(t.Context(), h, "GET", "/2020-01-01/other", ""); w.Code != 404 {
		t.Errorf("%d", w.Code)
	}
}

// polled is what one request for the next event gets.
type polled struct {
	Type   string `json:"eventType"`
	Reason Reason `json:"shutdownReason"`
	ID     string `json:"requestId"`
	Due    int64  `json:"deadlineMs"`
	code   int
}

// poll asks for the next event in the background.
func poll(ctx context.Context, h *Host, id string) <-chan polled {
	got := make(chan polled, 1)
	go func() {
		w := ask(ctx, h, "GET", "/2020-01-01/extension/event/next", "", identifierHeader, id)
		p := polled{code: w.Code}
		_ = json.Unmarshal(w.Body.Bytes(), &p)
		got <- p
	}()
	return got
}

func TestLifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.Begin([]string{"ext"})
		within := func(d time.Duration) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			t.Cleanup(cancel)
			return ctx
		}
		if err := h.AwaitRegistered(within(time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before it registered: %v", err)
		}
		out, in := enrol(t, h, "ext", `"INVOKE","SHUTDOWN"`), enrol(t, h, "in", `"INVOKE"`)
		quiet := enrol(t, h, "quiet", "")
		if err := h.AwaitRegistered(t.Context()); err != nil {
			t.Error(err)
		}
		first, second, third := poll(t.Context(), h, out), poll(t.Context(), h, in), poll(t.Context(), h, quiet)
		if err := h.AwaitIdle(within(time.Second)); err != nil {
			t.Error(err)
		}
		if p := <-poll(t.Context(), h, out); p.code != 403 {
			t.Errorf("a second request for the next event: %+v", p)
		}
		h.InitDone()

		due := time.Now().Add(3 * time.Second)
		h.Invoke(Invocation{RequestID: "r1", Deadline: due})
		for _, got := range []<-chan polled{first, second} {
			if p := <-got; p.Type != "INVOKE" || p.ID != "r1" || p.Due != due.UnixMilli() {
				t.Errorf("%+v", p)
			}
		}
		first = poll(t.Context(), h, out)
		if err := h.AwaitIdle(within(time.Second)); !errors.Is(err, context.DeadlineExceeded) || h.Idle() {
			t.Errorf("while one works: %v", err)
		}
		second = poll(t.Context(), h, in)
		if err := h.AwaitIdle(within(time.Second)); err != nil || !h.Idle() {
			t.Error(err)
		}

		h.Shutdown(Timeout, due)
		if p := <-first; p.Type != "SHUTDOWN" || p.Reason != Timeout || p.Due != due.UnixMilli() {
			t.Errorf("%+v", p)
		}
		h.Begin(nil) // what waits of the old is sent away
		if p, q := <-second, <-third; p.code != 403 || q.code != 403 {
			t.Errorf("%+v %+v", p, q)
		}
	})
}

// TestLeftPoll: an event waits for an extension that has left its request, and is not lost.
func TestLeftPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.Begin(nil)
		id := enrol(t, h, "in", `"INVOKE"`)
		ctx, leave := context.WithCancel(t.Context())
		left := poll(ctx, h, id)
		synctest.Wait()
		leave()
		<-left
		h.InitDone()
		h.Invoke(Invocation{RequestID: "r1"})
		if h.Idle() {
			t.Error("idle with an event that nobody took")
		}
		if p := <-poll(t.Context(), h, id); p.ID != "r1" || h.Idle() {
			t.Errorf("%+v", p)
		}
		again := poll(t.Context(), h, id)
		synctest.Wait()
		if !h.Idle() {
			t.Error("not idle when it asks again")
		}
		h.Close()
		if p := <-again; p.code != 403 {
			t.Errorf("%+v", p)
		}
	})
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(h *Host, x *Extension, id string)
		want Failure
	}{
		"ends":    {func(h *Host, x *Extension, _ string) { h.Exited(x, sandbox.Exit{}) }, Failure{Type: "Extension.Crash", Message: "exit code 0"}},
		"crashes": {func(h *Host, x *Extension, _ string) { h.Exited(x, sandbox.Exit{Code: 2}) }, Failure{Type: "Extension.Crash", Message: "exit status 2"}},
		"killed": {func(h *Host, x *Extension, _ string) {
			h.Exited(x, sandbox.Exit{Code: -1, Signal: syscall.SIGKILL, OOM: true})
		}, Failure{Type: "Extension.Crash", Message: "signal: killed", OOM: true}},
		"exit error": {func(h *Host, x *Extension, id string) {
			ask(context.Background(), h, "POST", "/2020-01-01/extension/exit/error", "", identifierHeader, id, errorTypeHeader, "A.B")
			h.Exited(x, sandbox.Exit{Code: 1})
		}, Failure{Type: "Extension.ExitError", Message: "exit status 1"}},
		"no permission": {func(h *Host, x *Extension, _ string) {
			h.LaunchFailed(x, fmt.Errorf("box: %w", &os.PathError{Op: "exec", Path: "/opt/extensions/ext", Err: syscall.EACCES}))
		}, Failure{Type: "Extension.LaunchError", Message: "fork/exec /opt/extensions/ext: permission denied"}},
		"too many": {func(h *Host, x *Extension, _ string) { h.LaunchFailed(x, ErrTooMany) }, Failure{Type: "Extension.LaunchError", Message: "too many extensions"}},
	} {
		t.Run(name, func(t *testing.T) {
			alarms := 0
			h := newHost(t, func(c *Config) { c.Alarm = func() { alarms++ } })
			x := h.Begin([]string{"ext"})[0]
			c.fail(h, x, enrol(t, h, "ext", `"INVOKE"`))
			h.Exited(x, sandbox.Exit{Code: 9}) // only the first counts
			var f *Failure
			if err := h.AwaitIdle(t.Context()); !errors.As(err, &f) || *f != c.want || alarms != 1 || h.Idle() {
				t.Errorf("%v, %d alarms", err, alarms)
			}
			h.Begin([]string{"ext"})
			h.Exited(x, sandbox.Exit{}) // of the beginning before
			if f := h.Failure(); f != nil {
				t.Errorf("an old process failed the new: %v", f)
			}
		})
	}
	h := newHost(t)
	x := h.Begin([]string{"ext"})[0]
	h.Dismiss()
	if h.Exited(x, sandbox.Exit{Code: 1}); h.Failure() != nil {
		t.Error("an end while shutting down is a failure")
	}
}

// TestInternalFails: an internal extension has no process whose end could tell.
func TestInternalFails(t *testing.T) {
	h := newHost(t)
	h.Begin(nil)
	id := enrol(t, h, "in", "")
	const path = "/2020-01-01/extension/init/error"
	for range 2 {
		wantBody(t, ask(t.Context(), h, "POST", path, "", identifierHeader, id, errorTypeHeader, "A.B\x01"), 202, `{"status":"OK"}`+"\n")
	}
	if f := h.Failure(); f == nil || f.Type != "Extension.InitError" || f.Message != "A.B" {
		t.Errorf("%v", f)
	}
	wantBody(t, ask(t.Context(), h, "GET", "/2020-01-01/extension/event/next", "", identifierHeader, id), 403,
		`{"errorMessage":"State transition from InitError to Ready failed for extension `+id+`. Error: State transition is not allowed","errorType":"Extension.InvalidExtensionState"}`+"\n")
}
