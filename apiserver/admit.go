package apiserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"berth/lambda"
)

// Sizes of request bodies, in bytes.
const (
	maxCodeRequest  = 70167211 // CreateFunction, recorded on AWS 25-11-2025: 50 MiB of zip in base64, and the rest
	maxSmallRequest = 1 << 20  // operations that carry no code
	largeRequest    = 8 << 20  // from here on only maxLarge are held in memory at a time
	firstRead       = 64 << 10 // a body's first buffer: more is allocated when as much has come
)

// Limits of large requests: each may hold about four times its size while it is decoded, verified and stored.
const (
	maxLarge  = 4
	largeWait = 30 * time.Second
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
// refused before its body is read. The caller calls done when the body is no longer needed.
func (s *Server) admit(c *call, limit int64) (done func(), err error) {
	if err := s.refuseUnsigned(c); err != nil {
		return nil, err
	}
	done = func() {}
	if limit > largeRequest && (c.r.ContentLength < 0 || c.r.ContentLength > largeRequest) {
		if done, err = s.waitLarge(c.r.Context()); err != nil {
			return nil, err
		}
	}
	body, size, err := readBody(c.r, limit)
	switch {
	case err != nil:
	case size > limit:
		err = lambda.Errorf(lambda.RequestEntityTooLarge, "Request must be smaller than %d bytes for the %s operation", limit, c.op.Name)
	default:
		c.body = body
		err = s.identify(c, body)
	}
	if err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// identify finds out who calls.
func (s *Server) identify(c *call, body []byte) (err error) {
	c.who, err = s.cfg.Authenticate(c.r, body)
	c.account = c.who.Account
	return err
}

// waitLarge waits for one of maxLarge places.
func (s *Server) waitLarge(ctx context.Context) (done func(), err error) {
	timer := time.NewTimer(largeWait)
	defer timer.Stop()
	select {
	case s.large <- struct{}{}:
		return func() { <-s.large }, nil
	case <-timer.C:
		return nil, &lambda.Error{Code: lambda.TooManyRequests, Message: "Rate Exceeded.", Reason: lambda.ReasonCallerRate, RetryAfter: time.Second}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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
// if size is above limit. Memory grows with what has come, not with what was declared.
func readBody(r *http.Request, limit int64) (body []byte, size int64, err error) {
	want := r.ContentLength
	switch {
	case want > limit:
		return nil, want, nil
	case want == 0 || r.Body == nil:
		return nil, 0, nil
	case want < 0:
		want = limit + 1
	}
	body = make([]byte, 0, min(want, firstRead))
	for int64(len(body)) < want {
		if len(body) == cap(body) {
			body = slices.Grow(body, int(min(want-int64(len(body)), int64(len(body)))))
		}
		n, err := r.Body.Read(body[len(body):min(int64(cap(body)), want)])
		body = body[:len(body)+n]
		if err == io.EOF {
			if r.ContentLength > 0 && int64(len(body)) < want {
				err = io.ErrUnexpectedEOF
			} else {
				break
			}
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the request body: %w", err)
		}
	}
	if size = int64(len(body)); size > limit {
		return nil, size, nil
	}
	return body, size, nil
}
