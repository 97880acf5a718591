package worker_test

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"berth/lambda"
	"berth/logs"
	"berth/worker"
)

// orderedSink keeps events as readers sort them.
type orderedSink struct {
	mu     sync.Mutex
	events []logs.Event
}

func (s *orderedSink) Append(_ lambda.AccountID, _ string, events ...logs.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, events...)
}

// log is what a reader sees: by time to the millisecond, equal times as they came.
func (s *orderedSink) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.events, func(a, b logs.Event) int { return int(a.Time.UnixMilli() - b.Time.UnixMilli()) })
	var log strings.Builder
	for _, e := range s.events {
		log.WriteString(e.Message)
	}
	return log.String()
}

// TestRealOutputIsBeforeTheEnd calls functions that print and answer at once, on processors that are busy: what they printed
// is in the tail and, for who reads the stream, before END.
func TestRealOutputIsBeforeTheEnd(t *testing.T) {
	const calls, callsPerEnvironment = 200, 20 // a first call is measured, and so takes longer to end
	for _, c := range []struct {
		language, handler string
		files             map[string]string
	}{
		{"python", "h.handler", map[string]string{"h.py": "def handler(e, c):\n    print('first', e)\n    print('second', e)\n    return e\n"}},
		{"nodejs", "h.handler", map[string]string{"h.js": "exports.handler = async (e) => { process.stdout.write('first ' + e + '\\n'); process.stdout.write('second ' + e + '\\n'); return e }\n"}},
		{"provided.al2023", "h", nil},
	} {
		t.Run(c.language, func(t *testing.T) {
			var sink orderedSink
			r := newReal(t, func(config *worker.Config) { config.Logs = &sink })
			if c.files == nil {
				c.files = map[string]string{"bootstrap": buildGo(t)}
			}
			v := r.version(r.runtime(c.language), c.handler, c.files)
			v.MemoryMB = 1769
			defer busy(t)()
			var res lambda.Reservation
			for i := range calls {
				if i%callsPerEnvironment == 0 {
					res = r.begin(v)
				}
				out := r.call(res, fmt.Sprintf(`"%d"`, i))
				if want := fmt.Sprintf("first %d\nsecond %d\nEND RequestId", i, i); !strings.Contains(string(out.Log), want) {
					t.Fatalf("call %d: the tail is %q", i, out.Log)
				}
			}
			log := sink.log()
			for i := range calls {
				if want := fmt.Sprintf("first %d\nsecond %d\nEND RequestId", i, i); !strings.Contains(log, want) {
					at := max(0, strings.Index(log, fmt.Sprintf("first %d\n", i)))
					t.Fatalf("call %d is not in order: %q", i, log[max(0, at-300):min(len(log), at+300)])
				}
			}
		})
	}
}

// busy keeps all processors busy, with other processes, until stop.
func busy(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var spinners []*exec.Cmd
	for range runtime.NumCPU() {
		cmd := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		must(t, cmd.Start())
		spinners = append(spinners, cmd)
	}
	return func() {
		cancel()
		for _, cmd := range spinners {
			_ = cmd.Wait() // killed
		}
	}
}
