// Package runtimeapi serves the Lambda Runtime API of one environment: over HTTP as published (2018-06-01), and over a
// stream of length-prefixed frames to Berth's own bootstraps. Both are faces of the same API value.
//
// Life: New → the worker starts the runtime process → the runtime asks for an event (Ready) → Invoke, one at a time → …
// When the runtime process ends, the worker lets the face finish (ServeConn returns once it has read the process's last
// words, which may be an init error), calls Reset, and may start another process against the same API value.
package runtimeapi

import (
	"errors"
	"time"

	"berth/lambda"
)

// TokenHeader carries Event.TenantToken in answers to /next. It is Berth's own; AWS has none like it.
const TokenHeader = "Lambda-Runtime-Berth-Tenant-Token"

// ErrReset is what a waiting call gets when the runtime process was reset or the API closed under it.
var ErrReset = errors.New("the runtime was reset")

// Event is one invocation as the runtime sees it. It is not copied: its payload must not be changed after Invoke was called.
type Event struct {
	RequestID       string
	Deadline        time.Time
	InvokedARN      string
	TraceID         string
	ClientContext   string // JSON, "" if none
	CognitoIdentity string // JSON, "" if none
	Tenant          string
	TenantToken     string // proves to others whose call it is; "" if the function asks for none
	Payload         []byte
	Stream          lambda.ResponseStream // takes a response that the runtime streams, as it comes; nil: such a response is collected
}

// Response is the runtime's answer to one Event.
type Response struct {
	Payload   []byte
	IsError   bool   // posted to …/error
	ErrorType string // Lambda-Runtime-Function-Error-Type, "" if none; at most 256 bytes, printable ASCII only
	TooLarge  bool   // the runtime tried to answer with more than lambda.MaxPayload bytes (MaxStream, if streamed); Payload is empty
	Streamed  bool   // the response, or what there was of it, went to Event.Stream
	// StreamedBytes is how long it was.
	StreamedBytes int64
}

// InitError is what a runtime reported to /runtime/init/error before it ever asked for an event.
type InitError struct {
	Payload   []byte // the runtime's JSON, at most lambda.MaxPayload bytes
	ErrorType string
}

func (e *InitError) Error() string { return "the runtime failed to initialise: " + e.ErrorType }
