package events

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/catalog"
	"berth/destinations"
	"berth/lambda"
)

const (
	queueARN = "arn:aws:sqs:us-east-1:000000000001:q"
	deadARN  = "arn:aws:sqs:us-east-1:000000000001:dead"
)

func number(n int) *int { return &n }

func TestRunsOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		w.accept("f", "id-1", `{"a":1}`)
		w.settle(time.Second)
		runs := w.runs()
		if len(runs) != 1 || runs[0].id != "id-1" || runs[0].payload != `{"a":1}` || runs[0].tenant != "blue" || !strings.HasPrefix(runs[0].trace, "Root=1-0-0;Lineage=") {
			t.Errorf("ran %+v", runs)
		}
		w.empty("f")
	})
}

// The function's own errors are tried again after one and two minutes, with the same request id.
func TestRetriesOfFailures(t *testing.T) {
	for retries, want := range map[int][]time.Duration{0: {0}, 1: {0, time.Minute}, 2: {0, time.Minute, 3 * time.Minute}} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.function("f", nil)
				w.config("f", catalog.EventConfig{Retries: number(retries), OnFailure: queueARN})
				w.set(failing, nil)
				w.accept("f", "id", `{}`)
				w.settle(time.Hour)
				runs := w.runs()
				if len(runs) != len(want) {
					t.Fatalf("ran %d times, want %d", len(runs), len(want))
				}
				for i, r := range runs {
					if r.id != "id" || !near(r.at, want[i], 3*time.Second) {
						t.Errorf("attempt %d: %+v, want at %v", i, r, want[i])
					}
				}
				sent := w.tellings()
				if len(sent) != 1 || sent[0].target != queueARN {
					t.Fatalf("told %+v", sent)
				}
				var r record
				if err := json.Unmarshal(sent[0].Body, &r); err != nil || r.RequestContext.Condition != RetriesExhausted || r.RequestContext.Attempts != len(want) {
					t.Errorf("record %s, %v", sent[0].Body, err)
				}
				w.empty("f")
			})
		})
	}
}

// TestF10_RetriesKeepTheirTenant: failures of the function and throttles, both tried again.
func TestF10_RetriesKeepTheirTenant(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", func(v *catalog.Version) { v.PerTenant = true })
		w.config("f", catalog.EventConfig{Retries: number(2)})
		attempts := 0
		w.set(func(r run) (*lambda.Outcome, error) {
			if attempts++; attempts == 2 {
				return throttling(r)
			}
			return failing(r)
		}, nil)
		w.accept("f", "id", `{}`)
		w.settle(time.Hour)
		runs := w.runs()
		if len(runs) != 4 {
			t.Fatalf("ran %d times, want three attempts and one throttled", len(runs))
		}
		for i, r := range runs {
			if r.tenant != "blue" || r.id != "id" {
				t.Errorf("attempt %d: %+v", i, r)
			}
		}
		w.empty("f")
	})
}

// TestTenantsBacklogDelaysNoOther: while one tenant's events fill all that its function may run of them, another's runs at once.
func TestTenantsBacklogDelaysNoOther(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", func(v *catalog.Version) { v.PerTenant = true })
		w.set(func(r run) (*lambda.Outcome, error) {
			if r.tenant == "noisy" {
				time.Sleep(10 * time.Minute)
			}
			return &lambda.Outcome{Payload: []byte(`1`)}, nil
		}, nil)
		for i := range 2000 {
			w.acceptOf("noisy", "f", fmt.Sprint("noisy-", i), `{}`)
		}
		w.settle(time.Minute)
		for _, tenant := range []string{"blue", "green", "red"} {
			w.acceptOf(tenant, "f", tenant, `{}`)
		}
		w.settle(10 * time.Second)
		waiting := map[string]bool{"blue": true, "green": true, "red": true}
		for _, r := range w.runs() {
			delete(waiting, r.tenant)
		}
		if len(waiting) > 0 {
			t.Errorf("events of %v wait behind another tenant's", waiting)
		}
		if c := w.poller.Counts(laneOf(catalog.ID{Account: account, Name: "f"})); c.Running == 0 {
			t.Error("the function's count does not have its tenants' events")
		}
		w.settle(100 * time.Hour)
		w.empty("f")
	})
}

// A retry that would come after the event's age has ended is not waited for (recorded in test_maxeventage).
func TestAgeEndsBeforeRetry(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		w.config("f", catalog.EventConfig{MaxAge: number(90), OnFailure: queueARN})
		w.set(failing, nil)
		w.accept("f", "id", `{}`)
		w.settle(time.Hour)
		if runs := w.runs(); len(runs) != 2 {
			t.Fatalf("ran %d times, want 2", len(runs))
		}
		sent := w.tellings()
		if len(sent) != 1 || !strings.Contains(string(sent[0].Body), `"condition":"EventAgeExceeded","approximateInvokeCount":2`) || !near(sent[0].at, time.Minute, 3*time.Second) {
			t.Fatalf("told %+v", sent)
		}
	})
}

// Throttled events back off from one second to five minutes, until their age ends.
func TestThrottledBacksOff(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		w.config("f", catalog.EventConfig{MaxAge: number(3600), OnFailure: queueARN})
		w.set(throttling, nil)
		w.accept("f", "id", `{}`)
		w.settle(2 * time.Hour)
		runs := w.runs()
		for i := 1; i < len(runs); i++ {
			want := min(time.Second<<(i-1), 5*time.Minute)
			if last := runs[i].at-runs[0].at > 55*time.Minute; !last && !near(runs[i].at-runs[i-1].at, want, want/10+3*time.Second) {
				t.Errorf("wait %d was %v, want about %v", i, runs[i].at-runs[i-1].at, want)
			}
		}
		if len(runs) < 15 || len(runs) > 25 {
			t.Errorf("ran %d times within an hour", len(runs))
		}
		sent := w.tellings()
		if len(sent) != 1 || !near(sent[0].at, time.Hour, 5*time.Second) || strings.Contains(string(sent[0].Body), "responseContext") ||
			!strings.Contains(string(sent[0].Body), `"condition":"EventAgeExceeded","approximateInvokeCount":0`) {
			t.Errorf("told %+v", sent)
		}
		w.empty("f")
	})
}

func TestThrottledThenRuns(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		n := 0
		w.set(func(r run) (*lambda.Outcome, error) {
			if n++; n < 4 {
				return throttling(r)
			}
			return &lambda.Outcome{Version: lambda.Latest}, nil
		}, nil)
		w.accept("f", "id", `{}`)
		w.settle(time.Minute)
		if len(w.runs()) != 4 {
			t.Errorf("ran %d times", len(w.runs()))
		}
		w.empty("f")
	})
}

// Retries wait for their time in the queue: another process goes on where one was killed or stopped.
func TestDelaysOutliveThePoller(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		w.set(failing, nil)
		began := time.Now()
		w.accept("f", "id", `{}`)
		w.settle(5 * time.Second)
		other := w.newPoller(began) // at work beside the first: the stream shares the work
		done := make(chan error, 1)
		ctx, stop := contextOf(t)
		go func() { done <- other.Run(ctx) }()
		w.settle(10 * time.Minute)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		runs := w.runs()
		if len(runs) != 3 || !near(runs[1].at, time.Minute, 3*time.Second) || !near(runs[2].at, 3*time.Minute, 3*time.Second) {
			t.Errorf("ran %+v", runs)
		}
	})
}

func TestZeroReservedConcurrency(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		w.config("f", catalog.EventConfig{OnFailure: queueARN})
		if err := w.catalog.SetReserved(t.Context(), catalog.ID{Account: account, Name: "f"}, number(0)); err != nil {
			t.Fatal(err)
		}
		w.accept("f", "id", `{"a":"<&>"}`)
		w.settle(time.Second)
		sent := w.tellings()
		if len(w.runs()) != 0 || len(sent) != 1 || !strings.Contains(string(sent[0].Body), `"condition":"ZeroReservedConcurrency"`) ||
			!strings.Contains(string(sent[0].Body), `"requestPayload":{"a":"<&>"}`) {
			t.Errorf("ran %d times, told %+v", len(w.runs()), sent)
		}
	})
}

// A dead-letter queue gets the event itself, with what went wrong as attributes; a destination is told besides.
func TestDeadLetterQueue(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", func(v *catalog.Version) { arn := deadARN; v.DeadLetter = &arn })
		w.config("f", catalog.EventConfig{Retries: number(0), OnFailure: queueARN})
		w.set(failing, nil)
		w.accept("f", "id", `{"raise_error":1}`)
		w.settle(time.Second)
		sent := w.tellings()
		if len(sent) != 2 || sent[0].target != queueARN || sent[1].target != deadARN {
			t.Fatalf("told %+v", sent)
		}
		if d := sent[1]; string(d.Body) != `{"raise_error":1}` || d.RequestID != "id" || d.Dead == nil || *d.Dead != (destinations.Dead{Code: 200, Message: "on purpose"}) {
			t.Errorf("the dead letter: %+v %+v", d, d.Dead)
		}
	})
}

// A target that is away is told later, without running the function again; when the age ends the drop is counted.
func TestUnreachableTarget(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		w.config("f", catalog.EventConfig{MaxAge: number(600), OnSuccess: queueARN})
		w.set(nil, unreachable)
		w.accept("f", "one", `{}`)
		w.settle(5 * time.Minute)
		if len(w.tellings()) != 0 || len(w.runs()) != 1 {
			t.Fatalf("ran %d times, told %d", len(w.runs()), len(w.tellings()))
		}
		w.set(nil, nil)
		w.settle(5 * time.Minute)
		if sent := w.tellings(); len(sent) != 1 || sent[0].RequestID != "one" {
			t.Fatalf("told %+v", sent)
		}
		w.set(nil, unreachable)
		w.accept("f", "two", `{}`)
		w.settle(20 * time.Minute)
		w.empty("f")
		if c := w.poller.Counts("000000000001/f"); c.Dropped[dropTarget] != 1 || len(w.runs()) != 2 {
			t.Errorf("counts %+v, ran %d times", c, len(w.runs()))
		}
	})
}

func TestFailureUntold(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		w.config("f", catalog.EventConfig{Retries: number(0)})
		w.set(failing, nil)
		w.accept("f", "id", `{}`)
		w.settle(time.Second)
		if c := w.poller.Counts("000000000001/f"); c.Dropped[dropNobody] != 1 {
			t.Errorf("counts %+v", c)
		}
	})
}

func TestDeletedFunction(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("f", nil)
		w.set(failing, nil)
		w.accept("f", "id", `{}`)
		w.settle(time.Second)
		if err := w.catalog.Delete(t.Context(), catalog.ID{Account: account, Name: "f"}); err != nil {
			t.Fatal(err)
		}
		w.settle(2 * time.Minute)
		w.empty("f")
		if c := w.poller.Counts("000000000001/f"); c.Dropped[dropNoFunction] != 1 || len(w.runs()) != 1 {
			t.Errorf("counts %+v, ran %d times", c, len(w.runs()))
		}
	})
}

// Two functions that are each other's destinations go round 16 times each, unless that is allowed.
func TestLoopIsStopped(t *testing.T) {
	for _, allow := range []bool{false, true} {
		t.Run(fmt.Sprintf("allow=%t", allow), func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				arn := func(name string) string { return lambda.FunctionARN(region, account, name) }
				for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
					w.function(pair[0], func(v *catalog.Version) { dead := deadARN; v.DeadLetter = &dead })
					if err := w.catalog.SetRecursive(t.Context(), catalog.ID{Account: account, Name: pair[0]}, allow); err != nil {
						t.Fatal(err)
					}
					w.config(pair[0], catalog.EventConfig{OnSuccess: arn(pair[1])})
				}
				w.set(func(r run) (*lambda.Outcome, error) { // small answers, and an end where loops are allowed
					if len(w.runs()) >= 100 {
						return failing(r)
					}
					return &lambda.Outcome{Payload: []byte("1"), Version: lambda.Latest}, nil
				}, nil)
				w.accept("a", "id", `{}`)
				w.settle(10 * time.Second)
				count := map[string]int{}
				for _, r := range w.runs() {
					count[r.function]++
				}
				if !allow && (count["a"] != maxTurns || count["b"] != maxTurns) {
					t.Errorf("ran %v, want %d each", count, maxTurns)
				}
				if allow && count["a"]+count["b"] < 100 {
					t.Errorf("ran %v although loops are allowed", count)
				}
				if sent := w.tellings(); !allow && (len(sent) != 1 || sent[0].target != deadARN || !strings.Contains(sent[0].Dead.Message, "recursive loop")) {
					t.Errorf("told %+v", sent)
				}
			})
		})
	}
}

// One function's flood holds up nobody else, and does not run all at once.
func TestFloodIsFair(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.function("flood", nil)
		w.function("other", nil)
		most, now := 0, 0
		w.set(func(r run) (*lambda.Outcome, error) {
			if r.function == "flood" {
				w.mu.Lock()
				now++
				most = max(most, now)
				w.mu.Unlock()
				time.Sleep(30 * time.Second)
				w.mu.Lock()
				now--
				w.mu.Unlock()
			}
			return &lambda.Outcome{Version: lambda.Latest}, nil
		}, nil)
		for i := range 5000 {
			w.accept("flood", fmt.Sprint("flood", i), `{}`)
		}
		w.settle(10 * time.Minute)
		w.mu.Lock()
		before := len(w.ran)
		w.mu.Unlock()
		asked := time.Since(w.began)
		w.accept("other", "other", `{}`)
		w.settle(time.Second)
		after := w.runs()[before:] // events of the flood begin in the same moment
		i := slices.IndexFunc(after, func(r run) bool { return r.id == "other" })
		if i < 0 {
			t.Fatalf("an event of another function has waited for a second, %d of the flood ran meanwhile", len(after))
		}
		if waited := after[i].at - asked; waited > gatherPause {
			t.Errorf("an event of another function has waited for %v", waited)
		}
		if most > DefaultInFlight/2 || most < firstWindow {
			t.Errorf("%d events of one function ran at once", most)
		}
	})
}

func TestUnreadableMessages(t *testing.T) {
	for _, data := range []string{"", "abc", "\x00\x00\x00\x02{}", "\xff\xff\xff\xff", "\x00\x00\x00\x05hello"} {
		if e, err := decode([]byte(data)); err == nil && e.lane() != "/" {
			t.Errorf("decode(%q) = %+v", data, e)
		}
	}
}

func FuzzDecode(f *testing.F) {
	e := Event{ID: "id", Account: account, Function: "f", Payload: []byte("{}")}
	data, err := e.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := decode(data); err == nil {
			if _, err := e.encode(); err != nil && len(data) < maxHead {
				t.Errorf("%+v cannot be encoded: %v", e, err)
			}
		}
	})
}

func TestEnter(t *testing.T) {
	id := catalog.ID{Account: account, Name: "f"}
	trace := "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
	for want := 1; want <= 20; want++ {
		var turn int
		if trace, turn = enter(trace, id); turn != want {
			t.Fatalf("turn %d is counted as %d in %s", want, turn, trace)
		}
	}
	for i := range 40 {
		trace, _ = enter(trace, catalog.ID{Account: account, Name: fmt.Sprint(i)})
	}
	if len(trace) > 256 || !strings.HasPrefix(trace, "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1;Lineage=") {
		t.Errorf("%d bytes: %s", len(trace), trace)
	}
	for _, hostile := range []string{"Lineage=", "Lineage=x:y|", "Lineage=ffffffff:99999999999", "Lineage=|||;Lineage=a:1", strings.Repeat("Lineage=ffffffff:1|", 50)} {
		if next, turn := enter(hostile, id); turn != 1 || len(next) > 256 {
			t.Errorf("enter(%q) = %q, %d", hostile, next, turn)
		}
	}
}
