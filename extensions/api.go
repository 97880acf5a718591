package extensions

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Headers of the API.
const (
	nameHeader       = "Lambda-Extension-Name"
	identifierHeader = "Lambda-Extension-Identifier"
	errorTypeHeader  = "Lambda-Extension-Function-Error-Type"
	featureHeader    = "Lambda-Extension-Accept-Feature"
	eventHeader      = "Lambda-Extension-Event-Identifier"
)

// Bounds of what an extension can say.
const (
	maxName      = 128 // bytes of an internal extension's name; those of files have their own bound
	maxEvents    = 16
	maxErrorType = 256
)

// Error bodies are those of AWS's open-source emulator, trailing newline included.
const notAllowed = "State transition from %s to %s failed for extension %s. Error: State transition is not allowed"

// refusal is an error's answer.
type refusal struct {
	status  int
	kind    string
	message string
}

func forbid(kind, format string, args ...any) *refusal {
	return &refusal{http.StatusForbidden, kind, fmt.Sprintf(format, args...)}
}

func (r *refusal) write(w http.ResponseWriter) {
	reply(w, r.status, struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{r.message, r.kind})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(encode(body), '\n'))
}

func accepted(w http.ResponseWriter) {
	reply(w, http.StatusAccepted, struct {
		Status string `json:"status"`
	}{"OK"})
}

// ServeHTTP answers what is not the Runtime API's.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.routes().ServeHTTP(w, r) }

// router holds all paths.
func (h *Host) router() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", h.serveRegister)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", h.identified(h.serveNext))
	mux.HandleFunc("POST /2020-01-01/extension/init/error", h.identified(h.serveError(initError)))
	mux.HandleFunc("POST /2020-01-01/extension/exit/error", h.identified(h.serveError(exitError)))
	mux.HandleFunc("PUT /2022-07-01/telemetry", h.identified(h.serveSubscribe(&telemetryAPI)))
	mux.HandleFunc("PUT /2022-07-01/telemetry/{$}", h.identified(h.serveSubscribe(&telemetryAPI)))
	mux.HandleFunc("PUT /2020-08-15/logs", h.identified(h.serveSubscribe(&logsAPI)))
	mux.HandleFunc("PUT /2020-08-15/logs/{$}", h.identified(h.serveSubscribe(&logsAPI)))
	return mux
}

// identified lets only requests through that carry an identifier.
func (h *Host) identified(serve func(http.ResponseWriter, *http.Request, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text := r.Header.Get(identifierHeader)
		if text == "" {
			forbid("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header").write(w)
			return
		}
		id, err := uuid.Parse(text)
		if err != nil {
			forbid("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier").write(w)
			return
		}
		serve(w, r, id.String())
	}
}

func (h *Host) serveRegister(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get(nameHeader)
	if name == "" {
		forbid("Extension.InvalidExtensionName", "Empty extension name").write(w)
		return
	}
	var request struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	switch {
	case err != nil:
		forbid("InvalidRequestFormat", "%v", err).write(w)
		return
	case len(request.ConfigurationKeys) != 0:
		forbid("InvalidRequestFormat", "configurationKeys are deprecated; use environment variables instead").write(w)
		return
	}
	id, refused := h.register(name, request.Events)
	if refused != nil {
		refused.write(w)
		return
	}
	answer := struct {
		Account  string `json:"accountId,omitempty"`
		Function string `json:"functionName"`
		Version  string `json:"functionVersion"`
		Handler  string `json:"handler"`
	}{"", h.cfg.Function, h.cfg.Version, h.cfg.Handler}
	for feature := range strings.SplitSeq(r.Header.Get(featureHeader), ",") {
		if strings.TrimSpace(feature) == "accountId" {
			answer.Account = h.cfg.Account
		}
	}
	w.Header().Set(identifierHeader, id)
	reply(w, http.StatusOK, answer)
}

// register makes an external extension known, or an internal one, and returns its identifier.
func (h *Host) register(name string, events []string) (string, *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.findName(name)
	external := x != nil && x.External
	for i, event := range events {
		if i >= maxEvents || event != "INVOKE" && (event != "SHUTDOWN" || !external) {
			return "", forbid("Extension.InvalidEventType", "%.64s: ErrorInvalidEventType", event)
		}
	}
	switch {
	case external && x.state != started:
		return "", forbid("Extension.InvalidExtensionState", notAllowed, x.state, registered, x.Name)
	case external:
	case !h.open:
		return "", forbid("Extension.RegistrationClosed", "Extension registration closed already")
	case x != nil:
		return "", forbid("Extension.InvalidExtensionState", "Extension with this name already registered")
	case len(h.agents) >= MaxExtensions:
		return "", forbid("Extension.TooManyExtensions", "Extension limit (%d) reached", MaxExtensions)
	case clean(name, maxName) != name:
		return "", forbid("Extension.InvalidExtensionName", "Invalid extension name")
	default:
		x = newExtension(name, false)
		h.agents = append(h.agents, x)
	}
	x.state = registered
	x.invoke, x.shutdown = slices.Contains(events, "INVOKE"), slices.Contains(events, "SHUTDOWN")
	x.events = slices.Compact(slices.Sorted(slices.Values(events)))
	h.change()
	return x.id, nil
}

// clean keeps the printable part of a word that will stand in log lines.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}

func (h *Host) serveNext(w http.ResponseWriter, r *http.Request, id string) {
	event, refused := h.next(r.Context(), id)
	if refused != nil {
		refused.write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(eventHeader, uuid.NewString())
	_, _ = w.Write(event)
}

// next waits for x's next event; an extension that leaves is one that has not asked, but owes nothing.
func (h *Host) next(ctx context.Context, id string) ([]byte, *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.find(id)
	if x == nil {
		return nil, forbid("Extension.UnknownExtensionIdentifier", "Unknown extension %s", id)
	}
	from := x.state
	if x.polling || from != registered && from != running {
		return nil, forbid("Extension.InvalidExtensionState", notAllowed, from, ready, id)
	}
	x.polling, x.state = true, ready
	defer func() { x.polling = false }()
	if x.pending == nil {
		x.owes = false
		h.change()
	}
	for x.pending == nil && x.state == ready && !x.gone {
		h.mu.Unlock()
		select {
		case <-x.wake:
		case <-ctx.Done():
		}
		h.mu.Lock()
		if ctx.Err() != nil && x.pending == nil && x.state == ready {
			x.state = from
			break
		}
	}
	if x.pending == nil || x.gone {
		return nil, forbid("Extension.InvalidExtensionState", notAllowed, x.state, running, id)
	}
	event := x.pending
	x.pending, x.state = nil, running
	return event, nil
}

// serveError answers …/init/error and …/exit/error. An external extension ends after it, which is its failure then; an
// internal one has no process of its own, so it fails here.
func (h *Host) serveError(to state) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, id string) {
		errorType := clean(r.Header.Get(errorTypeHeader), maxErrorType)
		if errorType == "" {
			forbid("Extension.MissingHeader", "%s not found", errorTypeHeader).write(w)
			return
		}
		if refused := h.report(id, to, errorType); refused != nil {
			refused.write(w)
			return
		}
		accepted(w)
	}
}

func (h *Host) report(id string, to state, errorType string) *refusal {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.find(id)
	if x == nil {
		return forbid("Extension.UnknownExtensionIdentifier", "Unknown %s", identifierHeader)
	}
	switch {
	case x.state == to:
		return nil
	case x.state == registered, to == exitError && (x.state == ready || x.state == running):
	default:
		return forbid("Extension.InvalidExtensionState", notAllowed, x.state, to, id)
	}
	x.state, x.errorType = to, errorType
	x.signal()
	if !x.External {
		h.fail(&Failure{Type: "Extension." + to.String(), Message: errorType})
	}
	return nil
}
