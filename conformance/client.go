package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"berth/apimodel"
)

// Target is a server to replay against.
type Target struct {
	URL     string // http://127.0.0.1:9000
	Account string // the caller's twelve digits
	// Sign adds credentials to a request; nil when the server needs none.
	Sign func(r *http.Request, body []byte) error
	// Runtimes says which runtimes can run code, by the name that was recorded: {"python3.12": "python3.11"} runs
	// scenarios of python3.12 with python3.11. Nil: the server runs no code: only the scenarios of
	// the API itself are replayed, and otherwise only those that run code.
	Runtimes map[string]string
	// SQS is the URL of a server that speaks SQS (moto), which the target was told about; "" leaves out the scenarios that need it.
	SQS string
}

// params are an operation's input members.
type params map[string]any

// client calls operations and shows answers as botocore does.
type client struct {
	*testing.T
	target Target
	model  *apimodel.Model
	http   *http.Client
}

// callLimit bounds one call; the slowest scenario's function runs for a few seconds.
const callLimit = 60 * time.Second

// headerParams are the members that travel in headers (Invoke).
var headerParams = map[string]string{
	"InvocationType": "X-Amz-Invocation-Type", "LogType": "X-Amz-Log-Type", "ClientContext": "X-Amz-Client-Context",
}

// headerMembers are the output members that come in headers.
var headerMembers = map[string]string{
	"X-Amz-Function-Error": "FunctionError", "X-Amz-Log-Result": "LogResult", "X-Amz-Executed-Version": "ExecutedVersion",
}

// request builds an operation's request as SDKs do. In POST and PUT bodies travel all members but labels, Qualifier and
// headers; elsewhere members travel in the query.
func (c *client) request(op *apimodel.Operation, p params) (*http.Request, []byte, error) {
	path, query, fields := op.URI, url.Values{}, params{}
	var body []byte
	header := http.Header{}
	for name, value := range p {
		label := "{" + name + "}"
		switch {
		case strings.Contains(path, label):
			path = strings.Replace(path, label, strings.ReplaceAll(url.QueryEscape(fmt.Sprint(value)), "+", "%20"), 1)
		case headerParams[name] != "":
			header.Set(headerParams[name], value.(string))
		case name == "Payload":
			body = value.([]byte)
		case name == "TagKeys":
			query["tagKeys"] = value.([]string)
		case name == "Qualifier" || name == "RevisionId" && op.Name == "AddLayerVersionPermission" || op.Method == http.MethodGet || op.Method == http.MethodDelete:
			query.Set(name, fmt.Sprint(value))
		default:
			fields[name] = value
		}
	}
	if op.Method != http.MethodGet && op.Method != http.MethodDelete && op.Name != "Invoke" {
		body, _ = json.Marshal(fields)
		header.Set("Content-Type", "application/json")
	}
	target := c.target.URL + path
	if len(query) > 0 {
		target += map[bool]string{true: "&", false: "?"}[strings.Contains(target, "?")] + query.Encode()
	}
	r, err := http.NewRequestWithContext(c.Context(), op.Method, target, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	r.Header = header
	if c.target.Sign != nil {
		err = c.target.Sign(r, body)
	}
	return r, body, err
}

// call calls an operation and returns its answer. A broken connection ends the scenario.
func (c *client) call(name string, p params) map[string]any {
	c.Helper()
	op := c.model.Operation(name)
	if op == nil {
		c.Fatalf("no operation %s", name)
	}
	r, _, err := c.request(op, c.substitute(p))
	if err != nil {
		c.Fatalf("%s: %v", name, err)
	}
	res, err := c.http.Do(r)
	if err != nil {
		c.Fatalf("%s: %v", name, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.Fatalf("%s: %v", name, err)
	}
	return c.normalise(answer(name, res, body)).(map[string]any)
}

// ok calls an operation that must succeed for the scenario to go on.
func (c *client) ok(name string, p params) map[string]any {
	c.Helper()
	a := c.call(name, p)
	if e, failed := a["Error"]; failed {
		c.Fatalf("%s: %v", name, short(e))
	}
	return a
}

// answer shows an HTTP answer as botocore's parsed response.
func answer(op string, res *http.Response, body []byte) map[string]any {
	out := map[string]any{}
	isPayload := op == "Invoke" && res.StatusCode < 300
	if isPayload {
		out["Payload"] = string(body)
	} else if len(body) > 0 && json.Unmarshal(body, &out) != nil {
		out["(not JSON)"] = string(body)
	}
	out["ResponseMetadata"] = map[string]any{"HTTPHeaders": map[string]any{}, "HTTPStatusCode": float64(res.StatusCode)}
	if res.StatusCode >= 300 {
		code, _, _ := strings.Cut(res.Header.Get("x-amzn-ErrorType"), ":")
		message := out["message"]
		if message == nil {
			message = out["Message"]
		}
		out["Error"] = map[string]any{"Code": code, "Message": message}
		if unmodelled[code] {
			delete(out, "message") // botocore keeps the members of modelled exceptions only; any other member shows
		}
		return out
	}
	for header, member := range headerMembers {
		if v := res.Header.Get(header); v != "" {
			out[member] = v
		}
	}
	if op == "Invoke" || op == "DeleteFunction" {
		out["StatusCode"] = float64(res.StatusCode)
	}
	return out
}

// unmodelled are the error codes that the API model does not declare.
var unmodelled = map[string]bool{
	"ValidationException": true, "RequestEntityTooLargeException": true, "SerializationException": true,
	"AccessDeniedException": true, "UnknownOperationException": true, "NotImplementedException": true,
}

// recordedAccount is the account id that the recorder wrote for its own.
const recordedAccount = "111111111111"

// normalise replaces in every string what belongs to the target rather than to the answer: account and runtimes.
func (c *client) normalise(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = c.normalise(x)
		}
	case []any:
		for i, x := range v {
			v[i] = c.normalise(x)
		}
	case string:
		v = strings.ReplaceAll(v, c.target.Account, recordedAccount)
		if c.target.SQS != "" {
			v = strings.ReplaceAll(v, queueAccount, recordedAccount)
		}
		for recorded, actual := range c.target.Runtimes {
			if v == actual {
				return recorded
			}
			// Inside a payload: the two places where a function sees its runtime's name.
			v = strings.ReplaceAll(v, "AWS_Lambda_"+actual, "AWS_Lambda_"+recorded)
			v = strings.ReplaceAll(v, "/opt/nodejs/node"+version(actual)+"/", "/opt/nodejs/node"+version(recorded)+"/")
		}
		return v
	}
	return v
}

// substitute is normalise's inverse for requests.
func (c *client) substitute(p params) params {
	out := params{}
	for k, v := range p {
		if s, ok := v.(string); ok && k == "Runtime" && c.target.Runtimes[s] != "" {
			out[k] = c.target.Runtimes[s]
			continue
		}
		out[k] = c.own(v)
	}
	return out
}

// own replaces the recorded account by the target's, however deep it stands.
func (c *client) own(v any) any {
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, recordedAccount, c.target.Account)
	case []string:
		out := make([]string, len(v))
		for i, s := range v {
			out[i] = strings.ReplaceAll(s, recordedAccount, c.target.Account)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = c.own(x)
		}
		return out
	case params:
		out := params{}
		for k, x := range v {
			out[k] = c.own(x)
		}
		return out
	}
	return v
}

// get fetches a URL that an answer gave.
func (c *client) get(location string) []byte {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), http.MethodGet, location, nil)
	if err != nil {
		c.Fatal(err)
	}
	res, err := c.http.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		c.Fatalf("GET %s: %s, %v", location, res.Status, err)
	}
	return body
}
