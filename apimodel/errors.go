package apimodel

import (
	"net/http"
	"strconv"
	"time"

	"berth/lambda"
)

// exception says how an error code looks on the wire.
type exception struct {
	status  int
	message string // the body member that holds the message: "Message" or "message"
	kind    string // the body's Type: "User", "Service", or "" for none
}

func newException(s *rawShape) exception {
	e := exception{status: s.Error.HTTPStatusCode, message: "Message", kind: "User"}
	if _, lower := s.Members["message"]; lower {
		e.message = "message"
	}
	if s.Fault {
		e.kind = "Service"
	}
	return e
}

// framework holds the codes that the model does not declare: the service's framework, its front door, and our own.
var framework = map[lambda.Code]exception{
	lambda.Validation:            {http.StatusBadRequest, "message", ""},            // recorded 12-01-2026
	lambda.RequestEntityTooLarge: {http.StatusRequestEntityTooLarge, "message", ""}, // recorded 25-11-2025
	lambda.SerializationFailure:  {http.StatusBadRequest, "message", ""},
	lambda.AccessDenied:          {http.StatusForbidden, "Message", ""},
	lambda.InvalidSignature:      {http.StatusForbidden, "message", ""},
	lambda.IncompleteSignature:   {http.StatusForbidden, "message", ""},
	lambda.MissingAuthToken:      {http.StatusForbidden, "message", ""},
	lambda.UnrecognizedClient:    {http.StatusForbidden, "message", ""},
	lambda.UnknownOperation:      {http.StatusNotFound, "message", ""},
	lambda.MalformedPolicy:       {http.StatusBadRequest, "message", ""},
	lambda.NotImplemented:        {http.StatusNotImplemented, "message", ""},
}

// Status returns the HTTP status of an error code; an unknown code is a bug and counts as ServiceFailure.
func (m *Model) Status(code lambda.Code) int { return m.exception(code).status }

func (m *Model) exception(code lambda.Code) exception {
	if e, ok := framework[code]; ok {
		return e
	}
	if e, ok := m.exceptions[string(code)]; ok {
		return e
	}
	return m.exceptions[string(lambda.ServiceFailure)]
}

// WriteError writes an error answer: x-amzn-ErrorType, the status, and the body
// {"Type":"User","Message"|"message":…} with the spelling of the code's exception shape. TooManyRequests carries Reason
// and Retry-After as well. A broken connection goes unnoticed: there is nobody to tell.
func (m *Model) WriteError(w http.ResponseWriter, e *lambda.Error) {
	x := m.exception(e.Code)
	body := append(make([]byte, 0, len(e.Message)+128), '{')
	if e.Reason != "" {
		body = append(appendString(append(body, `"Reason":`...), e.Reason), ',')
	}
	if x.kind != "" {
		body = append(appendString(append(body, `"Type":`...), x.kind), ',')
	}
	body = append(appendString(body, x.message), ':')
	body = append(appendString(body, e.Message), '}')

	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h["X-Amzn-Errortype"] = []string{string(e.Code)}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(x.status)
	_, _ = w.Write(body)
}
