package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"berth/lambda"
	"berth/runtimes"
)

func testStream(change ...func(*lambda.Version)) (*logStream, *standinSink) {
	sink := &standinSink{}
	v := testVersion()
	for _, c := range change {
		c(v)
	}
	return newLogStream(sink, v, "e-1", &runtimes.Runtime{Name: "python3.11", Version: "0123456789"}), sink
}

func asJSON(app, system string) func(*lambda.Version) {
	return func(v *lambda.Version) {
		v.Logging = lambda.Logging{Format: lambda.JSON, ApplicationLevel: app, SystemLevel: system}
	}
}

// As recorded 25-11-2025 (test_multi_line_prints): a line ends at \n only, and its event has the \n.
func TestLines(t *testing.T) {
	s, sink := testStream()
	now := time.Now()
	for _, part := range []string{"multi\nli", "ne", "\nstring\nanother\rline\n\n", "no end"} {
		s.write([]byte(part), now)
	}
	s.endPartial(now)
	s.flush()
	if got := fmt.Sprintf("%q", sink.messages()); got != `["multi\n" "line\n" "string\n" "another\rline\n" "\n" "no end"]` {
		t.Error(got)
	}
}

func TestLongLinesAreSplit(t *testing.T) {
	s, sink := testStream()
	line := strings.Repeat("x", 2*maxLine+10) + "\ny\n"
	for b := []byte(line); len(b) > 0; {
		n := min(len(b), pipeBytes)
		s.write(b[:n], time.Now())
		b = b[n:]
		if len(s.partial) > maxLine {
			t.Fatalf("%d bytes are kept", len(s.partial))
		}
	}
	s.flush()
	got := sink.messages()
	if len(got) != 4 || len(got[0]) != maxLine || len(got[1]) != maxLine || len(got[2]) != 11 || strings.Join(got, "") != line {
		t.Errorf("%d events", len(got))
	}
}

func TestTailIsTheLast4096Bytes(t *testing.T) {
	s, _ := testStream()
	now := time.Now()
	var all strings.Builder
	s.begin(now, &lambda.Invocation{RequestID: "r1", WantLog: true})
	all.WriteString("START RequestId: r1 Version: $LATEST\n")
	for i := range 5000 {
		line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("z", i%100))
		s.write([]byte(line), now)
		all.WriteString(line)
		if len(s.tail) > 2*lambda.LogTail {
			t.Fatalf("%d bytes are kept", len(s.tail))
		}
	}
	s.write([]byte(strings.Repeat("w", 10000)), now)
	all.WriteString(strings.Repeat("w", 10000))
	tail := string(s.finish(&report{requestID: "r1", end: now, duration: 1234567 * time.Nanosecond, init: 2 * time.Millisecond, maxMemory: 7}))
	all.WriteString("END RequestId: r1\nREPORT RequestId: r1\tDuration: 1.23 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 7 MB\tInit Duration: 2.00 ms\t\n")
	if want := all.String(); tail != want[len(want)-lambda.LogTail:] {
		t.Errorf("tail %q", tail)
	}
	s.begin(now, &lambda.Invocation{RequestID: "r2", WantLog: false})
	if s.finish(&report{requestID: "r2", end: now}) != nil {
		t.Error("a tail nobody asked for")
	}
}

func TestFloodIsDroppedAndCounted(t *testing.T) {
	for _, format := range []func(*lambda.Version){func(*lambda.Version) {}, asJSON("", "")} {
		s, sink := testStream(format)
		now := time.Now()
		kept, chunk := 0, []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 100))
		const lines = 1_000_000
		for range lines / 100 {
			s.write(chunk, now)
			s.flush()
			kept += len(sink.messages())
			sink.events = nil
		}
		if bytes := kept * (100 + lineCost); bytes < logBurst*9/10 || bytes > logBurst+logRate {
			t.Errorf("%d of %d lines were kept", kept, lines)
		}
		s.write([]byte("later\n"), now.Add(time.Second))
		s.flush()
		got := strings.Join(sink.messages(), "")
		if !strings.Contains(got, fmt.Sprint(lines-kept)) || !strings.HasSuffix(got, "later\n") ||
			!strings.Contains(got, "LOGS_DROPPED") && !strings.Contains(got, `"type":"platform.logsDropped"`) {
			t.Errorf("notice %q", got)
		}
	}
}

func TestJSONEventsAndLevels(t *testing.T) {
	now := time.Date(2026, 11, 23, 6, 7, 8, 9_000_000, time.UTC)
	run := func(app, system string, f *failure) string {
		s, sink := testStream(asJSON(app, system))
		s.initStart(now)
		s.initDone(now, 88200*time.Microsecond)
		s.begin(now, &lambda.Invocation{RequestID: "r1", WantLog: false})
		for _, line := range []string{"plain", `{"level":"debug","m":1}`, `{"level":"WARN"}`, `{"level":30}`, `{"Level":"error"`} {
			s.write([]byte(line+"\n"), now)
		}
		s.finish(&report{requestID: "r1", end: now, duration: 1500 * time.Microsecond, init: 88200 * time.Microsecond, maxMemory: 32, produced: 8, failure: f})
		var short []string
		for _, m := range sink.messages() {
			var e struct{ Type, Time string }
			if json.Unmarshal([]byte(m), &e) == nil && e.Type != "" {
				if e.Time != "2026-11-23T06:07:08.009Z" {
					t.Errorf("time %q", e.Time)
				}
				m = e.Type
			}
			short = append(short, strings.TrimSpace(m))
		}
		return strings.Join(short, " ")
	}
	lines := `plain {"level":"WARN"} {"level":30} {"Level":"error"`
	for _, c := range []struct {
		app, system string
		f           *failure
		want        string
	}{
		{"", "", nil, "platform.initStart platform.start " + lines + " platform.report"},
		{"ERROR", "WARN", nil, ""},
		{"WARN", "WARN", &failure{class: lambda.TimedOut}, `{"level":"WARN"} platform.runtimeDone platform.report`},
		{"DEBUG", "DEBUG", nil, "platform.initStart platform.initRuntimeDone platform.initReport platform.start plain " +
			`{"level":"debug","m":1} {"level":"WARN"} {"level":30} {"Level":"error" platform.runtimeDone platform.report`},
	} {
		if got := run(c.app, c.system, c.f); got != c.want {
			t.Errorf("%s/%s:\n got %s\nwant %s", c.app, c.system, got, c.want)
		}
	}

	s, sink := testStream(asJSON("", "DEBUG"))
	s.initStart(now)
	s.begin(now, &lambda.Invocation{RequestID: "r1", WantLog: false})
	s.finish(&report{requestID: "r1", end: now, duration: 1500 * time.Microsecond, init: 88200 * time.Microsecond, maxMemory: 32, produced: 8,
		failure: &failure{class: lambda.HandlerErr, errorType: `a"b`}})
	want := []string{
		`{"time":"2026-11-23T06:07:08.009Z","type":"platform.initStart","record":{"initializationType":"on-demand","phase":"init","runtimeVersion":"python:3.11.v01234567","runtimeVersionArn":"arn:aws:lambda:us-east-1::runtime:0123456789","functionName":"hello","functionVersion":"$LATEST","instanceId":"` + s.stream + `","instanceMaxMemory":134217728}}` + "\n",
		`{"time":"2026-11-23T06:07:08.009Z","type":"platform.start","record":{"requestId":"r1","functionArn":"arn:aws:lambda:us-east-1:000000000001:function:hello","version":"$LATEST"}}` + "\n",
		`{"time":"2026-11-23T06:07:08.009Z","type":"platform.runtimeDone","record":{"requestId":"r1","status":"error","errorType":"a\"b","metrics":{"durationMs":1.5,"producedBytes":8}}}` + "\n",
		`{"time":"2026-11-23T06:07:08.009Z","type":"platform.report","record":{"requestId":"r1","metrics":{"durationMs":1.5,"billedDurationMs":90,"memorySizeMB":128,"maxMemoryUsedMB":32,"initDurationMs":88.2},"status":"error","errorType":"a\"b"}}` + "\n",
	}
	for i, got := range sink.messages() {
		if got != want[i] || !json.Valid([]byte(got)) {
			t.Errorf("got  %s want %s", got, want[i])
		}
	}
}

func TestStreamAndVersionNames(t *testing.T) {
	now := time.Date(2026, 11, 3, 23, 59, 0, 0, time.UTC)
	v := testVersion()
	if got := streamName(v, now); !strings.HasPrefix(got, "2026/11/03/[$LATEST]") || len(got) != len("2026/11/03/[$LATEST]")+32 {
		t.Error(got)
	}
	v.Logging.Group, v.Number = "shared", "7"
	if got := streamName(v, now); !strings.HasPrefix(got, "2026/11/03/hello[7]") {
		t.Error(got)
	}
	for name, want := range map[string]string{"python3.11": "python:3.11.v12", "nodejs20.x": "nodejs:20.v12", "provided.al2023": "provided:al2023.v12", "provided.al2": "provided:al2.v12"} {
		if got := versionName(&runtimes.Runtime{Name: name, Version: "12"}); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// What is printed before the answer is in the invocation's tail, however the reads fall.
func TestOutputBeforeTheAnswerIsInTheTail(t *testing.T) {
	h := newHarness(t, serve(func(p *standinProcess, payload string) (byte, string) {
		p.print("out " + payload + "\nand no end")
		return 'R', payload
	}))
	res := h.start(testVersion())
	for i := range 500 {
		out := h.call(res, fmt.Sprint(i))
		if !strings.Contains(string(out.Log), fmt.Sprintf("\nout %d\nand no endEND RequestId", i)) {
			t.Fatalf("invocation %d: %q", i, out.Log)
		}
	}
}

func TestFloodDoesNotHoldTheAnswer(t *testing.T) {
	h := newHarness(t, serve(func(p *standinProcess, payload string) (byte, string) {
		if payload == "1" { // one that goes on printing, like a thread left behind
			go func() {
				for p.ctx.Err() == nil {
					p.print(strings.Repeat("flood\n", 1000))
				}
			}()
		}
		p.print("mine\n")
		return 'R', payload
	}))
	v := testVersion()
	v.Timeout = patience // an answer that waited for the end of the flood would never come
	res := h.start(v)
	began := time.Now()
	for i := range 50 {
		h.wantOutcome(h.call(res, fmt.Sprint(i)), lambda.OK, fmt.Sprint(i))
	}
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	bytes := 0
	for _, e := range h.sink.events {
		bytes += len(e.Message)
	}
	if seconds := 1 + int(time.Since(began).Seconds()); bytes > logBurst+seconds*logRate {
		t.Errorf("%d bytes of log were kept in %d s", bytes, seconds)
	}
}
