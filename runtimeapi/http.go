package runtimeapi

import (
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"berth/lambda"
)

const (
	prefix = "/2018-06-01"

	// maxHeaderBytes lets through the X-Ray error cause, for which clients allow themselves 1 MiB.
	maxHeaderBytes = 1<<20 + 64<<10
	headerTimeout  = 30 * time.Second

	// maxConns bounds the connections of one environment, and with maxHeaderBytes the memory that its function can make
	// the host hold. Runtimes use one to three.
	maxConns = 16
)

// NewServer returns a server whose settings fit the Runtime API: connections are bounded in number, the headers of a
// request in size and time; idle connections stay, because a frozen runtime comes back to its own after any length of time.
func (a *API) NewServer() *http.Server {
	var open atomic.Int32
	return &http.Server{
		Handler: a, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: log.New(io.Discard, "", 0), // what the function sends is no news to the operator
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if open.Add(1) > maxConns {
					_ = c.Close() // StateClosed follows
				}
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			}
		},
	}
}

// ServeHTTP is the HTTP face: the Runtime API 2018-06-01 as published, with the status codes and bodies of AWS's open-source
// emulator. Requests come from the function and are not trusted.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok {
		http.NotFound(w, r)
		return
	}
	switch path {
	case "/runtime/invocation/next":
		method(w, r, http.MethodGet, a.serveNext)
	case "/runtime/init/error":
		method(w, r, http.MethodPost, a.serveInitError)
	case "/ping":
		method(w, r, http.MethodGet, servePing)
	default:
		a.serveInvocation(w, r, path)
	}
}

// serveInvocation routes /runtime/invocation/{id}/response and …/error. All else is unknown, restore/next too: there are
// no snapshots here.
func (a *API) serveInvocation(w http.ResponseWriter, r *http.Request, path string) {
	rest, _ := strings.CutPrefix(path, "/runtime/invocation/")
	id, verb, _ := strings.Cut(rest, "/")
	switch {
	case rest == path:
		http.NotFound(w, r)
	case verb == "response":
		method(w, r, http.MethodPost, func(w http.ResponseWriter, r *http.Request) { a.serveAnswer(w, r, id, false) })
	case verb == "error":
		method(w, r, http.MethodPost, func(w http.ResponseWriter, r *http.Request) { a.serveAnswer(w, r, id, true) })
	default:
		http.NotFound(w, r)
	}
}

func method(w http.ResponseWriter, r *http.Request, want string, h http.HandlerFunc) {
	if r.Method != want {
		w.Header().Set("Allow", want)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	h(w, r)
}

func servePing(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("pong"))
}

// serveNext answers with the next event, however long that takes. A runtime that asks again while it has an event gets
// the same event again.
func (a *API) serveNext(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	switch {
	case a.phase == running:
		ev := a.event
		a.mu.Unlock()
		writeEvent(w, ev)
		return
	case a.closed || a.phase == failing || a.phase == failed || a.phase == answering:
		p := a.phase
		a.mu.Unlock()
		refuseTransition(w, p, ready.String())
		return
	}
	mine := &poll{events: make(chan *Event, 1), before: a.phase}
	if a.poll != nil { // the newest request gets the event
		mine.before = a.poll.before
		a.poll.events <- nil
	}
	a.poll = mine
	a.event = nil
	a.enter(ready)
	a.mu.Unlock()

	select {
	case ev := <-mine.events:
		if ev == nil {
			refuseTransition(w, ready, ready.String())
			return
		}
		writeEvent(w, ev)
	case <-r.Context().Done():
		a.leave(mine)
	}
}

// leave takes back a request for the next event whose client went away.
func (a *API) leave(p *poll) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.poll == p {
		a.poll = nil
		a.enter(p.before)
	}
}

func writeEvent(w http.ResponseWriter, ev *Event) {
	h := w.Header()
	values := make([]string, 0, 10) // one allocation for all values
	set := func(name, value string) {
		if value != "" {
			values = append(values, value)
			h[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	set("Lambda-Runtime-Aws-Request-Id", headerValue(ev.RequestID))
	set("Lambda-Runtime-Trace-Id", headerValue(ev.TraceID))
	set("Lambda-Runtime-Client-Context", headerValue(ev.ClientContext))
	set("Lambda-Runtime-Cognito-Identity", headerValue(ev.CognitoIdentity))
	set("Lambda-Runtime-Invoked-Function-Arn", headerValue(ev.InvokedARN))
	set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(ev.Deadline.UnixMilli(), 10))
	set("Lambda-Runtime-Aws-Tenant-Id", headerValue(ev.Tenant))
	set("Content-Type", "application/json")
	set("Content-Length", strconv.Itoa(len(ev.Payload)))
	_, _ = w.Write(ev.Payload) // a runtime that is gone is noticed by who watches its process
}

// serveInitError takes the runtime's reason for not starting.
func (a *API) serveInitError(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	if a.phase != starting || a.closed {
		p := a.phase
		a.mu.Unlock()
		refuseTransition(w, p, failed.String())
		return
	}
	gen := a.gen
	a.enter(failing) // one body at a time, so that a function cannot make the host hold many
	a.mu.Unlock()

	body, err := readAll(r.Body, nil)
	a.mu.Lock()
	if a.gen != gen {
		a.mu.Unlock()
		refuseID(w)
		return
	}
	if err != nil && err != errTooLarge {
		a.enter(starting)
		a.mu.Unlock()
		refuseTruncated(w)
		return
	}
	a.fail(body[:min(len(body), lambda.MaxPayload)], r.Header.Get("Lambda-Runtime-Function-Error-Type"))
	a.mu.Unlock()
	if err == errTooLarge {
		drain(r.Body)
	}
	accept(w)
}

// fail records an init error. The caller holds mu.
func (a *API) fail(payload []byte, errorType string) {
	a.initErr = &InitError{Payload: payload, ErrorType: cleanErrorType(errorType)}
	a.enter(failed)
}
