package apiserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"berth/lambda"
)

// Sizes of request bodies, in bytes.
const (
	maxCodeRequest  = 70167211 // CreateFunction, recorded on AWS 25-11-2025: 50 MiB of zip in base64, and the rest
	maxSmallRequest = 1 << 20  // operations that carry no code
)

// bodyLimit returns the largest body that an operation takes.
func bodyLimit(operation string) int64 {
	switch operation {
	case "CreateFunction", "UpdateFunctionCode", "PublishLayerVersion":
		return maxCodeRequest
	}
	return maxSmallRequest
}

// admit reads the body and finds out who calls. A request that carries no signature, or declares too large a body, is
// refused before its body is read.
func (s *Server) admit(c *call, limit int64) error {
	if err := s.refuseUnsigned(c); err != nil {
		return err
	}
	body, size, err := readBody(c.r, limit)
	if err != nil {
		return err
	}
	if size > limit {
		return lambda.Errorf(lambda.RequestEntityTooLarge, "Request must be smaller than %d bytes for the %s operation", limit, c.op.Name)
	}
	c.body = body
	c.account, err = s.cfg.Authenticate(c.r, body)
	return err
}

// refuseUnsigned lets Authenticate refuse what has no signature to look at; if it does not, nothing is lost.
func (s *Server) refuseUnsigned(c *call) error {
	if len(c.r.Header["Authorization"]) > 0 || c.r.URL.RawQuery != "" { // a query may hold a presigned signature
		return nil
	}
	_, err := s.cfg.Authenticate(c.r, nil)
	return err
}

// readBody reads a body of at most limit bytes. size is the body's declared size, or what was read of it; the body is nil
// if size is above limit.
func readBody(r *http.Request, limit int64) (body []byte, size int64, err error) {
	switch {
	case r.ContentLength > limit:
		return nil, r.ContentLength, nil
	case r.ContentLength == 0 || r.Body == nil:
		return nil, 0, nil
	case r.ContentLength > 0:
		body = make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, 0, badBody(err)
		}
		return body, r.ContentLength, nil
	}
	body, err = io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, 0, badBody(err)
	}
	if size = int64(len(body)); size > limit {
		body = nil
	}
	return body, size, nil
}

// badBody says that a body ended early. The answer rarely finds its reader.
func badBody(err error) error {
	var e *http.MaxBytesError
	if errors.As(err, &e) {
		return lambda.Errorf(lambda.RequestEntityTooLarge, "Request must be smaller than %s bytes", strconv.FormatInt(e.Limit, 10))
	}
	return fmt.Errorf("read the request body: %w", err)
}
