package extensions

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// receiver is what an extension listens with; it works in virtual time.
type receiver struct {
	mu      sync.Mutex
	dials   []uint16
	batches [][]map[string]any
	at      []time.Time
	status  int
	stuck   bool // takes connections and never reads
	refuses bool
}

func (r *receiver) dial(_ context.Context, port uint16) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dials = append(r.dials, port)
	if r.refuses {
		return nil, errors.New("refused")
	}
	ours, theirs := net.Pipe()
	if !r.stuck {
		go r.serve(theirs)
	}
	return ours, nil
}

func (r *receiver) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		if b, err := in.Peek(1); err != nil {
			return
		} else if b[0] == '{' { // lines, not HTTP
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			r.take(append(append([]byte{'['}, line...), ']'))
			continue
		}
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", r.take(body))
	}
}

func (r *receiver) take(body []byte) (status int) {
	var batch []map[string]any
	if err := json.Unmarshal(body, &batch); err != nil {
		batch = []map[string]any{{"type": err.Error()}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status != 0 {
		return r.status
	}
	r.batches, r.at = append(r.batches, batch), append(r.at, time.Now())
	return 200
}

// kinds lists what came, in order.
func (r *receiver) kinds() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.batches {
		for _, ev := range b {
			list = append(list, fmt.Sprint(ev["type"]))
		}
	}
	return list
}

const viaHTTP = `"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:4243/x?y"}`

func subscribe(t *testing.T, h *Host, id, path, body string) (int, string) {
	t.Helper()
	w := ask(t.Context(), h, "PUT", path, body, identifierHeader, id)
	return w.Code, w.Body.String()
}

// listening makes a host with one extension that has subscribed to all.
func listening(t *testing.T, r *receiver, more string) *Host {
	t.Helper()
	h := newHost(t, func(c *Config) { c.Dial = r.dial; c.JSON = true })
	h.Begin([]string{"ext"})
	h.InitStart(time.Now(), Init{Type: "on-demand", Phase: "init", Runtime: "python:3.11"})
	h.Line(false, []byte("early\n"), time.Now())
	code, body := subscribe(t, h, enrol(t, h, "ext", ""), "/2022-07-01/telemetry",
		`{"schemaVersion":"2022-12-13","types":["platform","function","extension"],`+more+viaHTTP+`}`)
	if code != 200 || body != `"OK"` {
		t.Fatalf("%d %s", code, body)
	}
	return h
}

func TestTelemetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r receiver
		began := time.Now()
		h := listening(t, &r, "")
		h.Line(true, []byte("from it\n"), time.Now())
		h.Line(false, []byte(`{"a":1}`+"\n"), time.Now())
		h.InitRuntimeDone(time.Now(), Init{Phase: "init", Status: "success"})
		h.Tell(time.Now(), h.Infos()[0])
		h.InitReport(time.Now(), Init{Phase: "init", Status: "success"}, 1500*time.Microsecond)
		h.InitDone()
		h.InvokeStart(time.Now(), "r1", "Root=1")
		e := &Ended{RequestID: "r1", Status: "error", ErrorType: "E", Took: 2 * time.Millisecond, Whole: 3100 * time.Microsecond, MemoryMB: 128, UsedMB: 9}
		h.RuntimeDone(time.Now(), e)
		h.Report(time.Now(), e)
		if h.Quiet() {
			t.Error("quiet while telemetry waits")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want := []string{"platform.initStart", "function", "platform.telemetrySubscription", "extension", "function", "platform.initRuntimeDone",
			"platform.extension", "platform.initReport", "platform.start", "platform.runtimeDone", "platform.report"}
		if got := r.kinds(); !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
		if took := r.at[0].Sub(began); len(r.batches) != 1 || took != time.Second || !h.Quiet() || !slices.Equal(r.dials, []uint16{4243}) {
			t.Errorf("%d batches, the first after %v; dialled %v", len(r.batches), took, r.dials)
		}
		text, _ := json.Marshal(r.batches[0])
		for _, part := range []string{
			`"record":"early"`, `"record":{"a":1}`, `{"name":"ext","state":"Subscribed","types":["platform","function","extension"]}`,
			`"initializationType":"on-demand"`, `"metrics":{"durationMs":1.5}`, `"tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"}`,
			`"metrics":{"billedDurationMs":4,"durationMs":2,"maxMemoryUsedMB":9,"memorySizeMB":128}`, `"errorType":"E"`,
		} {
			if !strings.Contains(string(text), part) {
				t.Errorf("no %s in %s", part, text)
			}
		}
	})
}

func TestLogsAPI(t *testing.T) {
	for schema, want := range map[string]string{
		"2020-08-15": "platform.logsSubscription function platform.start platform.end platform.report",
		"2021-03-18": "platform.logsSubscription function platform.start platform.runtimeDone platform.end platform.report",
	} {
		synctest.Test(t, func(t *testing.T) {
			var r receiver
			h := newHost(t, func(c *Config) { c.Dial = r.dial })
			h.Begin(nil)
			h.InitStart(time.Now(), Init{})
			id := enrol(t, h, "in", "")
			code, body := subscribe(t, h, id, "/2020-08-15/logs",
				`{"schemaVersion":"`+schema+`","types":["platform","function"],"destination":{"protocol":"TCP","port":99}}`)
			if code != 200 || body != `"OK"` {
				t.Fatalf("%d %s", code, body)
			}
			h.InitDone()
			h.Line(false, []byte("x"), time.Now())
			h.Line(true, []byte("not this"), time.Now())
			h.InvokeStart(time.Now(), "r1", "Root=1")
			e := &Ended{RequestID: "r1", Status: "success"}
			h.RuntimeDone(time.Now(), e)
			h.Report(time.Now(), e)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := strings.Join(r.kinds(), " "); got != want {
				t.Errorf("%s: got %s", schema, got)
			}
		})
	}
}

func TestSubscriptionsRefused(t *testing.T) {
	h := newHost(t)
	h.Begin([]string{"ext"})
	id := enrol(t, h, "ext", "")
	const telemetry, logs = "/2022-07-01/telemetry", "/2020-08-15/logs"
	ok := `"schemaVersion":"2022-07-01","types":["platform"],`
	for body, want := range map[string]string{
		`x`: "the body is not valid JSON",
		`{"schemaVersion":"2022-07-01","destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain"}}`: "URI port is not provided; types should not be empty",
		`{` + ok + `"destination":{"protocol":"HTTP","URI":"http://169.254.169.254:80/"}}`:                    "URI host must be sandbox.localdomain",
		`{` + ok + `"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:80@evil:80/"}}`:        "URI must begin with http://",
		`{` + ok + `"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:9001/"}}`:              "port 9001 cannot be used",
		`{` + ok + `"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:99999/"}}`:             "port 99999 cannot be used",
		`{` + ok + `"destination":{"protocol":"TCP"}}`:                                                        "port is not provided",
		`{` + ok + `"destination":{"protocol":"UDP","port":1}}`:                                               "protocol must be HTTP or TCP",
		`{"schemaVersion":"1","types":["logs"],"destination":{"protocol":"TCP","port":1}}`:                    `schemaVersion must be one of [2022-07-01, 2022-12-13, 2025-01-29]; types must be of [platform, function, extension], not "logs"`,
		`{` + ok + `"buffering":{"maxItems":1,"maxBytes":1,"timeoutMs":1},"destination":{"protocol":"TCP","port":1}}`: "buffering.maxItems must be between 1000 and 10000; " +
			"buffering.maxBytes must be between 262144 and 1048576; buffering.timeoutMs must be between 25 and 30000",
	} {
		code, got := subscribe(t, h, id, telemetry, body)
		text, _ := json.Marshal(want)
		if code != 400 || got != `{"errorMessage":`+string(text)+`,"errorType":"ValidationError"}`+"\n" {
			t.Errorf("%s: %d %s", body, code, got)
		}
	}
	good := `{` + ok + viaHTTP + `}`
	h.cfg.Dial = func(context.Context, uint16) (net.Conn, error) { return nil, errors.New("nobody") }
	for range 2 { // again: in place of the first
		if code, got := subscribe(t, h, id, telemetry, good); code != 200 || len(h.subs) != 1 {
			t.Errorf("%d %s", code, got)
		}
	}
	if code, got := subscribe(t, h, id, logs, `{"types":["platform"],"destination":{"protocol":"TCP","port":1}}`); code != 400 {
		t.Errorf("both APIs: %d %s", code, got)
	}
	h.InitDone()
	if code, got := subscribe(t, h, id, telemetry, good); code != 403 || got != `{"errorMessage":"Telemetry API subscription is closed already","errorType":"Telemetry.SubscriptionClosed"}`+"\n" {
		t.Errorf("%d %s", code, got)
	}
}

// TestSlowReceiver: memory is bounded, and what is lost is counted.
func TestSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receiver{stuck: true}
		h := listening(t, &r, `"buffering":{"maxItems":1000,"maxBytes":262144,"timeoutMs":25},`)
		line := []byte(strings.Repeat("x", 1000))
		for range 5000 {
			h.Line(false, line, time.Now())
		}
		s := h.subs[0]
		s.mu.Lock()
		held, lost := s.bytes, s.dropped.records
		s.mu.Unlock()
		if held > room*262144 || lost < 4000 {
			t.Errorf("%d bytes held, %d events dropped", held, lost)
		}
		r.mu.Lock()
		r.stuck = false
		r.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		first := r.batches[0][0]
		if first["type"] != "platform.logsDropped" && r.batches[1][0]["type"] != "platform.logsDropped" {
			t.Errorf("nobody says that events were dropped: %v", first)
		}
	})
}

// TestDeaf: a batch that cannot be delivered is dropped after some attempts, and nothing is held back by it.
func TestDeaf(t *testing.T) {
	for name, r := range map[string]*receiver{"refuses": {refuses: true}, "errors": {status: 500}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := listening(t, r, "")
				time.Sleep(time.Minute)
				synctest.Wait()
				if !h.Quiet() || name == "refuses" && len(r.dials) != sendAttempts {
					t.Errorf("quiet: %v, %d connections", h.Quiet(), len(r.dials))
				}
			})
		})
	}
}

// TestPause: nothing is sent into a frozen sandbox, and nothing is lost by it.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r receiver
		h := listening(t, &r, "")
		h.Pause(true)
		time.Sleep(time.Hour)
		if got := r.kinds(); len(got) != 0 {
			t.Errorf("%q came in a frozen sandbox", got)
		}
		h.Pause(false)
		synctest.Wait()
		if got := r.kinds(); len(got) != 3 {
			t.Errorf("%q", got)
		}
		h.Shutdown(Spindown, time.Now().Add(2*time.Second))
		h.Line(true, []byte("bye"), time.Now())
		synctest.Wait()
		if got := r.kinds(); len(got) != 4 {
			t.Errorf("at the end nothing waits for its time: %q", got)
		}
	})
}

// TestPauseWhileSending: a sandbox that is frozen under a delivery gets it when it is thawed.
func TestPauseWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receiver{stuck: true}
		h := listening(t, &r, "")
		time.Sleep(2 * time.Second)
		h.Pause(true)
		time.Sleep(time.Hour)
		r.mu.Lock()
		r.stuck = false
		r.mu.Unlock()
		h.Pause(false)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := r.kinds(); len(got) != 3 {
			t.Errorf("%q", got)
		}
	})
}

// TestNobodyListens: without a subscription lines cost nothing, and nothing is kept.
func TestNobodyListens(t *testing.T) {
	h := newHost(t)
	h.Begin(nil)
	h.InitStart(time.Now(), Init{})
	h.InitDone()
	line := []byte("x")
	if n := testing.AllocsPerRun(100, func() { h.Line(false, line, time.Time{}) }); n != 0 || h.Listening() || !h.Quiet() || len(h.early.events) != 0 {
		t.Errorf("%v allocations, %d events kept", n, len(h.early.events))
	}
	h.Begin([]string{"ext"})
	for range 5000 {
		h.Line(false, line, time.Time{})
	}
	if n := len(h.early.events); n != earlyEvents {
		t.Errorf("%d events kept for who might subscribe", n)
	}
}

// FuzzSubscribe: whatever is asked for, what is planned goes to the sandbox and is bounded.
func FuzzSubscribe(f *testing.F) {
	f.Add(`{"schemaVersion":"2022-07-01","types":["platform"],` + viaHTTP + `}`)
	f.Add(`{"types":["function"],"destination":{"protocol":"tcp","port":80}}`)
	f.Fuzz(func(t *testing.T, body string) {
		var q request
		if json.Unmarshal([]byte(body), &q) != nil {
			return
		}
		for _, d := range []*dialect{&telemetryAPI, &logsAPI} {
			p, wrong := d.check(&q)
			if len(wrong) > 0 {
				continue
			}
			if p.port == 0 || p.port == runtimeAPIPort || len(p.types) == 0 || p.maxItems > maxItems || p.maxBytes > maxBytes ||
				p.timeout > maxTimeout*time.Millisecond || p.timeout <= 0 || p.method != "" && !strings.HasPrefix(p.path, "/") {
				t.Errorf("%s: %+v", body, p)
			}
		}
	})
}
