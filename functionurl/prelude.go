package functionurl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

const (
	// IntegrationType is the content type of a streamed response that begins with a prelude: {statusCode, headers, cookies} as JSON and
	// eight zero bytes (what awslambda.HttpResponseStream writes).
	IntegrationType = "application/vnd.awslambda.http-integration-response"
	streamType      = "application/octet-stream"
	// maxPrelude bounds a prelude, in bytes. Clients take fewer headers than that.
	maxPrelude = 64 << 10
)

var preludeEnd = make([]byte, 8)

var errPrelude = fmt.Errorf("a response of type %s begins with JSON and eight zero bytes, within %d bytes", IntegrationType, maxPrelude)

// Head finds out where a streamed response begins: its status and headers. The zero value is ready.
type Head struct {
	prelude bool
	buf     []byte
}

// Begin takes the content type that the runtime gave. It returns the response's head if that is all there is to know, and nil if the
// head is in the bytes that follow.
func (h *Head) Begin(contentType string) *Response {
	if contentType == IntegrationType {
		h.prelude = true
		return nil
	}
	if contentType == "" {
		contentType = streamType
	}
	return &Response{Status: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}}
}

// Take takes the next bytes of the response. It returns the head once it is whole, with the beginning of the body that came with it,
// and nil before. An error says why there will be none.
func (h *Head) Take(p []byte) (*Response, error) {
	if !h.prelude {
		return nil, errors.New("the response has begun")
	}
	h.buf = append(h.buf, p...)
	end := bytes.Index(h.buf, preludeEnd)
	switch {
	case end < 0 && len(h.buf) > maxPrelude+len(preludeEnd), end > maxPrelude:
		return nil, errPrelude
	case end < 0:
		return nil, nil
	}
	response, err := readPrelude(h.buf[:end])
	if err != nil {
		return nil, fmt.Errorf("the prelude: %w", err)
	}
	response.Body = h.buf[end+len(preludeEnd):]
	return response, nil
}

func readPrelude(text []byte) (*Response, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	a := &answer{statusCode: members["statusCode"]}
	if a.statusCode == nil {
		a.statusCode = json.RawMessage("200")
	}
	if err := a.fill(members); err != nil {
		return nil, err
	}
	response, err := a.response()
	if err == nil && !a.hasType() {
		response.Header.Set("Content-Type", streamType)
	}
	return response, err
}

func (a *answer) hasType() bool {
	for name := range a.headers {
		if http.CanonicalHeaderKey(name) == "Content-Type" {
			return true
		}
	}
	return false
}
