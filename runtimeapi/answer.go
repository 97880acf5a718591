package runtimeapi

import (
	"encoding/base64"
	"encoding/json"

	"berth/lambda"
)

const (
	withCause = "application/vnd.aws.lambda.error.cause+json"
	streaming = "streaming" // the only Lambda-Runtime-Function-Response-Mode that there is
)

// takeAnswer takes the runtime's answer to the event with this id. The answer counts as soon as it is here in full; of a
// streamed one each part counts as it comes.
func (a *API) takeAnswer(h *head, b *body, id []byte, isError bool) reply {
	p := post{isError: isError, errorType: cleanErrorType(string(h.errorType)), withCause: string(h.contentType) == withCause}
	if !isError {
		p.mode = string(h.mode)
		p.contentType = clean(string(h.contentType[:min(len(h.contentType), maxContentType)]), visible)
	}
	gen, scratch, sink, refuse := a.beginAnswer(id, &p)
	if refuse != nil {
		return *refuse
	}
	if sink != nil {
		return a.streamAnswer(gen, sink, &p, b)
	}
	payload, scratch, readErr := b.all(scratch, lambda.MaxPayload)
	resp, answer := p.response(payload, readErr, b)

	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.gen != gen: // the process was reset meanwhile: its last words are late
		return refuseID()
	case readErr != nil && readErr != errTooLarge: // its process is about to be found dead, or may try again
		a.enter(running)
		return refuseTruncated()
	}
	a.scratch = scratch
	a.enter(answered)
	resp.Streamed = a.streamed
	a.finish(result{resp: resp})
	return answer
}

// post is what the head of an answer says of it.
type post struct {
	isError     bool
	errorType   string
	withCause   bool
	mode        string
	contentType string // of a response
}

// beginAnswer takes note that an answer to the event with this id is being received, and lends the buffer for it, or the stream if
// it is to be streamed; or it says how to refuse it. Only one answer is received at a time, which bounds the memory that a
// function can make the host hold.
func (a *API) beginAnswer(id []byte, p *post) (gen uint64, scratch []byte, to *stream, refuse *reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.event == nil || string(id) != a.event.RequestID || a.closed {
		r := refuseID()
		return 0, nil, nil, &r
	}
	// After a stream that broke off only an error can follow.
	if from := a.phase; from != running || a.streamed && !p.isError {
		to := "InvocationResponse"
		if p.isError {
			to = "InvocationErrorResponse"
		}
		r := refuseTransition(from, to)
		return 0, nil, nil, &r
	}
	scratch, a.scratch = a.scratch, nil
	a.enter(answering)
	if p.mode == streaming && a.stream != nil {
		a.streamed = true
		return a.gen, nil, a.stream, nil
	}
	return a.gen, scratch, nil, nil
}

// response makes a Response of a posted body, and says how to answer the post.
func (p *post) response(payload []byte, readErr error, b *body) (Response, reply) {
	switch {
	case readErr == errTooLarge:
		return Response{IsError: p.isError, ErrorType: p.errorType, TooLarge: true}, refuseTooLarge()
	case p.isError:
		if p.withCause {
			payload = withoutCause(payload)
		}
		return Response{IsError: true, ErrorType: p.errorType, Payload: payload}, accept
	case p.mode != "" && p.mode != streaming:
		return Response{IsError: true, ErrorType: "Runtime.InvalidResponseModeHeader"}, refuseMode()
	case len(b.trailerType) > 0: // the stream broke off: what came before is not an answer
		return b.broken(), accept
	}
	return Response{Payload: payload}, accept
}

// broken is the error that the trailer of a streamed response tells of.
func (b *body) broken() Response {
	payload, err := base64.StdEncoding.DecodeString(string(b.trailerBody))
	if err != nil || len(payload) > lambda.MaxPayload {
		payload = nil
	}
	return Response{IsError: true, ErrorType: cleanErrorType(string(b.trailerType)), Payload: payload}
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
