package apiserver

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"berth/lambda"
)

// Bounds of what an invocation carries beside its payload.
const (
	maxClientContext = 3583 // bytes of base64 (API reference, InvokeWithResponseStream)
	maxTraceID       = 256  // bytes of the X-Amzn-Trace-Id header; AWS's own stay below 150
)

// Invoke's headers in net/http's canonical spelling.
const (
	typeHeader      = "X-Amz-Invocation-Type"
	logTypeHeader   = "X-Amz-Log-Type"
	contextHeader   = "X-Amz-Client-Context"
	tenantHeader    = "X-Amz-Tenant-Id"
	durableHeader   = "X-Amz-Durable-Execution-Name"
	versionHeader   = "X-Amz-Executed-Version"
	errorHeader     = "X-Amz-Function-Error"
	logResultHeader = "X-Amz-Log-Result"
	traceHeader     = "X-Amzn-Trace-Id"
)

// The kinds of invocation.
const (
	requestResponse = "RequestResponse"
	event           = "Event"
	dryRun          = "DryRun"
)

// Header values that answers share; nobody changes them.
var (
	jsonContent   = []string{"application/json"}
	latestVersion = []string{lambda.Latest}
	unhandled     = []string{"Unhandled"}
	emptyObject   = []byte("{}")
)

// serveInvoke answers Invoke. It is the hot path and goes round the generic decoder: the model's checks on its few members
// are in readInvocation and lambda.ParseRef.
func (s *Server) serveInvoke(c *call) error {
	kind, err := invocationType(c.r)
	if err != nil {
		return err
	}
	ref, in, err := s.readInvoke(c, kind)
	if err != nil {
		return err
	}
	switch kind {
	case dryRun:
		target, err := s.cfg.Catalog.Resolve(ref)
		if err == nil {
			err = target.Version.CheckTenant(in.Tenant)
		}
		if err != nil {
			return err
		}
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case event:
		return s.accept(c, ref, in)
	}
	out, err := s.cfg.Invoker.Invoke(c.r.Context(), ref, in)
	if err != nil {
		return err
	}
	writeOutcome(c.w, in, out)
	return nil
}

// readInvoke admits a request, and reads what it wants to run.
func (s *Server) readInvoke(c *call, kind string) (ref lambda.Ref, in *lambda.Invocation, err error) {
	if err := s.admitInvoke(c, kind); err != nil {
		return ref, nil, err
	}
	qualifier := ""
	if c.r.URL.RawQuery != "" {
		qualifier = c.r.URL.Query().Get("Qualifier")
	}
	if ref, err = s.invocable(c, invokeAction, c.path.Get("FunctionName"), qualifier); err != nil {
		return ref, nil, err
	}
	if in, err = readInvocation(c); err == nil {
		c.w.Header()[traceHeader] = []string{in.TraceID}
	}
	return ref, in, err
}

// invocationType returns how a request wants to be run.
func invocationType(r *http.Request) (string, error) {
	switch kind := first(r.Header, typeHeader); kind {
	case "", requestResponse:
		return requestResponse, nil
	case event, dryRun:
		return kind, nil
	default:
		return "", oneOf(kind, "invocationType", "Event, RequestResponse, DryRun")
	}
}

func oneOf(value, member, set string) error {
	return lambda.Errorf(lambda.Validation, "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: "+
		"Member must satisfy enum value set: [%s]", value, member, set)
}

// first returns a header's first value; name is in canonical spelling.
func first(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// admitInvoke is admit with Invoke's own limits and words.
func (s *Server) admitInvoke(c *call, kind string) error {
	if err := s.refuseUnsigned(c); err != nil {
		return err
	}
	limit := int64(lambda.MaxPayload)
	if kind == event {
		limit = lambda.MaxAsync
	}
	body, size, err := readBody(c.r, limit)
	if err != nil {
		return err
	}
	if size > limit {
		return lambda.Errorf(lambda.RequestTooLarge, "%d byte payload is too large for the %s invocation type (limit %d bytes)", size, kind, limit)
	}
	c.body = body
	return s.identify(c, body)
}

// readInvocation checks and reads everything but the function's name.
func readInvocation(c *call) (*lambda.Invocation, error) {
	h := c.r.Header
	in := &lambda.Invocation{RequestID: c.id, Payload: c.body}
	switch kind := first(h, logTypeHeader); kind {
	case "", "None":
	case "Tail":
		in.WantLog = true
	default:
		return nil, oneOf(kind, "logType", "None, Tail")
	}
	if len(in.Payload) == 0 {
		in.Payload = emptyObject
	} else if err := checkJSON(in.Payload); err != nil {
		return nil, err
	}
	if text := first(h, contextHeader); text != "" {
		var err error
		if in.ClientContext, err = readClientContext(text); err != nil {
			return nil, err
		}
	}
	var err error
	if in.Tenant, err = readTenant(h); err != nil {
		return nil, err
	}
	if len(h[durableHeader]) > 0 {
		return nil, invalid("You cannot specify a durable execution name for a function without a durable configuration.")
	}
	in.TraceID = traceID(first(h, traceHeader), c.id)
	return in, nil
}

func readClientContext(text string) (string, error) {
	if len(text) > maxClientContext {
		return "", lambda.Errorf(lambda.InvalidRequestContent,
			"Client context must be at most %d bytes of base64; this one has %d.", maxClientContext, len(text))
	}
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !utf8.Valid(decoded) || checkJSON(decoded) != nil {
		return "", lambda.Errorf(lambda.InvalidRequestContent, "Client context must be a valid Base64-encoded JSON object.")
	}
	return string(decoded), nil
}

// traceID returns the caller's trace header, or a new one that is not sampled. A new one borrows the random bits of the
// request id, a version-4 UUID: reading more of them would cost more than the rest of this function.
func traceID(given, requestID string) string {
	if given != "" && len(given) <= maxTraceID {
		return given
	}
	const shape = "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0"
	b := []byte(shape)
	now := uint32(time.Now().Unix())
	hex.Encode(b[7:15], []byte{byte(now >> 24), byte(now >> 16), byte(now >> 8), byte(now)})
	digits := b[16:16:40]
	for i := len(requestID) - 1; i >= 0 && len(digits) < 24; i-- {
		if requestID[i] != '-' {
			digits = append(digits, requestID[i])
		}
	}
	copy(b[48:64], requestID[:8])
	copy(b[56:64], requestID[28:36])
	return string(b)
}

// writeOutcome answers a synchronous invocation.
func writeOutcome(w http.ResponseWriter, in *lambda.Invocation, out *lambda.Outcome) {
	h := w.Header()
	h["Content-Type"] = jsonContent
	h["Content-Length"] = []string{strconv.Itoa(len(out.Payload))}
	if out.Version == lambda.Latest {
		h[versionHeader] = latestVersion
	} else {
		h[versionHeader] = []string{out.Version}
	}
	switch out.FunctionError {
	case "":
	case "Unhandled":
		h[errorHeader] = unhandled
	default:
		h[errorHeader] = []string{out.FunctionError}
	}
	if in.WantLog {
		h[logResultHeader] = []string{base64.StdEncoding.EncodeToString(out.Log)}
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(out.Payload) // an error means that the client is gone
}
