package apiserver

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"berth/catalog"
	"berth/functionurl"
	"berth/lambda"
)

// Answers of function URLs that are not the function's. That of an unknown one and of a failed function are as seen on the real service.
const (
	unknownURLBody  = `{"Message":null}`
	badGateway      = "Internal Server Error"
	responseStream  = "RESPONSE_STREAM"
	corsPrefix      = "Access-Control-"
	forbiddenByURL  = "Forbidden"
	errorTypeHeader = "X-Amzn-Errortype"
)

// serveURL answers a request to a function URL. path is what the function is to see of the request's.
func (s *Server) serveURL(c *call, id, path string) error {
	u, ok := s.cfg.Catalog.URLByID(id)
	if !ok {
		h := c.w.Header()
		h["Content-Type"], h[errorTypeHeader] = jsonContent, []string{string(lambda.AccessDenied)}
		c.w.WriteHeader(http.StatusForbidden)
		_, _ = c.w.Write([]byte(unknownURLBody))
		return nil
	}
	c.account = lambda.AccountID(u.Account)
	if u.CORS != nil {
		cors := functionurl.CORS(*u.CORS)
		if functionurl.IsPreflight(c.r) {
			cors.Preflight(c.w.Header(), c.r)
			c.w.WriteHeader(http.StatusOK)
			return nil
		}
		cors.Apply(c.w.Header(), c.r)
	}
	in, err := s.readURLCall(c, u, path)
	switch {
	case err != nil:
		return err
	case u.InvokeMode == responseStream:
		return s.streamURL(c, u, in)
	}
	return s.callURL(c, u, in)
}

// readURLCall makes an invocation of a request that may pass.
func (s *Server) readURLCall(c *call, u *catalog.URL, path string) (*lambda.Invocation, error) {
	caller, err := s.admitURL(c, u)
	if err != nil {
		return nil, err
	}
	trace := traceID(first(c.r.Header, traceHeader), c.id)
	c.w.Header()[traceHeader] = []string{trace}
	call := functionurl.Call{Request: c.r, Body: c.body, ID: u.ID, Path: path, Account: u.Account, RequestID: c.id, TraceID: trace,
		Caller: caller, Time: time.Now()}
	in := &lambda.Invocation{RequestID: c.id, Payload: call.Event(), TraceID: trace}
	if len(in.Payload) > lambda.MaxPayload {
		return nil, lambda.Errorf(lambda.RequestTooLarge, "The event of this request has %d bytes; the limit is %d. Bodies that are no text count 4/3.",
			len(in.Payload), lambda.MaxPayload)
	}
	return in, nil
}

// callURL runs an invocation whose answer is interpreted when it is whole.
func (s *Server) callURL(c *call, u *catalog.URL, in *lambda.Invocation) error {
	out, err := s.cfg.Invoker.Invoke(c.r.Context(), u.Ref(s.cfg.Catalog.Region()), in)
	if err != nil {
		return err
	}
	if out.FunctionError != "" {
		writeBadGateway(c.w)
		return nil
	}
	response, err := functionurl.Interpret(out.Payload)
	if err != nil {
		s.refuseAnswer(c, u, err)
		return nil
	}
	writeURLHead(c.w, u, response, len(response.Body))
	_, _ = c.w.Write(response.Body) // an error means that the client is gone, or that the status allows no body
	return nil
}

// refuseAnswer answers for a function whose answer is no HTTP response. The log says why: the client is not to know.
func (s *Server) refuseAnswer(c *call, u *catalog.URL, err error) {
	s.log.InfoContext(c.r.Context(), "a function's answer is no HTTP response: its URL answers 502", "id", c.id, "account", u.Account,
		"function", u.Function, "err", err)
	writeBadGateway(c.w)
}

func writeBadGateway(w http.ResponseWriter) {
	h := w.Header()
	h["Content-Type"], h["Content-Length"] = jsonContent, []string{strconv.Itoa(len(badGateway))}
	w.WriteHeader(http.StatusBadGateway)
	_, _ = w.Write([]byte(badGateway))
}

// writeURLHead writes status and headers; size is the body's length, or negative if it is not known yet.
func writeURLHead(w http.ResponseWriter, u *catalog.URL, response *functionurl.Response, size int) {
	h := w.Header()
	if u.CORS != nil {
		maps.DeleteFunc(response.Header, func(name string, _ []string) bool { return strings.HasPrefix(name, corsPrefix) })
	}
	for name, values := range response.Header {
		h[name] = append(h[name], values...)
	}
	if size >= 0 && response.Status != http.StatusNoContent && response.Status != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.Itoa(size)}
	}
	w.WriteHeader(response.Status)
}

// streamURL runs an invocation whose response is sent on as it comes.
func (s *Server) streamURL(c *call, u *catalog.URL, in *lambda.Invocation) error {
	to := &urlStream{w: c.w, url: u, flow: newFlow(c.w)}
	in.Stream = to
	out, err := s.cfg.Invoker.Invoke(c.r.Context(), u.Ref(s.cfg.Catalog.Region()), in)
	to.resume()
	failed := err != nil || out.FunctionError != ""
	switch {
	case failed && to.begun:
		if err != nil {
			s.logFailure(c, err)
		}
		panic(http.ErrAbortHandler) // half a response must not look whole
	case err != nil:
		return err
	case to.begun:
	case failed:
		writeBadGateway(c.w)
	case to.fault != nil:
		s.refuseAnswer(c, u, to.fault)
	case out.Streamed:
		s.refuseAnswer(c, u, errors.New("the response ended within its prelude"))
	default: // as on Lambda, what was not streamed is not interpreted either
		writeURLHead(c.w, u, &functionurl.Response{Status: http.StatusOK, Header: http.Header{"Content-Type": jsonContent}}, len(out.Payload))
		_, _ = c.w.Write(out.Payload)
	}
	return nil
}

// urlStream sends a streamed response to an HTTP client.
type urlStream struct {
	flow
	w     http.ResponseWriter
	url   *catalog.URL
	head  functionurl.Head
	begun bool  // the head is sent
	fault error // why there will be no head
}

// Begin sends the head, unless the first bytes are it.
func (s *urlStream) Begin(contentType string) error {
	response := s.head.Begin(contentType)
	if response == nil {
		return nil
	}
	return s.start(response)
}

func (s *urlStream) start(response *functionurl.Response) error {
	s.begun = true
	writeURLHead(s.w, s.url, response, -1)
	if len(response.Body) > 0 {
		if _, err := s.w.Write(response.Body); err != nil {
			return err
		}
	}
	return s.control.Flush()
}

// Write sends bytes on.
func (s *urlStream) Write(p []byte) (int, error) {
	if !s.begun {
		response, err := s.head.Take(p)
		if err != nil {
			s.fault = err
			return 0, err
		}
		if response == nil {
			return len(p), nil
		}
		return len(p), s.start(response)
	}
	n, err := s.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, s.control.Flush()
}
