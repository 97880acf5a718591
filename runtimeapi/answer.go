package runtimeapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"

	"berth/lambda"
)

const (
	errorTypeHeader = "Lambda-Runtime-Function-Error-Type" // also a trailer of streamed responses
	errorBodyHeader = "Lambda-Runtime-Function-Error-Body" // trailer, base64
	modeHeader      = "Lambda-Runtime-Function-Response-Mode"
	withCause       = "application/vnd.aws.lambda.error.cause+json"
)

// serveAnswer takes the runtime's answer to the event with this id. The answer counts as soon as it is here in full.
func (a *API) serveAnswer(w http.ResponseWriter, r *http.Request, id string, isError bool) {
	gen, scratch, refuse := a.beginAnswer(id, isError)
	if refuse != nil {
		refuse(w)
		return
	}
	body, readErr := readAll(r.Body, scratch)
	resp, refuse := answer(r, body, readErr, isError)

	a.mu.Lock()
	switch {
	case a.gen != gen: // the process was reset meanwhile: its last words are late
		refuse = refuseID
	case readErr != nil && readErr != errTooLarge: // its process is about to be found dead, or may try again
		a.enter(running)
		refuse = refuseTruncated
	default:
		if cap(body) <= keepScratch {
			a.scratch = body[:0]
		}
		a.enter(answered)
		a.finish(result{resp: resp})
	}
	a.mu.Unlock()

	if readErr == errTooLarge {
		drain(r.Body)
	}
	if refuse == nil {
		refuse = accept
	}
	refuse(w)
}

// beginAnswer takes note that an answer to the event with this id is being received, and lends the buffer for it; or it
// says how to refuse it. Only one answer is received at a time, which bounds the memory that a function can make the host
// hold.
func (a *API) beginAnswer(id string, isError bool) (gen uint64, scratch []byte, refuse func(http.ResponseWriter)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.event == nil || id != a.event.RequestID || a.closed {
		return 0, nil, refuseID
	}
	if from := a.phase; from != running {
		to := "InvocationResponse"
		if isError {
			to = "InvocationErrorResponse"
		}
		return 0, nil, func(w http.ResponseWriter) { refuseTransition(w, from, to) }
	}
	scratch, a.scratch = a.scratch, nil
	a.enter(answering)
	return a.gen, scratch, nil
}

// answer makes a Response of a posted body, and says how to answer the post if not with 202.
func answer(r *http.Request, body []byte, readErr error, isError bool) (Response, func(http.ResponseWriter)) {
	errorType := cleanErrorType(r.Header.Get(errorTypeHeader))
	switch {
	case readErr == errTooLarge:
		return Response{IsError: isError, ErrorType: errorType, TooLarge: true}, refuseTooLarge
	case isError:
		if r.Header.Get("Content-Type") == withCause {
			return Response{IsError: true, ErrorType: errorType, Payload: withoutCause(body)}, nil
		}
		return Response{IsError: true, ErrorType: errorType, Payload: own(body)}, nil
	}
	if mode := r.Header.Get(modeHeader); mode != "" && mode != "streaming" {
		return Response{IsError: true, ErrorType: "Runtime.InvalidResponseModeHeader"}, refuseMode
	}
	if t := r.Trailer.Get(errorTypeHeader); t != "" { // the stream broke off: what came before is not an answer
		payload, err := base64.StdEncoding.DecodeString(r.Trailer.Get(errorBodyHeader))
		if err != nil || len(payload) > lambda.MaxPayload {
			payload = nil
		}
		return Response{IsError: true, ErrorType: cleanErrorType(t), Payload: payload}, nil
	}
	return Response{Payload: own(body)}, nil
}

// own makes a received body the caller's: a copy of what stands in a buffer that is kept, else the buffer itself.
func own(body []byte) []byte {
	if cap(body) > keepScratch {
		return body
	}
	return bytes.Clone(body)
}

// withoutCause strips the X-Ray cause from an error body that carries it inline.
func withoutCause(body []byte) []byte {
	var e struct {
		Message string   `json:"errorMessage"`
		Type    string   `json:"errorType"`
		Stack   []string `json:"stackTrace"`
	}
	if json.Unmarshal(body, &e) != nil {
		return []byte(`"Invalid error body"`)
	}
	stripped, err := json.Marshal(e)
	if err != nil {
		return []byte(`"Invalid error body"`)
	}
	return stripped
}
