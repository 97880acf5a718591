package extensions

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
)

// timeLayout is the form of times in events, in UTC.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Bounds of what is kept for extensions that have not subscribed yet.
const (
	earlyEvents = 1000
	earlyBytes  = 256 << 10
)

// event is one telemetry event. The Logs API has others of its own; a kind of "" is none.
type event struct {
	at         time.Time
	category   string
	kind       string
	record     any
	legacyKind string
	legacy     any
	since      string // the schema that brought the legacy kind
}

// backlog keeps what was told before anybody subscribed; without external extensions nothing but the first event, as no other
// can have subscribed so early.
type backlog struct {
	whole  bool
	events []event
	bytes  int
}

// tell passes an event on; h.mu is held.
func (h *Host) tell(ev event) {
	for _, s := range h.subs {
		s.add(&ev)
	}
	if h.open && (h.early.whole || len(h.early.events) == 0) && len(h.early.events) < earlyEvents && h.early.bytes < earlyBytes {
		if line, ok := ev.record.(json.RawMessage); ok {
			h.early.bytes += len(line)
		}
		h.early.events = append(h.early.events, ev)
	}
}

// say tells one of the platform's events.
func (h *Host) say(ev event) {
	ev.category = "platform"
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell(ev)
}

// Listening reports whether events and lines are worth telling.
func (h *Host) Listening() bool { return h.listening.Load() }

// Line tells one printed line of the function or of an extension.
func (h *Host) Line(fromExtension bool, line []byte, at time.Time) {
	if !h.listening.Load() {
		return
	}
	line = bytes.TrimSuffix(line, []byte{'\n'})
	ev := event{at: at, category: "function"}
	if fromExtension {
		ev.category = "extension"
	}
	ev.kind, ev.legacyKind = ev.category, ev.category
	text := json.RawMessage(encode(string(line)))
	ev.record, ev.legacy = text, text
	if h.cfg.JSON && len(line) > 0 && line[0] == '{' && json.Valid(line) {
		ev.record = json.RawMessage(bytes.Clone(line))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell(ev)
}

// render makes the JSON of an event for a subscription; nil if it is not for it.
func (ev *event) render(p *plan) []byte {
	kind, record := ev.kind, ev.record
	if p.dialect.legacy {
		kind, record = ev.legacyKind, ev.legacy
		if p.schema < ev.since {
			return nil
		}
	}
	if kind == "" || !slices.Contains(p.types, ev.category) {
		return nil
	}
	return encode(struct {
		Time   string `json:"time"`
		Type   string `json:"type"`
		Record any    `json:"record"`
	}{ev.at.UTC().Format(timeLayout), kind, record})
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Init is what events say of an initialisation.
type Init struct {
	Type      string `json:"initializationType"` // "on-demand" or "provisioned-concurrency"
	Phase     string `json:"phase"`              // "init", or "invoke" if it is repeated for an invocation
	Status    string `json:"status,omitempty"`   // "success", "error" or "timeout"
	ErrorType string `json:"errorType,omitempty"`

	Runtime  string `json:"runtimeVersion,omitempty"`
	Function string `json:"functionName,omitempty"`
	Version  string `json:"functionVersion,omitempty"`

	Metrics *durations `json:"metrics,omitempty"`
}

type durations struct {
	Duration float64 `json:"durationMs"`
	Produced *int    `json:"producedBytes,omitempty"`
}

// InitStart tells platform.initStart. It is to follow Begin at once.
func (h *Host) InitStart(at time.Time, in Init) {
	in.Status, in.ErrorType, in.Function, in.Version = "", "", h.cfg.Function, h.cfg.Version
	h.say(event{at: at, kind: "platform.initStart", record: in})
}

// InitRuntimeDone tells platform.initRuntimeDone.
func (h *Host) InitRuntimeDone(at time.Time, in Init) {
	in.Runtime = ""
	h.say(event{at: at, kind: "platform.initRuntimeDone", record: in})
}

// InitReport tells platform.initReport.
func (h *Host) InitReport(at time.Time, in Init, took time.Duration) {
	in.Runtime, in.Metrics = "", &durations{Duration: millis(took)}
	h.say(event{at: at, kind: "platform.initReport", record: in})
}

// Ended is what events say of an invocation that is over.
type Ended struct {
	RequestID string
	Status    string // "success", "failure", "error" or "timeout"
	ErrorType string
	Took      time.Duration // of the runtime
	Whole     time.Duration // until all extensions were done
	Init      time.Duration // 0 unless it was the first of its environment
	Produced  int           // bytes of the response
	MemoryMB  int
	UsedMB    int
}

// InvokeStart tells platform.start.
func (h *Host) InvokeStart(at time.Time, requestID, traceID string) {
	type start struct {
		RequestID string   `json:"requestId"`
		Version   string   `json:"version,omitempty"`
		Tracing   *tracing `json:"tracing,omitempty"`
	}
	record := start{RequestID: requestID, Version: h.cfg.Version}
	legacy := record
	if traceID != "" {
		record.Tracing = &tracing{"X-Amzn-Trace-Id", traceID}
	}
	h.say(event{at: at, kind: "platform.start", record: record, legacyKind: "platform.start", legacy: legacy})
}

// RuntimeDone tells platform.runtimeDone.
func (h *Host) RuntimeDone(at time.Time, e *Ended) {
	type done struct {
		RequestID string     `json:"requestId"`
		Status    string     `json:"status"`
		ErrorType string     `json:"errorType,omitempty"`
		Metrics   *durations `json:"metrics,omitempty"`
	}
	record := done{e.RequestID, e.Status, e.ErrorType, &durations{millis(e.Took), &e.Produced}}
	legacy := done{RequestID: e.RequestID, Status: e.Status}
	if legacy.Status == "error" {
		legacy.Status = "failure"
	}
	h.say(event{at: at, kind: "platform.runtimeDone", record: record, legacyKind: "platform.runtimeDone", legacy: legacy, since: "2021-03-18"})
}

// Report tells platform.report, and the Logs API's platform.end.
func (h *Host) Report(at time.Time, e *Ended) {
	type metrics struct {
		Duration float64 `json:"durationMs"`
		Billed   int64   `json:"billedDurationMs"`
		Memory   int     `json:"memorySizeMB"`
		Used     int     `json:"maxMemoryUsedMB"`
		Init     float64 `json:"initDurationMs,omitempty"`
	}
	type report struct {
		RequestID string  `json:"requestId"`
		Status    string  `json:"status,omitempty"`
		ErrorType string  `json:"errorType,omitempty"`
		Metrics   metrics `json:"metrics"`
	}
	billed := int64((e.Whole + time.Millisecond - 1) / time.Millisecond)
	record := report{e.RequestID, e.Status, e.ErrorType, metrics{millis(e.Took), billed, e.MemoryMB, e.UsedMB, millis(e.Init)}}
	legacy := report{RequestID: e.RequestID, Metrics: record.Metrics}
	h.say(event{at: at, legacyKind: "platform.end", legacy: map[string]string{"requestId": e.RequestID}})
	h.say(event{at: at, kind: "platform.report", record: record, legacyKind: "platform.report", legacy: legacy})
}

// Tell tells platform.extension of one extension.
func (h *Host) Tell(at time.Time, x Info) {
	record := struct {
		Name      string   `json:"name"`
		State     string   `json:"state"`
		Events    []string `json:"events"`
		ErrorType string   `json:"errorType,omitempty"`
	}{x.Name, x.State, append([]string{}, x.Events...), x.ErrorType}
	h.say(event{at: at, kind: "platform.extension", record: record, legacyKind: "platform.extension", legacy: record})
}

func subscribedEvent(at time.Time, name string, p *plan) event {
	record := struct {
		Name  string   `json:"name"`
		State string   `json:"state"`
		Types []string `json:"types"`
	}{name, "Subscribed", p.types}
	return event{at: at, category: "platform", kind: "platform.telemetrySubscription", record: record,
		legacyKind: "platform.logsSubscription", legacy: record}
}

func droppedEvent(at time.Time, records, size int, reason string) *event {
	record := struct {
		Bytes   int    `json:"droppedBytes"`
		Records int    `json:"droppedRecords"`
		Reason  string `json:"reason"`
	}{size, records, reason}
	return &event{at: at, category: "platform", kind: "platform.logsDropped", record: record,
		legacyKind: "platform.logsDropped", legacy: record}
}
