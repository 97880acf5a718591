package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
)

var (
	version = lambda.Version{
		Account: "000000000001", Region: "us-east-1", Function: "f", Number: "3", ConfigID: "c1", State: lambda.Active, Runtime: "python3.11",
		Handler: "app.handler", MemoryMB: 128, Timeout: 3 * time.Second, EphemeralMB: 512, Env: map[string]string{"A": "ü", "B": ""},
	}
	key         = lambda.EnvironmentKey{Account: "000000000001", Function: "f", Version: "3", ConfigID: "c1", Runtime: "r1", Tenant: "blue"}
	pool        = lambda.PoolID{Account: "000000000001", Function: "f"}
	reservation = lambda.Reservation{Environment: "e-1", Worker: "w-1", Number: 1<<63 + 1, Expires: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Cold: true}
)

// TestEdges: every operation reaches the role as it was asked, and the answer comes back as it was given.
func TestEdges(t *testing.T) { synctest.Test(t, testEdges) }

func testEdges(t *testing.T) {
	d := &double{
		answer: lambda.Answer{Verdict: lambda.Granted, Reservation: reservation, Load: lambda.Load{Running: 3, Quota: 10, Released: 1 << 63}},
		outcome: &lambda.Outcome{Payload: []byte(`{"a":1}`), FunctionError: "Unhandled", Class: lambda.HandlerErr, Log: []byte("line\n"),
			Version: "3", Cold: true, Duration: 7 * time.Millisecond},
		renewed: lambda.RenewAnswer{Idle: []lambda.EnvironmentID{"e-1"}, Gone: []lambda.EnvironmentID{"e-2"}},
	}
	m, w := inMemory(t, d)
	ctx := t.Context()

	acquire := lambda.AcquireRequest{Pool: pool, Key: key, Version: &version, ReuseOnly: true, Unreachable: []lambda.ManagerID{"m-1"}}
	answer, err := m.Acquire(ctx, acquire)
	if err != nil || answer != d.answer {
		t.Errorf("Acquire = %+v, %v", answer, err)
	}
	start := lambda.StartRequest{Environment: "e-1", Owner: "m-1", Key: key, Version: &version}
	if err := w.Start(ctx, start); err != nil {
		t.Errorf("Start: %v", err)
	}
	if err := w.Prepare(ctx, &version); err != nil {
		t.Errorf("Prepare: %v", err)
	}
	inv := lambda.Invocation{RequestID: "r", InvokedARN: "arn", Payload: []byte(`"payload"`), ClientContext: "{}", TraceID: "t", Tenant: "blue", WantLog: true}
	outcome, err := w.Invoke(ctx, reservation, &inv)
	if err != nil || !reflect.DeepEqual(outcome, d.outcome) {
		t.Errorf("Invoke = %+v, %v", outcome, err)
	}
	renew := lambda.RenewRequest{Owner: "m-1", Holdings: []lambda.Holding{{Environment: "e-1", Reservation: 7, GiveBack: true}, {Environment: "e-2"}}}
	if renewed, err := w.Renew(ctx, renew); err != nil || !reflect.DeepEqual(renewed, d.renewed) {
		t.Errorf("Renew = %+v, %v", renewed, err)
	}
	if err := w.End(ctx, "e-2"); err != nil {
		t.Errorf("End: %v", err)
	}
	want := []any{acquire, start, version, invoked{reservation, inv}, renew, lambda.EnvironmentID("e-2")}
	if got := d.requests(); !reflect.DeepEqual(got, want) {
		t.Errorf("the role was asked\n%+v, want\n%+v", got, want)
	}
	notices := []Notice{{Environment: "e-1", Reservation: 7}, {Environment: "e-2", Gone: true}}
	if err := m.Notify(ctx, notices); err != nil || !reflect.DeepEqual(d.allHeard(), notices) {
		t.Errorf("Notify: %v, heard %v", err, d.allHeard())
	}
	if !m.Ping(ctx) {
		t.Error("Ping: no answer")
	}
}

// TestARenewalOfManyEnvironments: it goes over the wire in parts, none of which is too large for it.
func TestARenewalOfManyEnvironments(t *testing.T) { synctest.Test(t, testARenewalOfManyEnvironments) }

func testARenewalOfManyEnvironments(t *testing.T) {
	d := &double{renewed: lambda.RenewAnswer{Idle: []lambda.EnvironmentID{"e-1"}}}
	_, w := inMemory(t, d)
	req := lambda.RenewRequest{Owner: "m-1"}
	for i := range 2*maxHoldings + 1 {
		req.Holdings = append(req.Holdings, lambda.Holding{Environment: lambda.EnvironmentID(fmt.Sprintf("%036d", i)), Reservation: 1 << 63})
	}
	answer, err := w.Renew(t.Context(), req)
	if err != nil || len(answer.Idle) != 3 {
		t.Errorf("Renew = %+v, %v", answer, err)
	}
	var got []lambda.Holding
	for _, asked := range d.requests() {
		got = append(got, asked.(lambda.RenewRequest).Holdings...)
	}
	if !reflect.DeepEqual(got, req.Holdings) {
		t.Errorf("%d of %d environments arrived", len(got), len(req.Holdings))
	}
}

func TestPayloadsAtTheirLimit(t *testing.T) {
	d := &double{outcome: &lambda.Outcome{Payload: bytes.Repeat([]byte("x"), lambda.MaxPayload), Log: bytes.Repeat([]byte("l"), lambda.LogTail)}}
	_, w, _ := serve(t, d)
	inv := lambda.Invocation{Payload: bytes.Repeat([]byte("p"), lambda.MaxPayload)}
	out, err := w.Invoke(t.Context(), reservation, &inv)
	if err != nil || len(out.Payload) != lambda.MaxPayload || len(out.Log) != lambda.LogTail {
		t.Fatalf("Invoke: %v", err)
	}
	inv.Payload = append(inv.Payload, make([]byte, lambda.LogTail+1)...)
	if _, err := w.Invoke(t.Context(), reservation, &inv); err == nil || !strings.Contains(err.Error(), "too large for the wire") {
		t.Errorf("a payload above the limit: %v", err)
	}
}

// TestErrorsTravelAsThemselves: what another role decides by keeps its meaning; the rest keeps its words.
func TestErrorsTravelAsThemselves(t *testing.T) { synctest.Test(t, testErrorsTravelAsThemselves) }

func testErrorsTravelAsThemselves(t *testing.T) {
	refused := &lambda.Error{Code: lambda.InvalidZipFile, Message: "no central directory", Reason: "r", RetryAfter: time.Second}
	for _, err := range []error{
		lambda.ErrNoCapacity, fmt.Errorf("12 MiB are taken: %w", lambda.ErrNoCapacity),
		lambda.ErrUnknownEnvironment, fmt.Errorf("is ending: %w", lambda.ErrUnknownEnvironment),
		refused, errors.New("disk on fire"),
	} {
		_, w := inMemory(t, &double{err: err})
		for name, got := range map[string]error{
			"Start": w.Start(t.Context(), lambda.StartRequest{Version: &version}),
			"Invoke": func() error {
				_, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{})
				return err
			}(),
		} {
			var e *lambda.Error
			switch {
			case errors.As(err, &e):
				var back *lambda.Error
				if !errors.As(got, &back) || *back != *e {
					t.Errorf("%s: %v became %v", name, err, got)
				}
			case errors.Is(err, lambda.ErrNoCapacity) && errors.Is(got, lambda.ErrNoCapacity):
			case errors.Is(err, lambda.ErrUnknownEnvironment) && errors.Is(got, lambda.ErrUnknownEnvironment):
			case got == nil || got.Error() != err.Error() || errors.Is(got, lambda.ErrUnreachable):
				t.Errorf("%s: %v became %v", name, err, got)
			}
		}
	}
}

func TestWrongTokens(t *testing.T) {
	d := &double{}
	_, _, s := serve(t, d)
	for _, sent := range []string{"", "a-token-for-test", token + "x", strings.ToUpper(token)} {
		c := NewClient(sent, nil)
		_, err := NewManager(c, s.addr).Acquire(t.Context(), lambda.AcquireRequest{Version: &version})
		if err == nil || !strings.Contains(err.Error(), "401") || errors.Is(err, lambda.ErrUnreachable) {
			t.Errorf("token %q: %v, want 401", sent, err)
		}
		c.Close()
	}
	for _, h := range []string{"", token, "Basic " + token, "bearer " + token} {
		r := httptest.NewRequest(http.MethodGet, connectPath, nil)
		r.Header.Set("Authorization", h)
		rw := httptest.NewRecorder()
		NewHandler(token, d, d).ServeHTTP(rw, r)
		if rw.Code != http.StatusUnauthorized {
			t.Errorf("header %q: status %d", h, rw.Code)
		}
	}
	r := httptest.NewRequest(http.MethodGet, connectPath, nil)
	r.Header.Set("Authorization", "Bearer ")
	rw := httptest.NewRecorder()
	if NewHandler("", d, d).ServeHTTP(rw, r); rw.Code != http.StatusUnauthorized {
		t.Errorf("a handler without a token answers %d", rw.Code)
	}
	if len(d.requests()) != 0 {
		t.Errorf("the role was asked %v", d.requests())
	}
}

func TestARoleThatIsNotHere(t *testing.T) {
	s := listen(t, &double{}, nil)
	c := NewClient(token, nil)
	defer c.Close()
	err := NewWorker(c, s.addr).Start(t.Context(), lambda.StartRequest{Version: &version})
	if err == nil || !strings.Contains(err.Error(), "worker/start") || errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("a worker's call of a manager: %v", err)
	}
}

func TestRequestsThatLackAVersion(t *testing.T) { synctest.Test(t, testRequestsThatLackAVersion) }

func testRequestsThatLackAVersion(t *testing.T) {
	d := &double{}
	m, w := inMemory(t, d)
	if _, err := m.Acquire(t.Context(), lambda.AcquireRequest{}); err == nil {
		t.Error("Acquire without a version succeeds")
	}
	if err := w.Start(t.Context(), lambda.StartRequest{}); err == nil {
		t.Error("Start without a version succeeds")
	}
	if err := m.Notify(t.Context(), make([]Notice, maxNotices+1)); err == nil {
		t.Error("too many notices are taken")
	}
	if len(d.requests()) != 0 || len(d.allHeard()) != 0 {
		t.Error("the role was asked")
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := NewClient(token, nil)
	defer c.Close()
	m, w := NewManager(c, addr), NewWorker(c, addr)
	if _, err := m.Acquire(t.Context(), lambda.AcquireRequest{Version: &version}); !errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("Acquire: %v", err)
	}
	if m.Ping(t.Context()) {
		t.Error("Ping: somebody answers")
	}
	if err := w.Start(t.Context(), lambda.StartRequest{Version: &version}); !errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("Start: %v", err)
	}
	// Nothing has run, so the frontend may use another environment.
	if _, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{}); !errors.Is(err, lambda.ErrUnknownEnvironment) {
		t.Errorf("Invoke: %v", err)
	}
}

// TestTheServerDiesDuringACall: whether the function ran is not known, so it must not be tried again.
func TestTheServerDiesDuringACall(t *testing.T) {
	d := &double{hold: make(chan struct{}), outcome: &lambda.Outcome{}}
	m, w, s := serve(t, d)
	calls := map[string]chan error{"Invoke": make(chan error, 1), "Acquire": make(chan error, 1)}
	go func() {
		_, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{})
		calls["Invoke"] <- err
	}()
	go func() {
		_, err := m.Acquire(t.Context(), lambda.AcquireRequest{Version: &version})
		calls["Acquire"] <- err
	}()
	waitUntil(t, func() bool { return len(d.requests()) == 2 })
	s.cut()
	if err := <-calls["Invoke"]; lambda.CodeOf(err) != lambda.ServiceFailure || errors.Is(err, lambda.ErrUnknownEnvironment) {
		t.Errorf("Invoke: %v, want ServiceFailure", err)
	}
	if err := <-calls["Acquire"]; !errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("Acquire: %v, want ErrUnreachable", err)
	}
	close(d.hold)
}

func TestATimeLimitMakesARoleUnreachable(t *testing.T) {
	synctest.Test(t, testATimeLimitMakesARoleUnreachable)
}

func testATimeLimitMakesARoleUnreachable(t *testing.T) {
	d := &double{hold: make(chan struct{})}
	m, _ := inMemory(t, d)
	began := time.Now()
	_, err := m.Acquire(t.Context(), lambda.AcquireRequest{Version: &version, ReuseOnly: true})
	if took := time.Since(began); !errors.Is(err, lambda.ErrUnreachable) || took != reuseLimit {
		t.Errorf("Acquire: %v after %v", err, took)
	}
	close(d.hold)
}

// TestACallerThatLeaves: an invocation goes on without its caller; one whose caller left before gives its reservation back.
func TestACallerThatLeaves(t *testing.T) { synctest.Test(t, testACallerThatLeaves) }

func testACallerThatLeaves(t *testing.T) {
	d := &double{hold: make(chan struct{}), outcome: &lambda.Outcome{Payload: []byte("1")}}
	_, w := inMemory(t, d)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.Invoke(ctx, reservation, &lambda.Invocation{})
		done <- err
	}()
	waitUntil(t, func() bool { return len(d.requests()) == 1 })
	leave()
	close(d.hold)
	if err := <-done; err != nil {
		t.Errorf("a caller that left during the call: %v", err)
	}
	if _, err := w.Invoke(ctx, reservation, &lambda.Invocation{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left before the call: %v", err)
	}
	back := lambda.RenewRequest{Holdings: []lambda.Holding{{Environment: reservation.Environment, Reservation: reservation.Number, GiveBack: true}}}
	if got := d.requests(); len(got) != 2 || !reflect.DeepEqual(got[1], back) {
		t.Errorf("asked %v, want the reservation given back", got)
	}
}

func waitUntil(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited 10 s in vain")
		}
	}
}
