package functionurl

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// Response is the HTTP response that a function's answer stands for.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

const jsonType = "application/json"

// Interpret reads a function's answer: an object with a statusCode is a response, a string is a body, any other JSON is a body of its
// own. The error says, for the function's owner, why an answer is no response.
func Interpret(payload []byte) (*Response, error) {
	plain := &Response{Status: http.StatusOK, Header: http.Header{"Content-Type": {jsonType}}, Body: payload}
	trimmed := bytes.TrimLeft(payload, " \t\r\n")
	if len(trimmed) == 0 || !json.Valid(payload) {
		return plain, nil // a runtime of its own may answer anything
	}
	switch trimmed[0] {
	case '"':
		var text string
		if err := json.Unmarshal(payload, &text); err != nil {
			return nil, err
		}
		plain.Body = []byte(text)
		return plain, nil
	case '{':
		a, err := readAnswer(payload)
		if err != nil {
			return nil, err
		}
		if a.statusCode != nil {
			return a.response()
		}
	}
	var b bytes.Buffer
	if err := json.Compact(&b, payload); err != nil { // as recorded: {"hello": "world"} arrives without the space
		return nil, err
	}
	plain.Body = b.Bytes()
	return plain, nil
}

// answer is a response as functions write it.
type answer struct {
	statusCode json.RawMessage // nil if there is none
	headers    map[string]json.RawMessage
	cookies    []string
	text       json.RawMessage
	isBase64   bool
}

// readAnswer reads an object's members, whose names are as written (encoding/json would take StatusCode for statusCode). Members of wrong
// types matter in a response only.
func readAnswer(payload []byte) (*answer, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(payload, &members); err != nil {
		return nil, err
	}
	a := &answer{statusCode: members["statusCode"], text: members["body"]}
	if a.statusCode == nil {
		return a, nil
	}
	return a, a.fill(members)
}

func (a *answer) fill(members map[string]json.RawMessage) error {
	for name, into := range map[string]any{"headers": &a.headers, "cookies": &a.cookies, "isBase64Encoded": &a.isBase64} {
		if raw := members[name]; raw != nil {
			if err := json.Unmarshal(raw, into); err != nil {
				return fmt.Errorf("the member %s of the response is %.64s: %w", name, raw, err)
			}
		}
	}
	return nil
}

func (a *answer) response() (*Response, error) {
	status, err := readStatus(a.statusCode)
	if err != nil {
		return nil, err
	}
	header, err := a.header()
	if err != nil {
		return nil, err
	}
	body, err := a.body()
	if err != nil {
		return nil, err
	}
	return &Response{Status: status, Header: header, Body: body}, nil
}

// readStatus takes a number or, as the service does, its text.
func readStatus(raw json.RawMessage) (int, error) {
	text := strings.Trim(string(raw), `" `)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n != math.Trunc(n) || n < 200 || n > 599 {
		return 0, fmt.Errorf("statusCode is %.64s, expected a number from 200 to 599", raw)
	}
	return int(n), nil
}

// remapped are headers that belong to the connection, not to the function: as on Lambda the function's own arrive under another name.
var remapped = map[string]bool{
	"Connection": true, "Content-Length": true, "Date": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Server": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Www-Authenticate": true,
}

const remapPrefix = "X-Amzn-Remapped-"

// header makes the response's header. Those that say who answered (x-amzn-requestid, x-amzn-trace-id) are the server's.
func (a *answer) header() (http.Header, error) {
	out := make(http.Header, len(a.headers)+1)
	for name, raw := range a.headers {
		value, ok, err := scalar(raw)
		if err != nil {
			return nil, fmt.Errorf("the header %.64q is %w", name, err)
		}
		if !ok {
			continue
		}
		if !validName(name) || !validValue(value) {
			return nil, fmt.Errorf("the header %.64q has a name or value that HTTP does not allow", name)
		}
		switch name = http.CanonicalHeaderKey(name); {
		case name == "X-Amzn-Requestid", name == "X-Amzn-Trace-Id":
		case remapped[name]:
			out.Set(remapPrefix+name, value)
		default:
			out.Add(name, value)
		}
	}
	for _, cookie := range a.cookies {
		if !validValue(cookie) {
			return nil, fmt.Errorf("the cookie %.64q has a value that HTTP does not allow", cookie)
		}
		out.Add("Set-Cookie", cookie)
	}
	if out["Content-Type"] == nil {
		out.Set("Content-Type", jsonType)
	}
	return out, nil
}

// validName reports whether s is a token (RFC 9110, 5.6.2).
func validName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// validValue reports whether s has no control characters but tabs (RFC 9110, 5.5).
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// scalar returns the text of a string, number or boolean; not ok for null.
func scalar(raw json.RawMessage) (text string, ok bool, err error) {
	switch {
	case len(raw) == 0 || raw[0] == 'n':
		return "", false, nil
	case raw[0] == '"':
		err = json.Unmarshal(raw, &text)
		return text, true, err
	case raw[0] == '{' || raw[0] == '[':
		return "", false, fmt.Errorf("%.64s, expected a string", raw)
	}
	return string(raw), true, nil
}

// body returns the body's bytes. An object or a list is its own JSON.
func (a *answer) body() ([]byte, error) {
	if len(a.text) == 0 {
		return nil, nil
	}
	var text string
	switch a.text[0] {
	case '"':
		if err := json.Unmarshal(a.text, &text); err != nil {
			return nil, err
		}
	case 'n':
		return nil, nil
	default:
		text = string(a.text)
	}
	if !a.isBase64 {
		return []byte(text), nil
	}
	body, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("isBase64Encoded is true, and the body is no base64: %w", err)
	}
	return body, nil
}
