package functionurl

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Call is one request to a function URL.
type Call struct {
	Request   *http.Request // its body has been read
	Body      []byte
	ID        string // of the URL
	Path      string // as Route returned it
	Account   string // who owns the function
	RequestID string
	TraceID   string  // X-Amzn-Trace-Id
	Caller    *Caller // who signed the request; nil for nobody
	Time      time.Time
}

// Caller is who signed a request to a URL with AuthType AWS_IAM.
type Caller struct {
	AccessKey string `json:"accessKey"`
	Account   string `json:"accountId"`
	ID        string `json:"callerId"`
	Identity  any    `json:"cognitoIdentity"` // always null, as is the next
	OrgID     any    `json:"principalOrgId"`
	ARN       string `json:"userArn"`
	UserID    string `json:"userId"`
}

// event is a request in payload format 2.0, its members in the order of the developer guide's example.
type event struct {
	Version  string            `json:"version"`
	RouteKey string            `json:"routeKey"`
	RawPath  string            `json:"rawPath"`
	RawQuery string            `json:"rawQueryString"`
	Cookies  []string          `json:"cookies,omitempty"`
	Headers  map[string]string `json:"headers"`
	Query    map[string]string `json:"queryStringParameters,omitempty"`
	Context  requestContext    `json:"requestContext"`
	Body     *string           `json:"body,omitempty"`
	IsBase64 bool              `json:"isBase64Encoded"`
}

type requestContext struct {
	AccountID    string      `json:"accountId"`
	APIID        string      `json:"apiId"`
	Authorizer   *authorizer `json:"authorizer,omitempty"`
	DomainName   string      `json:"domainName"`
	DomainPrefix string      `json:"domainPrefix"`
	HTTP         httpContext `json:"http"`
	RequestID    string      `json:"requestId"`
	RouteKey     string      `json:"routeKey"`
	Stage        string      `json:"stage"`
	Time         string      `json:"time"`
	TimeEpoch    int64       `json:"timeEpoch"` // milliseconds since 1970
}

type authorizer struct {
	IAM *Caller `json:"iam"`
}

type httpContext struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

const (
	defaultRoute = "$default"
	// anonymous is the accountId where nobody signed (as seen on the real service; the developer guide says the owner's).
	anonymous  = "anonymous"
	timeFormat = "02/Jan/2006:15:04:05 -0700"
)

// Event returns the event for a request, as JSON.
func (c *Call) Event() []byte {
	r := c.Request
	headers, cookies := c.headers()
	host := hostname(r.Host)
	e := event{
		Version: "2.0", RouteKey: defaultRoute, RawPath: c.Path, RawQuery: r.URL.RawQuery, Cookies: cookies, Headers: headers,
		Query: query(r.URL.RawQuery),
		Context: requestContext{
			AccountID: anonymous, APIID: c.ID, DomainName: host, DomainPrefix: c.ID,
			HTTP:      httpContext{Method: r.Method, Path: decoded(c.Path), Protocol: r.Proto, SourceIP: sourceIP(r), UserAgent: r.UserAgent()},
			RequestID: c.RequestID, RouteKey: defaultRoute, Stage: defaultRoute,
			Time: c.Time.UTC().Format(timeFormat), TimeEpoch: c.Time.UnixMilli(),
		},
	}
	if c.Caller != nil {
		e.Context.AccountID, e.Context.Authorizer = c.Account, &authorizer{c.Caller}
	}
	if len(c.Body) > 0 {
		text := ""
		if e.IsBase64 = !isText(r.Header.Get("Content-Type"), c.Body); e.IsBase64 {
			text = base64.StdEncoding.EncodeToString(c.Body)
		} else {
			text = string(c.Body)
		}
		e.Body = &text
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(&e) // strings and numbers into memory: cannot fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// dropped are request headers that functions do not see: those between two hops, the proof of identity, and what this server says
// itself, which a client could otherwise make functions believe. So are all others that begin with X-Amzn-.
var dropped = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Expect": true,
	"Cookie":          true, // shown apart
	"X-Forwarded-For": true, "X-Forwarded-Proto": true, "X-Forwarded-Port": true, "X-Forwarded-Host": true, "Forwarded": true, "X-Real-Ip": true,
}

// headers returns the headers and cookies that the function sees.
func (c *Call) headers() (map[string]string, []string) {
	r := c.Request
	out := make(map[string]string, len(r.Header)+5)
	hop := hopHeaders(r.Header)
	for name, values := range r.Header {
		if dropped[name] || hop[name] || strings.HasPrefix(name, "X-Amzn-") || c.Caller != nil && name == "Authorization" {
			continue
		}
		out[strings.ToLower(name)] = strings.Join(values, ",")
	}
	out["host"] = r.Host
	out["x-forwarded-for"], out["x-forwarded-proto"] = sourceIP(r), "http"
	if r.TLS != nil {
		out["x-forwarded-proto"] = "https"
	}
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if _, port, err := net.SplitHostPort(at.String()); err == nil {
			out["x-forwarded-port"] = port
		}
	}
	out["x-amzn-trace-id"] = c.TraceID
	if len(c.Body) > 0 {
		out["content-length"] = strconv.Itoa(len(c.Body))
	}
	var cookies []string
	for _, line := range r.Header["Cookie"] {
		for cookie := range strings.SplitSeq(line, ";") {
			if cookie = strings.TrimSpace(cookie); cookie != "" {
				cookies = append(cookies, cookie)
			}
		}
	}
	return out, cookies
}

// hopHeaders are the headers that Connection names: for the next hop only (RFC 9110, 7.6.1).
func hopHeaders(h http.Header) map[string]bool {
	var out map[string]bool
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if out == nil {
				out = make(map[string]bool)
			}
			out[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return out
}

// query decodes a query; values of one name are joined by commas. What cannot be decoded stays as it is.
func query(raw string) map[string]string {
	if raw == "" {
		return nil
	}
	out := make(map[string]string)
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, value = unescaped(name), unescaped(value)
		if before, again := out[name]; again {
			value = before + "," + value
		}
		out[name] = value
	}
	return out
}

func unescaped(s string) string {
	if text, err := url.QueryUnescape(s); err == nil {
		return text
	}
	return s
}

func decoded(path string) string {
	if text, err := url.PathUnescape(path); err == nil {
		return text
	}
	return path
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// sourceIP is who sent the request to this server; a proxy in front of it counts.
func sourceIP(r *http.Request) string { return hostname(r.RemoteAddr) }

// isText reports whether a body goes into the event as it is: text/*, JSON, XML and JavaScript. Forms and what has no type are
// base64, as on Lambda, and so is what is not UTF-8, which JSON cannot hold.
func isText(contentType string, body []byte) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, _, _ = strings.Cut(strings.ToLower(contentType), ";")
		kind = strings.TrimSpace(kind)
	}
	switch {
	case strings.HasPrefix(kind, "text/"), strings.HasSuffix(kind, "+json"), strings.HasSuffix(kind, "+xml"):
	case kind == "application/json", kind == "application/xml", kind == "application/javascript":
	default:
		return false
	}
	return utf8.Valid(body)
}
