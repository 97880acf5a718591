package worker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"berth/lambda"
	"berth/runtimes"
)

// The platform's own lines. Text as recorded 24 and 25-11-2025 (tabs, the tab at the end of a good REPORT, Init Duration
// last); a failed REPORT and INIT_REPORT as seen on AWS since 2024. JSON as the Telemetry API's events (developer guide,
// "Event schema reference" and, for levels, "System log event level mapping").

// timeLayout is the form of times in log lines, in UTC.
const timeLayout = "2006-01-02T15:04:05.000Z"

// report is what is said of one finished invocation.
type report struct {
	requestID string
	end       time.Time
	duration  time.Duration
	init      time.Duration // 0 unless this invocation was the first after a good init phase
	maxMemory int           // MB
	produced  int           // bytes of the response
	failure   *failure      // nil for success
}

// startLine opens an invocation; mu is held.
func (s *logStream) startLine(now time.Time, requestID string) {
	b := s.scratch[:0]
	if s.asJSON {
		if levelInfo < s.sysMin {
			return
		}
		b = appendHead(b, now, "platform.start")
		b = append(append(b, `{"requestId":"`...), requestID...)
		b = append(append(b, `","functionArn":"`...), s.version.FunctionARN()...)
		b = append(append(b, `","version":"`...), s.version.Number...)
		b = append(b, "\"}}\n"...)
	} else {
		b = append(append(b, "START RequestId: "...), requestID...)
		b = append(append(b, " Version: "...), s.version.Number...)
		b = append(b, '\n')
	}
	s.scratch = b
	s.event(string(b), now)
}

// reportLines close an invocation; mu is held.
func (s *logStream) reportLines(r *report) {
	if s.asJSON {
		s.jsonReport(r)
		return
	}
	if f := r.failure; f != nil {
		switch {
		case f.class == lambda.TimedOut:
			s.event(r.end.UTC().Format(timeLayout)+" "+r.requestID+" "+f.text(s.version.Timeout)+"\n\n", r.end)
		case f.payload == nil && f.class != lambda.TooLarge:
			s.event("RequestId: "+r.requestID+" Error: "+f.message+"\n"+f.errorType+"\n", r.end)
		}
	}
	b := append(append(s.scratch[:0], "END RequestId: "...), r.requestID...)
	b = append(b, '\n')
	cut := len(b)
	b = append(append(b, "REPORT RequestId: "...), r.requestID...)
	b = appendMillis(append(b, "\tDuration: "...), r.duration)
	b = strconv.AppendInt(append(b, " ms\tBilled Duration: "...), r.billed(), 10)
	b = strconv.AppendInt(append(b, " ms\tMemory Size: "...), int64(s.version.MemoryMB), 10)
	b = strconv.AppendInt(append(b, " MB\tMax Memory Used: "...), int64(r.maxMemory), 10)
	b = append(b, " MB\t"...)
	if r.init > 0 {
		b = appendMillis(append(b, "Init Duration: "...), r.init)
		b = append(b, " ms\t"...)
	}
	if r.failure.platform() {
		b = append(append(b, "Status: "...), r.failure.status()...)
		if r.failure.class != lambda.TimedOut {
			b = append(append(b, "\tError Type: "...), r.failure.errorType...)
		}
	}
	b = append(b, '\n')
	s.scratch = b
	both := string(b) // one allocation for two events
	s.event(both[:cut], r.end)
	s.event(both[cut:], r.end)
}

func (s *logStream) jsonReport(r *report) {
	level := levelInfo
	if r.failure != nil {
		level = levelWarn
	}
	status := `"status":"` + r.failure.status() + `"`
	if r.failure != nil && r.failure.class != lambda.TimedOut && r.failure.errorType != "" {
		status += `,"errorType":` + strconv.Quote(r.failure.errorType)
	}
	if s.sysMin <= levelDebug || level == levelWarn {
		b := append(append(appendHead(nil, r.end, "platform.runtimeDone"), `{"requestId":"`...), r.requestID...)
		b = append(append(append(b, `",`...), status...), `,"metrics":{"durationMs":`...)
		b = append(appendExactMillis(b, r.duration), `,"producedBytes":`...)
		b = append(strconv.AppendInt(b, int64(r.produced), 10), "}}}\n"...)
		s.event(string(b), r.end)
	}
	if level < s.sysMin {
		return
	}
	b := append(append(appendHead(s.scratch[:0], r.end, "platform.report"), `{"requestId":"`...), r.requestID...)
	b = appendExactMillis(append(b, `","metrics":{"durationMs":`...), r.duration)
	b = strconv.AppendInt(append(b, `,"billedDurationMs":`...), r.billed(), 10)
	b = strconv.AppendInt(append(b, `,"memorySizeMB":`...), int64(s.version.MemoryMB), 10)
	b = strconv.AppendInt(append(b, `,"maxMemoryUsedMB":`...), int64(r.maxMemory), 10)
	if r.init > 0 {
		b = appendExactMillis(append(b, `,"initDurationMs":`...), r.init)
	}
	b = append(append(append(b, `},`...), status...), "}}\n"...)
	s.scratch = b
	s.event(string(b), r.end)
}

// billed is the time that AWS would charge for, in ms rounded up: the init phase counts (since August 2025).
func (r *report) billed() int64 {
	return int64((r.duration + r.init + time.Millisecond - 1) / time.Millisecond)
}

// initStart opens the init phase. A container image has no runtime version to name.
func (s *logStream) initStart(now time.Time) {
	if s.version.Image != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	version, arn := versionName(s.runtime), s.runtime.Version.ARN(s.version.Region)
	if !s.asJSON {
		s.event("INIT_START Runtime Version: "+version+"\tRuntime Version ARN: "+arn+"\n", now)
	} else if levelInfo >= s.sysMin {
		s.event(fmt.Sprintf(`%s{"initializationType":"on-demand","phase":"init","runtimeVersion":"%s","runtimeVersionArn":"%s",`+
			`"functionName":"%s","functionVersion":"%s","instanceId":"%s","instanceMaxMemory":%d}}`+"\n",
			appendHead(nil, now, "platform.initStart"), version, arn,
			s.version.Function, s.version.Number, s.stream, s.version.MemoryMB<<20), now)
	}
	s.flush()
}

// initDone closes a good init phase. Text says nothing: the first REPORT has the duration.
func (s *logStream) initDone(now time.Time, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endPartial(now)
	if s.asJSON && s.sysMin <= levelDebug {
		s.event(fmt.Sprintf(`%s{"initializationType":"on-demand","phase":"init","status":"success"}}`+"\n",
			appendHead(nil, now, "platform.initRuntimeDone")), now)
		s.event(string(appendExactMillis(append(appendHead(nil, now, "platform.initReport"),
			`{"initializationType":"on-demand","phase":"init","status":"success","metrics":{"durationMs":`...), d))+"}}}\n", now)
	}
	s.flush()
}

// initReport closes a failed initialisation; phase is "init", or "invoke" when it was repeated for an invocation.
func (s *logStream) initReport(now time.Time, d time.Duration, phase string, f *failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endPartial(now)
	errorType := ""
	switch {
	case s.asJSON:
		if f.class != lambda.TimedOut {
			errorType = `,"errorType":` + strconv.Quote(f.errorType)
		}
		s.event(fmt.Sprintf(`%s{"initializationType":"on-demand","phase":"%s","status":"%s"%s,"metrics":{"durationMs":%s}}}`+"\n",
			appendHead(nil, now, "platform.initReport"), phase, f.status(), errorType, appendExactMillis(nil, d)), now)
	default:
		if f.class != lambda.TimedOut {
			errorType = "\tError Type: " + f.errorType
		}
		s.event(fmt.Sprintf("INIT_REPORT Init Duration: %s ms\tPhase: %s\tStatus: %s%s\n", appendMillis(nil, d), phase, f.status(), errorType), now)
	}
	s.flush()
}

// noticeDropped says how much output was not kept; mu is held.
func (s *logStream) noticeDropped(now time.Time) {
	lines, size := s.droppedLines, s.droppedBytes
	s.droppedLines, s.droppedBytes = 0, 0
	if s.asJSON {
		s.event(fmt.Sprintf(`%s{"droppedBytes":%d,"droppedRecords":%d,"reason":"the function printed more than %d bytes a second"}}`+"\n",
			appendHead(nil, now, "platform.logsDropped"), size, lines, logRate), now)
		return
	}
	s.event(fmt.Sprintf("LOGS_DROPPED Records: %d\tBytes: %d\tReason: the function printed more than %d bytes a second\n", lines, size, logRate), now)
}

// appendHead begins a platform event in JSON: all before its record.
func appendHead(b []byte, now time.Time, kind string) []byte {
	b = append(b, `{"time":"`...)
	b = now.UTC().AppendFormat(b, timeLayout)
	b = append(append(b, `","type":"`...), kind...)
	return append(b, `","record":`...)
}

// appendMillis writes d in ms with two decimals.
func appendMillis(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, float64(d.Microseconds())/1000, 'f', 2, 64)
}

// appendExactMillis writes d in ms with up to three decimals.
func appendExactMillis(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, float64(d.Microseconds())/1000, 'f', -1, 64)
}

// versionName writes a runtime's version as INIT_START lines do: "python:3.11.v1a2b3c4d" for python3.11, "nodejs:20.v…"
// for nodejs20.x. AWS counts versions; ours is the beginning of the digest.
func versionName(rt *runtimes.Runtime) string {
	name := strings.TrimSuffix(rt.Name, ".x")
	family := strings.TrimRight(name, "0123456789.")
	if i := strings.IndexByte(name, '.'); isProvided(name) && i >= 0 {
		family = name[:i]
	}
	digest := string(rt.Version)
	return family + ":" + strings.TrimPrefix(name[len(family):], ".") + ".v" + digest[:min(8, len(digest))]
}
