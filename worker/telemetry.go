package worker

import (
	"time"

	"berth/extensions"
	"berth/lambda"
)

// initEvent is what telemetry says of an initialisation; f is nil for success.
func (e *environment) initEvent(phase string, f *failure) extensions.Init {
	in := extensions.Init{Type: "on-demand", Phase: phase, Status: f.status(), Runtime: versionName(e.runtime)}
	if e.ahead {
		in.Type = "provisioned-concurrency"
	}
	if f != nil && f.class != lambda.TimedOut {
		in.ErrorType = f.errorType
	}
	return in
}

// tellInit tells subscribers how an initialisation went.
func (e *environment) tellInit(phase string, f *failure, took time.Duration) {
	if !e.ext.Listening() {
		return
	}
	now := time.Now()
	in := e.initEvent(phase, f)
	if f != nil {
		e.ext.InitRuntimeDone(now, in)
	}
	e.ext.InitReport(now, in, took)
}

// tellRuntimeDone tells subscribers that the runtime is done with an invocation, and keeps what is to be told of it when the
// extensions are done, too.
func (e *environment) tellRuntimeDone(r *report, start time.Time) {
	if !e.ext.Listening() {
		return
	}
	e.ended = &extensions.Ended{RequestID: r.requestID, Status: r.failure.status(), Took: r.duration, Init: r.init,
		Produced: r.produced, MemoryMB: e.version.MemoryMB, UsedMB: r.maxMemory}
	if r.failure != nil && r.failure.class != lambda.TimedOut {
		e.ended.ErrorType = r.failure.errorType
	}
	e.invoked = start
	e.ext.RuntimeDone(r.end, e.ended)
}

// tellReport tells subscribers that an invocation is over.
func (e *environment) tellReport() {
	if e.ended == nil {
		return
	}
	now := time.Now()
	e.ended.Whole = max(e.ended.Took, now.Sub(e.invoked))
	e.ext.Report(now, e.ended)
	e.ended = nil
}
