package runtimeapi

import (
	"bytes"
	"net/http"

	"berth/lambda"
)

const prefix = "/2018-06-01"

// route answers one request, or leaves the connection waiting for an event. It returns false when the connection must be closed.
func (c *httpConn) route(h *head, b *body) bool {
	path, _, _ := bytes.Cut(h.target, []byte{'?'})
	if rest, ok := bytes.CutPrefix(path, []byte(prefix)); ok {
		switch {
		case string(rest) == "/runtime/invocation/next":
			if string(h.method) == http.MethodGet {
				return b.finish() && c.serveNext()
			}
			return c.answer(h, b, methodNotAllowed(http.MethodGet))
		case string(rest) == "/runtime/init/error":
			return c.post(h, b, func() reply { return c.s.api.takeInitError(h, b) })
		case string(rest) == "/ping":
			if string(h.method) == http.MethodGet {
				return c.answer(h, b, reply{status: http.StatusOK, contentType: plainText, body: []byte("pong")})
			}
			return c.answer(h, b, methodNotAllowed(http.MethodGet))
		}
		if rest, ok := bytes.CutPrefix(rest, []byte("/runtime/invocation/")); ok {
			id, verb, _ := bytes.Cut(rest, []byte{'/'})
			if isError := string(verb) == "error"; isError || string(verb) == "response" {
				return c.post(h, b, func() reply { return c.s.api.takeAnswer(h, b, id, isError) })
			}
		}
	}
	if c.s.api.other != nil {
		return c.serveOther(h, b)
	}
	return c.answer(h, b, notFound)
}

// notFound answers what is unknown; restore/next too: there are no snapshots here.
var notFound = reply{status: http.StatusNotFound, contentType: plainText, body: []byte("404 page not found\n")}

func methodNotAllowed(want string) reply {
	return reply{status: http.StatusMethodNotAllowed, allow: want}
}

// post answers a POST with what take makes of it.
func (c *httpConn) post(h *head, b *body, take func() reply) bool {
	if string(h.method) != http.MethodPost {
		return c.answer(h, b, methodNotAllowed(http.MethodPost))
	}
	return c.answer(h, b, take())
}

// answer replies, after the rest of the request's body has been passed over.
func (c *httpConn) answer(h *head, b *body, r reply) bool {
	headOnly := string(h.method) == http.MethodHead
	if !b.finish() {
		c.last = true
	}
	c.reply(r, headOnly)
	return !c.last
}

// serveNext answers with the next event, or leaves that to the one who has it. A runtime that asks again while it has an event
// gets the same event again.
func (c *httpConn) serveNext() bool {
	a := c.s.api
	a.mu.Lock()
	switch {
	case a.phase == running:
		ev := a.event
		a.mu.Unlock()
		return new(eventWriter).http(c.Conn, ev, c.last) == nil && !c.last
	case a.closed || a.phase == failing || a.phase == failed || a.phase == answering:
		p := a.phase
		a.mu.Unlock()
		c.reply(refuseTransition(p, ready.String()), false)
		return !c.last
	}
	c.before = a.phase
	if a.poll != nil { // the newest request gets the event
		c.before = a.poll.before
	}
	older := a.takePoll()
	a.poll = c
	a.event = nil
	a.enter(ready)
	a.mu.Unlock()
	older.dismiss()
	return true
}

// polls reports whether c waits for an event.
func (a *API) polls(c *httpConn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.poll == c
}

// leave takes back a request for the next event whose client went away.
func (a *API) leave(c *httpConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.poll == c {
		a.poll = nil
		a.enter(c.before)
	}
}

// takeInitError takes the runtime's reason for not starting.
func (a *API) takeInitError(h *head, b *body) reply {
	errorType := cleanErrorType(string(h.errorType)) // before the body moves the buffer
	a.mu.Lock()
	if a.phase != starting || a.closed {
		p := a.phase
		a.mu.Unlock()
		return refuseTransition(p, failed.String())
	}
	gen := a.gen
	a.enter(failing) // one body at a time, so that a function cannot make the host hold many
	a.mu.Unlock()

	payload, _, err := b.all(nil, lambda.MaxPayload)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.gen != gen:
		return refuseID()
	case err != nil && err != errTooLarge:
		a.enter(starting)
		return refuseTruncated()
	}
	a.fail(payload[:min(len(payload), lambda.MaxPayload)], errorType)
	return accept
}

// fail records an init error. The caller holds mu.
func (a *API) fail(payload []byte, errorType string) {
	a.initErr = &InitError{Payload: payload, ErrorType: errorType}
	a.enter(failed)
}
