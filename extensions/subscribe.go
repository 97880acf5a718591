package extensions

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of buffering; developer guide, "Telemetry API: memory usage and buffering".
const (
	minItems, maxItems     = 1000, 10000
	minBytes, maxBytes     = 262144, 1048576
	minTimeout, maxTimeout = 25, 30000 // ms
	defaultTimeout         = 1000
	runtimeAPIPort         = 9001 // reserved
)

// dialect is what the Telemetry API and the Logs API differ in.
type dialect struct {
	name    string // in messages and log lines
	legacy  bool
	schemas []string
	closed  string // error type
	http    bool   // HTTP destinations may choose their method
}

var telemetryAPI = dialect{name: "Telemetry", schemas: []string{"2022-07-01", "2022-12-13", "2025-01-29"}, closed: "Telemetry.SubscriptionClosed"}

var logsAPI = dialect{name: "Logs", legacy: true, schemas: []string{"2020-08-15", "2021-03-18"}, closed: "Logs.SubscriptionClosed", http: true}

// categories are the streams, as types name them.
var categories = []string{"platform", "function", "extension"}

// request is the body of a subscription.
type request struct {
	Schema    string   `json:"schemaVersion"`
	Types     []string `json:"types"`
	Buffering *struct {
		MaxItems *int `json:"maxItems"`
		MaxBytes *int `json:"maxBytes"`
		Timeout  *int `json:"timeoutMs"`
	} `json:"buffering"`
	Destination struct {
		Protocol string `json:"protocol"`
		URI      string `json:"URI"`
		Port     int    `json:"port"`
		Method   string `json:"method"`
		Encoding string `json:"encoding"`
	} `json:"destination"`
}

// plan is a subscription that was checked.
type plan struct {
	dialect  *dialect
	schema   string
	types    []string
	maxItems int
	maxBytes int
	timeout  time.Duration
	port     uint16
	path     string // of HTTP: path and query
	method   string // of HTTP; "": TCP
}

// check makes a plan, or says all that is wrong with the request.
func (d *dialect) check(q *request) (*plan, []string) {
	p := &plan{dialect: d, schema: q.Schema, maxItems: maxItems, maxBytes: minBytes, timeout: defaultTimeout * time.Millisecond}
	wrong := p.destination(q)
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	switch {
	case q.Schema == "" && d.legacy:
		p.schema = d.schemas[0]
	case !slices.Contains(d.schemas, q.Schema):
		say("schemaVersion must be one of [%s]", strings.Join(d.schemas, ", "))
	}
	if len(q.Types) == 0 {
		say("types should not be empty")
	}
	for _, t := range q.Types {
		switch {
		case !slices.Contains(categories, t):
			say("types must be of [%s], not %.64q", strings.Join(categories, ", "), t)
		case !slices.Contains(p.types, t):
			p.types = append(p.types, t)
		}
		if len(wrong) > 8 {
			break
		}
	}
	if b := q.Buffering; b != nil {
		timeout := defaultTimeout
		for _, v := range []struct {
			name        string
			from        *int
			to          *int
			least, most int
		}{{"maxItems", b.MaxItems, &p.maxItems, minItems, maxItems}, {"maxBytes", b.MaxBytes, &p.maxBytes, minBytes, maxBytes},
			{"timeoutMs", b.Timeout, &timeout, minTimeout, maxTimeout}} {
			switch {
			case v.from == nil:
			case *v.from < v.least || *v.from > v.most:
				say("buffering.%s must be between %d and %d", v.name, v.least, v.most)
			default:
				*v.to = *v.from
			}
		}
		p.timeout = time.Duration(timeout) * time.Millisecond
	}
	return p, wrong
}

// destination checks where to send. It is the sandbox always: the name is compared, never resolved.
func (p *plan) destination(q *request) (wrong []string) {
	d := &q.Destination
	port := d.Port
	switch strings.ToUpper(d.Protocol) {
	case "TCP":
		if port == 0 {
			return []string{"port is not provided"}
		}
	case "HTTP":
		u, err := url.Parse(d.URI)
		switch {
		case err != nil || len(d.URI) > 2048:
			return []string{"URI is not valid"}
		case u.Scheme != "http" || u.User != nil:
			wrong = append(wrong, "URI must begin with http://")
		case u.Hostname() != "sandbox.localdomain" && u.Hostname() != "sandbox":
			wrong = append(wrong, "URI host must be sandbox.localdomain")
		}
		if u.Port() == "" {
			return append(wrong, "URI port is not provided")
		}
		port, _ = strconv.Atoi(u.Port())
		p.path, p.method = u.RequestURI(), http.MethodPost
		switch {
		case !p.dialect.http || d.Method == "" || d.Method == http.MethodPost:
		case d.Method == http.MethodPut:
			p.method = http.MethodPut
		default:
			wrong = append(wrong, "method must be POST or PUT")
		}
	default:
		return []string{"protocol must be HTTP or TCP"}
	}
	if port <= 0 || port > 65535 || port == runtimeAPIPort {
		return append(wrong, fmt.Sprintf("port %d cannot be used", port))
	}
	p.port = uint16(port)
	if d.Encoding != "" && !strings.EqualFold(d.Encoding, "JSON") {
		wrong = append(wrong, "encoding must be JSON")
	}
	return wrong
}

func (h *Host) serveSubscribe(d *dialect) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, id string) {
		var q request
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &q)
		}
		var wrong []string
		var p *plan
		if err != nil {
			wrong = []string{"the body is not valid JSON"}
		} else {
			p, wrong = d.check(&q)
		}
		name, refused := h.subscribe(id, d, p, wrong)
		if refused != nil {
			refused.write(w)
			return
		}
		if h.cfg.Subscribed != nil { // not with h.mu held: the log tells its lines to the host
			h.cfg.Subscribed(name, d.legacy, p.types)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `"OK"`)
	}
}

// subscribe starts a subscription in the place of an earlier one of the same extension. It begins with what was told since Begin.
func (h *Host) subscribe(id string, d *dialect, p *plan, wrong []string) (name string, _ *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.find(id)
	if x == nil {
		return "", forbid("Extension.UnknownExtensionIdentifier", "Unknown extension %s", id)
	}
	if !h.open {
		return "", forbid(d.closed, "%s API subscription is closed already", d.name)
	}
	at := slices.IndexFunc(h.subs, func(s *subscription) bool { return s.owner == x })
	if at >= 0 && h.subs[at].plan.dialect != d && len(wrong) == 0 {
		wrong = []string{"the extension has subscribed through the other API already"}
	}
	if len(wrong) > 0 {
		return "", &refusal{http.StatusBadRequest, "ValidationError", strings.Join(wrong, "; ")}
	}
	s := newSubscription(h, x, p)
	if at >= 0 {
		h.subs[at].cancel()
		h.subs[at] = s
	} else {
		h.subs = append(h.subs, s)
	}
	for i := range h.early.events {
		s.add(&h.early.events[i])
	}
	h.listening.Store(true)
	ctx, cancel := context.WithCancel(h.ctx)
	s.cancel = cancel
	h.sending.Go(func() { s.run(ctx) })
	h.tell(subscribedEvent(time.Now(), x.Name, p))
	return x.Name, nil
}
