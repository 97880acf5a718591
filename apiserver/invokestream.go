package apiserver

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"

	"berth/lambda"
)

const eventStreamType = "application/vnd.amazon.eventstream"

// serveInvokeStream answers InvokeWithResponseStream: frames of the response as it comes, and one that says how it ended.
func (s *Server) serveInvokeStream(c *call) error {
	kind := first(c.r.Header, typeHeader)
	if kind != "" && kind != requestResponse && kind != dryRun {
		return oneOf(kind, "invocationType", "RequestResponse, DryRun")
	}
	ref, in, err := s.readInvoke(c, requestResponse)
	if err != nil {
		return err
	}
	if kind == dryRun {
		if _, err := s.cfg.Catalog.Resolve(ref); err != nil {
			return err
		}
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	frames := &frameStream{w: c.w, in: in, flow: newFlow(c.w), encoder: eventstream.NewEncoder()}
	in.Stream = frames
	out, err := s.cfg.Invoker.Invoke(c.r.Context(), ref, in)
	frames.resume()
	if err != nil {
		if !frames.begun {
			return err
		}
		s.logFailure(c, err)
		frames.fail(err)
		return nil
	}
	frames.end(out)
	return nil
}

// frameStream writes a response as event stream frames (smithy, "Amazon Event Stream"). Errors of the connection need no answer:
// the client is gone, or reads too slowly, and the invocation runs on without it.
type frameStream struct {
	flow
	w       http.ResponseWriter
	in      *lambda.Invocation
	encoder *eventstream.Encoder
	begun   bool
}

// completion is the last frame: the model's InvokeWithResponseStreamCompleteEvent.
type completion struct {
	ErrorCode    string `json:",omitempty"`
	ErrorDetails string `json:",omitempty"`
	LogResult    string `json:",omitempty"` // base64
}

// Begin sends the head. The response's own content type has no place in it: the header says how the frames are.
func (f *frameStream) Begin(string) error {
	f.head(f.in.Version)
	return f.control.Flush()
}

func (f *frameStream) head(version string) {
	f.begun = true
	h := f.w.Header()
	h.Set("Content-Type", eventStreamType)
	h[versionHeader] = []string{version}
	f.w.WriteHeader(http.StatusOK)
}

// Write sends one frame of the response.
func (f *frameStream) Write(p []byte) (int, error) {
	if err := f.frame("PayloadChunk", "application/octet-stream", p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *frameStream) frame(event, contentType string, payload []byte) error {
	message := eventstream.Message{Payload: payload, Headers: eventstream.Headers{
		{Name: eventstreamapi.EventTypeHeader, Value: eventstream.StringValue(event)},
		{Name: eventstreamapi.ContentTypeHeader, Value: eventstream.StringValue(contentType)},
		{Name: eventstreamapi.MessageTypeHeader, Value: eventstream.StringValue(eventstreamapi.EventMessageType)},
	}}
	if err := f.encoder.Encode(f.w, message); err != nil {
		return err
	}
	return f.control.Flush()
}

// end sends the response, if it did not come in parts, and how it ended.
func (f *frameStream) end(out *lambda.Outcome) {
	if !f.begun {
		f.head(out.Version)
	}
	last := completion{ErrorCode: out.FunctionError}
	switch {
	case out.FunctionError != "":
		last.ErrorDetails = string(out.Payload)
	case !out.Streamed && len(out.Payload) > 0:
		if _, err := f.Write(out.Payload); err != nil {
			return
		}
	}
	if f.in.WantLog {
		last.LogResult = base64.StdEncoding.EncodeToString(out.Log)
	}
	f.complete(last)
}

// fail ends a response that had begun when the server itself failed.
func (f *frameStream) fail(err error) {
	e := internalError()
	_ = errors.As(err, &e)
	f.complete(completion{ErrorCode: string(e.Code), ErrorDetails: e.Message})
}

func (f *frameStream) complete(last completion) {
	text, err := json.Marshal(last)
	if err == nil { // strings: always
		_ = f.frame("InvokeComplete", "application/json", text) // an error means that the client is gone
	}
}

// interruptGrace is how long a reader may still take to read what waits for it when the invocation's time is over.
const interruptGrace = 500 * time.Millisecond

// flow is the connection that a streamed response goes out on. How long it may wait for its reader is whoever serves HTTP's to say.
type flow struct {
	control     *http.ResponseController
	interrupted *atomic.Bool
}

func newFlow(w http.ResponseWriter) flow {
	return flow{http.NewResponseController(w), new(atomic.Bool)}
}

// Interrupt implements lambda.Interrupter.
func (f flow) Interrupt() {
	f.interrupted.Store(true)
	_ = f.control.SetWriteDeadline(time.Now().Add(interruptGrace)) // an error: there is no connection, and so nothing to wait for
}

// resume takes an interruption back, which the connection has survived if its reader read.
func (f flow) resume() {
	if f.interrupted.Load() {
		_ = f.control.SetWriteDeadline(time.Time{})
	}
}
