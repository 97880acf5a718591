package worker

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"berth/extensions"
	"berth/lambda"
	"berth/logs"
	"berth/runtimes"
)

// Bounds of what a function can print.
const (
	maxLine       = 256 << 10 // bytes of one event, as in CloudWatch; longer lines are split
	lineCost      = 128       // bytes that a line costs beside its own, so that empty lines are not free
	logRate       = 5 << 20   // bytes a second and environment for which lines are kept; CloudWatch's quota of one stream
	logBurst      = 16 << 20  // bytes above the rate
	pendingEvents = 512       // events handed to the sink at once
	keptEvents    = 16        // an idle environment keeps room for so many
)

// logStream turns what an environment prints and what happens to it into the events of one log stream.
type logStream struct {
	sink    LogSink
	version *lambda.Version
	runtime *runtimes.Runtime
	id      lambda.EnvironmentID
	group   string
	stream  string
	asJSON  bool
	tap     *extensions.Host // is told the printed lines, if anybody listens
	through *logStream       // where events go in place of the sink: extensions print to a pipe of their own, but into the same stream
	appMin  int              // lowest level that is kept, of the function's lines and of the platform's events
	sysMin  int

	mu      sync.Mutex // everything below
	pending []logs.Event
	last    time.Time // of the last event
	partial []byte    // of a line whose end has not come yet
	scratch []byte
	want    bool   // the caller asked for the tail
	tail    []byte // of this invocation; at most twice lambda.LogTail

	credit       int // bytes that may be kept now
	creditAt     time.Time
	droppedLines int
	droppedBytes int
}

func newLogStream(sink LogSink, v *lambda.Version, id lambda.EnvironmentID, rt *runtimes.Runtime) *logStream {
	now := time.Now()
	return &logStream{
		sink: sink, version: v, runtime: rt, id: id,
		group: logGroup(v), stream: streamName(v, now),
		asJSON: v.Logging.Format == lambda.JSON,
		appMin: levelOf(v.Logging.ApplicationLevel), sysMin: levelOf(v.Logging.SystemLevel),
		credit: logBurst, creditAt: now,
	}
}

func logGroup(v *lambda.Version) string {
	if v.Logging.Group != "" {
		return v.Logging.Group
	}
	return defaultGroup(v)
}

func defaultGroup(v *lambda.Version) string { return "/aws/lambda/" + v.Function }

// streamName names a new environment's stream. In a group of the user's choice, which functions may share, it has the
// function's name too.
func streamName(v *lambda.Version, now time.Time) string {
	function := ""
	if logGroup(v) != defaultGroup(v) {
		function = v.Function
	}
	return now.UTC().Format("2006/01/02/") + function + "[" + v.Number + "]" + randomHex(16)
}

// write takes over printed bytes; mu is held.
func (s *logStream) write(b []byte, now time.Time) {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		whole := end > 0
		if !whole {
			end = len(b)
		}
		end = min(end, maxLine-len(s.partial))
		whole = whole && b[end-1] == '\n'
		switch {
		case whole && len(s.partial) == 0:
			s.line(b[:end], now)
		default:
			s.partial = append(s.partial, b[:end]...)
			if whole || len(s.partial) == maxLine {
				s.endPartial(now)
			}
		}
		b = b[end:]
	}
}

// endPartial makes an event of what has no end of line; mu is held.
func (s *logStream) endPartial(now time.Time) {
	if len(s.partial) == 0 {
		return
	}
	s.line(s.partial, now)
	s.partial = s.partial[:0]
	if cap(s.partial) > pipeBytes {
		s.partial = nil
	}
}

// line keeps one printed line, if its level and the rate allow it; mu is held.
func (s *logStream) line(line []byte, now time.Time) {
	if s.asJSON && lineLevel(line) < s.appMin {
		return
	}
	if !s.pay(len(line)+lineCost, now) {
		s.droppedLines++
		s.droppedBytes += len(line)
		return
	}
	if s.droppedLines > 0 {
		s.noticeDropped(now)
	}
	if s.tap != nil && s.tap.Listening() {
		s.tap.Line(s.through != nil, line, now)
	}
	s.event(string(line), now)
}

// pay takes a line's cost from the credit, which grows by logRate a second up to logBurst.
func (s *logStream) pay(cost int, now time.Time) bool {
	if s.credit < cost {
		grown := int(min(now.Sub(s.creditAt), time.Minute).Seconds() * logRate)
		s.credit, s.creditAt = min(s.credit+grown, logBurst), now
	}
	if s.credit < cost {
		return false
	}
	s.credit -= cost
	return true
}

// event appends one event; mu is held. Readers sort by time, so an event is never older than the one before it: output that was
// read while the answer came, say, is followed by an END of an earlier moment.
func (s *logStream) event(message string, now time.Time) {
	if s.through != nil {
		s.through.mu.Lock()
		defer s.through.mu.Unlock()
		s.through.event(message, now)
		return
	}
	if now.Before(s.last) {
		now = s.last
	}
	s.last = now
	if s.pending == nil {
		s.pending = make([]logs.Event, 0, 3) // START, END and REPORT: most invocations print nothing
	}
	s.pending = append(s.pending, logs.Event{Stream: s.stream, Time: now, Message: message})
	if s.want {
		s.keepTail(message)
	}
	if len(s.pending) >= pendingEvents {
		s.flush()
	}
}

// keepTail keeps the last lambda.LogTail bytes of the invocation's log, and sometimes more.
func (s *logStream) keepTail(message string) {
	message = message[max(0, len(message)-lambda.LogTail):]
	if over := len(s.tail) + len(message) - 2*lambda.LogTail; over > 0 {
		kept := copy(s.tail, s.tail[len(s.tail)-min(len(s.tail), lambda.LogTail):])
		s.tail = s.tail[:kept]
	}
	s.tail = append(s.tail, message...)
}

// flush hands the events over; mu is held.
func (s *logStream) flush() {
	if s.through != nil {
		s.through.mu.Lock()
		defer s.through.mu.Unlock()
		s.through.flush()
		return
	}
	if len(s.pending) > 0 {
		s.sink.Append(s.version.Account, s.group, s.pending...)
		clear(s.pending)
		s.pending = s.pending[:0]
		if cap(s.pending) > keptEvents {
			s.pending = nil
		}
	}
}

// passOn flushes what has been waiting since the given time.
func (s *logStream) passOn(since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) > 0 && !s.pending[0].Time.After(since) {
		s.flush()
	}
}

// begin opens an invocation's part of the log.
func (s *logStream) begin(now time.Time, inv *lambda.Invocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want, s.tail = inv.WantLog, s.tail[:0]
	s.startLine(now, inv.RequestID, inv.Tenant)
}

// finish closes an invocation's part of the log and returns its tail, if it was asked for.
func (s *logStream) finish(r *report) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endPartial(r.end)
	if s.droppedLines > 0 {
		s.noticeDropped(r.end)
	}
	s.reportLines(r)
	s.flush()
	if !s.want {
		return nil
	}
	s.want = false
	return bytes.Clone(s.tail[max(0, len(s.tail)-lambda.LogTail):])
}

// levels are the API's log levels and their usual other spellings, least first.
var levels = map[string]int{"TRACE": 1, "DEBUG": 2, "INFO": 3, "": 3, "WARN": 4, "WARNING": 4, "ERROR": 5, "FATAL": 6, "CRITICAL": 6}

const levelDebug, levelInfo, levelWarn = 2, 3, 4

// levelOf ranks a level; an unknown one is INFO, like a missing one (developer guide, "log-level filtering").
func levelOf(name string) int {
	if l, ok := levels[strings.ToUpper(name)]; ok {
		return l
	}
	return levelInfo
}

// lineLevel ranks a printed line: by the member "level" of a JSON object, else it is INFO.
func lineLevel(line []byte) int {
	if len(line) == 0 || line[0] != '{' || !bytes.Contains(line, []byte(`evel"`)) {
		return levelInfo
	}
	var object struct{ Level string }
	if json.Unmarshal(line, &object) != nil {
		return levelInfo
	}
	return levelOf(object.Level)
}
