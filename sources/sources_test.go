package sources

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/queues"
)

// failed is how a function's own failure looks.
func failed() (*lambda.Outcome, error) {
	return &lambda.Outcome{Payload: []byte(`{}`), FunctionError: "Unhandled", Class: lambda.HandlerErr}, nil
}

func TestBatches(t *testing.T) {
	in(t, `{"BatchSize":3}`, func(w *world) {
		w.queue.put("a", "b", "c", "d")
		time.Sleep(5 * time.Second)
		got := w.seen()
		slices.SortFunc(got, func(a, b []string) int { return len(b) - len(a) }) // both at once
		if fmt.Sprint(got) != "[[a b c] [d]]" || w.queue.left() != 0 {
			t.Errorf("the function got %s, %d are left", got, w.queue.left())
		}
	})
}

func TestWindow(t *testing.T) {
	in(t, `{"BatchSize":100,"MaximumBatchingWindowInSeconds":5}`, func(w *world) {
		w.queue.put("a")
		time.Sleep(3 * time.Second)
		w.queue.put("b", "c")
		if len(w.seen()) != 0 {
			t.Error("the window was not waited for")
		}
		time.Sleep(4 * time.Second)
		if got := fmt.Sprint(w.seen()); got != "[[a b c]]" {
			t.Errorf("got %s", got)
		}
		for range 11 { // more than one call of the queue returns
			w.queue.put(strings.Fields("1 2 3 4 5 6 7 8 9 10")...)
		}
		time.Sleep(10 * time.Second)
		if got := w.seen(); len(got) != 3 || len(got[1]) != 100 || len(got[2]) != 10 {
			t.Errorf("%d batches", len(got))
		}
	})
}

func TestFailuresShowUpAgain(t *testing.T) {
	in(t, `{"BatchSize":10}`, func(w *world) {
		w.answer = func(n int, _ []string) (*lambda.Outcome, error) {
			if n == 1 {
				return failed()
			}
			return &lambda.Outcome{Payload: []byte("null")}, nil
		}
		w.queue.put("a", "b")
		time.Sleep(visibility - time.Second)
		if len(w.seen()) != 1 || w.queue.left() != 2 {
			t.Errorf("%v, %d are left", w.seen(), w.queue.left())
		}
		time.Sleep(5 * time.Second)
		if len(w.seen()) != 2 || w.queue.left() != 0 {
			t.Errorf("%v, %d are left", w.seen(), w.queue.left())
		}
	})
}

func TestPartialFailures(t *testing.T) {
	for answer, left := range map[string]int{
		`{"batchItemFailures":[{"itemIdentifier":"m1"}]}`: 1, `{"batchItemFailures":[]}`: 0, `{"batchItemFailures":null}`: 0, `{}`: 0, `null`: 0, ``: 0, `"done"`: 0, `[1]`: 0,
		`{"batchItemFailures":[{"itemIdentifier":""}]}`: 3, `{"batchItemFailures":[{"itemIdentifier":null}]}`: 3, `{"batchItemFailures":[{"foo":"m1"}]}`: 3,
		`{"batchItemFailures":[{"itemIdentifier":"unknown"}]}`: 3, `{"batchItemFailures":"m1"}`: 3, `{"batchItemFailures":["m1"]}`: 3,
		`{"batchItemFailures":[{"itemIdentifier":"m1"},{"itemIdentifier":"m1"},{"itemIdentifier":"m0"}]}`: 2,
	} {
		in(t, `{"BatchSize":10,"FunctionResponseTypes":["ReportBatchItemFailures"]}`, func(w *world) {
			w.answer = func(int, []string) (*lambda.Outcome, error) { return &lambda.Outcome{Payload: []byte(answer)}, nil }
			w.queue.put("a", "b", "c")
			time.Sleep(visibility / 2)
			if got := w.queue.left(); got != left {
				t.Errorf("after %s %d are left, want %d", answer, got, left)
			}
		})
	}
}

func TestFilters(t *testing.T) {
	in(t, `{"BatchSize":10,"FilterCriteria":{"Filters":[{"Pattern":"{\"body\":{\"kind\":[\"x\"]}}"},{"Pattern":"{\"body\":[{\"prefix\":\"text\"}]}"}]}}`, func(w *world) {
		w.queue.put(`{"kind":"x"}`, `{"kind":"y"}`, `text 1`, `other`)
		time.Sleep(5 * time.Second)
		if got := fmt.Sprint(w.seen()); got != `[[{"kind":"x"} text 1]]` || w.queue.left() != 0 {
			t.Errorf("got %s, %d are left", got, w.queue.left())
		}
	})
}

func TestMaximumConcurrency(t *testing.T) {
	in(t, `{"BatchSize":1,"ScalingConfig":{"MaximumConcurrency":2}}`, func(w *world) {
		w.takes = time.Second
		w.queue.put(strings.Fields("1 2 3 4 5 6")...)
		time.Sleep(10 * time.Second)
		if len(w.seen()) != 6 || w.most != 2 {
			t.Errorf("%d batches, %d at once", len(w.seen()), w.most)
		}
	})
}

func TestThrottledBatchesWait(t *testing.T) {
	in(t, `{"BatchSize":10}`, func(w *world) {
		w.answer = func(n int, _ []string) (*lambda.Outcome, error) {
			if n < 3 {
				return nil, lambda.Errorf(lambda.TooManyRequests, "Rate Exceeded.")
			}
			return &lambda.Outcome{}, nil
		}
		w.queue.put("a")
		time.Sleep(visibility / 2)
		if got := w.seen(); len(got) != 3 || w.queue.left() != 0 {
			t.Errorf("%v, %d are left", got, w.queue.left())
		}
	})
	in(t, `{"BatchSize":10}`, func(w *world) { // for ever: the messages must show up again, not be lost, and not be asked for in a loop
		w.answer = func(int, []string) (*lambda.Outcome, error) {
			return nil, lambda.Errorf(lambda.TooManyRequests, "Rate Exceeded.")
		}
		w.queue.put("a")
		time.Sleep(10 * visibility)
		if n := len(w.seen()); w.queue.left() != 1 || n > 60 || n < 20 {
			t.Errorf("%d tries, %d are left", n, w.queue.left())
		}
	})
}

func TestLargeBatchesAreSplit(t *testing.T) {
	in(t, `{"BatchSize":100,"MaximumBatchingWindowInSeconds":2}`, func(w *world) {
		for range 40 {
			w.queue.put(strings.Repeat("x", 256<<10))
		}
		time.Sleep(20 * time.Second)
		n := 0
		for _, b := range w.seen() {
			n += len(b)
		}
		if n != 40 || w.queue.left() != 0 {
			t.Errorf("%d messages in %d batches, %d are left", n, len(w.seen()), w.queue.left())
		}
	})
}

// TestSwitch: a mapping that is disabled, changed or deleted, and a process that is elected no longer.
func TestSwitch(t *testing.T) {
	in(t, `{"BatchSize":10}`, func(w *world) {
		disable := func(m *catalog.Mapping) { m.Enabled = false }
		enable := func(m *catalog.Mapping) { m.Enabled = true }
		off := func(what string) {
			t.Helper()
			time.Sleep(time.Second)
			w.queue.put(what)
			time.Sleep(3 * time.Second)
			if slices.ContainsFunc(w.seen(), func(b []string) bool { return slices.Contains(b, what) }) {
				t.Errorf("read while %s", what)
			}
		}
		w.change(disable)
		off("disabled")
		w.change(enable)
		time.Sleep(2 * time.Second)
		if w.queue.left() != 0 {
			t.Error("not read after it was enabled")
		}
		w.mu.Lock()
		w.elected = false
		w.mu.Unlock()
		off("not elected")
		w.mu.Lock()
		w.elected = true
		w.mu.Unlock()
		time.Sleep(2 * time.Second)
		w.change(func(m *catalog.Mapping) { m.Settings = []byte(`{"BatchSize":1}`) })
		time.Sleep(time.Second)
		before := len(w.seen())
		w.queue.put("1", "2")
		time.Sleep(2 * time.Second)
		if got := len(w.seen()) - before; got != 2 {
			t.Errorf("with batches of one: %d", got)
		}
		if _, err := w.catalog.DeleteMapping(w.Context(), account, w.mapping, queues.ErrNoQueue); err != nil {
			t.Fatal(err)
		}
		off("deleted")
	})
}

// TestProblems: what keeps a mapping from being read can be seen, and is gone when it is over.
func TestProblems(t *testing.T) {
	in(t, `{"BatchSize":10}`, func(w *world) {
		w.queue.mu.Lock()
		w.queue.missing = true
		w.queue.mu.Unlock()
		w.change(func(*catalog.Mapping) {}) // asks anew
		w.queue.put("a")
		time.Sleep(time.Minute)
		if !strings.Contains(w.problem(), "does not exist") {
			t.Errorf("the problem is %q", w.problem())
		}
		w.queue.mu.Lock()
		w.queue.missing = false
		w.queue.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if w.problem() != "" || w.queue.left() != 0 {
			t.Errorf("the problem is %q, %d are left", w.problem(), w.queue.left())
		}
		if err := w.catalog.Delete(w.Context(), catalog.ID{Account: account, Name: "f"}); err != nil {
			t.Fatal(err)
		}
		w.queue.put("b")
		time.Sleep(time.Minute)
		if w.problem() == "" || w.queue.left() != 1 {
			t.Errorf("without its function the problem is %q, %d are left", w.problem(), w.queue.left())
		}
	})
}
