package worker

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/lambda"
	"berth/logs"
)

// inTimeOrder returns the messages as readers sort them: by time to the millisecond, equal times as they came.
func (s *standinSink) inTimeOrder() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := slices.Clone(s.events)
	for i := range events {
		events[i].Time = time.UnixMilli(events[i].Time.UnixMilli())
	}
	slices.SortStableFunc(events, func(a, b logs.Event) int { return a.Time.Compare(b.Time) })
	for _, e := range events {
		list = append(list, e.Message)
	}
	return list
}

// Output that was read after the answer had come is older than the END all the same.
func TestEventsKeepTheirOrderWhenSortedByTime(t *testing.T) {
	s, sink := testStream()
	now := time.Now()
	s.begin(now, &lambda.Invocation{RequestID: "r1"})
	s.mu.Lock()
	s.write([]byte("mine\n"), now.Add(20*time.Millisecond))
	s.mu.Unlock()
	s.finish(&report{requestID: "r1", end: now.Add(10 * time.Millisecond), duration: time.Millisecond})
	s.begin(now.Add(15*time.Millisecond), &lambda.Invocation{RequestID: "r2"})
	s.finish(&report{requestID: "r2", end: now.Add(30 * time.Millisecond), duration: time.Millisecond})
	if got, want := sink.inTimeOrder(), sink.messages(); !slices.Equal(got, want) {
		t.Errorf("by time %q, as told %q", got, want)
	}
}

// What is read of the pipe after the moment that counts as the end, on a busy machine, is before END and REPORT all the same.
func TestOutputThatIsReadLateIsBeforeTheEnd(t *testing.T) {
	var running atomic.Pointer[standinProcess]
	h := newHarness(t, serve(func(p *standinProcess, payload string) (byte, string) {
		running.Store(p)
		p.print("out " + payload + "\n")
		return 'R', payload
	}), func(_ *Config, d *standinDriver) {
		d.fault = func(op string) error {
			if op == "usage" { // measured between the answer and the last look at the pipe
				time.Sleep(3 * time.Millisecond)
				running.Load().print("late\n")
			}
			return nil
		}
	})
	for i := range 20 {
		h.call(h.start(testVersion()), fmt.Sprint(i))
	}
	log := strings.Join(h.sink.inTimeOrder(), "")
	for i := range 20 {
		if !strings.Contains(log, fmt.Sprintf("\nout %d\nlate\nEND RequestId", i)) {
			t.Fatalf("invocation %d is not in order in %q", i, log)
		}
	}
}

// A function may make its pipe larger than pipes are. All that it printed before its answer is in the answer's tail.
func TestOutputOfALargePipe(t *testing.T) {
	const size = 256 << 10
	h := newHarness(t, serve(func(p *standinProcess, payload string) (byte, string) {
		if _, err := unix.FcntlInt(p.stdout.Fd(), unix.F_SETPIPE_SZ, size); err != nil {
			return 'E', err.Error()
		}
		p.print(strings.Repeat(strings.Repeat(".", 1023)+"\n", size>>10-8) + "last " + payload + "\n")
		return 'R', payload
	}))
	res := h.start(testVersion())
	for i := range 20 {
		out := h.call(res, fmt.Sprint(i))
		h.wantOutcome(out, lambda.OK, fmt.Sprint(i))
		if !strings.Contains(string(out.Log), fmt.Sprintf("\nlast %d\nEND RequestId", i)) {
			t.Fatalf("invocation %d: the tail ends with %q", i, out.Log[max(0, len(out.Log)-300):])
		}
	}
}
