package worker

import (
	"fmt"
	"strconv"
	"time"

	"berth/extensions"
	"berth/lambda"
)

// unhandled is the X-Amz-Function-Error of everything that goes wrong in a function.
const unhandled = "Unhandled"

const timeoutType = "Sandbox.Timedout"

// failure is how an initialisation or an invocation failed through the function's own fault.
type failure struct {
	class     lambda.Class
	errorType string
	message   string // of the platform's own errors, without the request id
	payload   []byte // the runtime's own JSON; nil for the platform's errors
	unseen    bool   // the runtime failed before it asked for the invocation's event
}

// status is the word for f in REPORT lines and platform events.
func (f *failure) status() string {
	switch {
	case f == nil:
		return "success"
	case f.class == lambda.TimedOut:
		return "timeout"
	}
	return "error"
}

// answer is the payload that the caller gets.
func (f *failure) answer(requestID string, timeout time.Duration) []byte {
	switch {
	case f.payload != nil:
		return f.payload
	case f.class == lambda.TooLarge:
		return fmt.Appendf(nil, `{"errorMessage":"Response payload size exceeded maximum allowed payload size (%d bytes).","errorType":"%s"}`,
			lambda.MaxPayload, f.errorType)
	}
	return fmt.Appendf(nil, `{"errorType":%s,"errorMessage":%s}`,
		strconv.Quote(f.errorType), strconv.Quote("RequestId: "+requestID+" Error: "+f.text(timeout)))
}

// text is the message without the request id.
func (f *failure) text(timeout time.Duration) string {
	if f.class == lambda.TimedOut {
		return fmt.Sprintf("Task timed out after %.2f seconds", timeout.Seconds())
	}
	return f.message
}

// reason is what extensions are told when f ends their environment.
func (f *failure) reason() extensions.Reason {
	if f.class == lambda.TimedOut {
		return extensions.Timeout
	}
	return extensions.Failed
}

// platform reports whether the platform, not the function's handler, says that something went wrong: REPORT has a status.
func (f *failure) platform() bool { return f != nil && f.class != lambda.HandlerErr }

// fatal reports whether the runtime process did not survive f.
func (f *failure) fatal() bool { return f.platform() && f.class != lambda.TooLarge }
