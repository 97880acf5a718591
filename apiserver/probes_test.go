package apiserver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/apiserver"
	"berth/catalog"
	"berth/code"
	"berth/lambda"
	"berth/store/memory"
)

// probed is the API's model, as far as probes need it.
type probed struct {
	Operations map[string]struct {
		HTTP struct {
			Method     string `json:"method"`
			RequestURI string `json:"requestUri"`
		} `json:"http"`
		Input *struct {
			Shape string `json:"shape"`
		} `json:"input"`
	} `json:"operations"`
	Shapes map[string]*probeShape `json:"shapes"`
}

type probeShape struct {
	Type    string `json:"type"`
	Members map[string]struct {
		Shape        string `json:"shape"`
		Location     string `json:"location"`
		LocationName string `json:"locationName"`
	} `json:"members"`
	Required []string                `json:"required"`
	Member   *struct{ Shape string } `json:"member"`
	Key      *struct{ Shape string } `json:"key"`
	Value    *struct{ Shape string } `json:"value"`
	Min      *float64                `json:"min"`
	Max      *float64                `json:"max"`
	Pattern  string                  `json:"pattern"`
	Enum     []string                `json:"enum"`
	Payload  string                  `json:"payload"`
}

// Bounds of probes.
const (
	probeDepth   = 5       // of nested members
	probeLength  = 1 << 16 // of strings and lists; longer boundaries are those of whole requests, which have tests of their own
	probeWithin  = time.Minute
	probeAccount = "000000000001"
)

// unbuilt are the operations that may answer 501: no others, and an operation is taken off when it is built.
var unbuilt = []string{
	"CheckpointDurableExecution", "GetDurableExecution", "GetDurableExecutionHistory", "GetDurableExecutionState",
	"ListDurableExecutionsByFunction", "SendDurableExecutionCallbackFailure", "SendDurableExecutionCallbackHeartbeat",
	"SendDurableExecutionCallbackSuccess", "StopDurableExecution",
}

// refusing are the operations that never succeed: there are no capacity providers.
var refusing = []string{
	"CreateCapacityProvider", "DeleteCapacityProvider", "GetFunctionScalingConfig", "ListFunctionVersionsByCapacityProvider",
	"PutFunctionScalingConfig", "UpdateCapacityProvider",
}

// bodies are request bodies that are no inputs.
var bodies = []string{
	"", " ", "null", "[]", "12", `"text"`, "{", `{"a"`, `{"a":}`, `{"a":1,}`, "\x00", "\xff\xfe{}", `{"FunctionName":"\xff"}`, `{"":""}`,
	strings.Repeat("[", 20000), strings.Repeat(`{"a":`, 20000), `{"a":` + strings.Repeat("9", 5000) + "}", "<xml/>", "a=b&c=d",
	`{"Tags":{"a":"1","a":"2"}}`, `{"Code":{"ZipFile":"UEsDBAo="}}`, `{"Content":{"ZipFile":"UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="}}`,
}

// prober sends probes to a server without a socket between.
type prober struct {
	*testing.T
	model   probed
	server  *apiserver.Server
	catalog *catalog.Catalog
	logs    *lockedBuffer
	zip     string
	mapping string
	signing string
	layer   int64 // number of a version
	who     lambda.Caller
	body    *string // instead of the next input's own
	count   int
	fresh   int
	good    map[string]bool  // operations that have answered 2xx
	seen    map[string]kinds // by operation and place, what was probed
}

// TestProbes sends, for every member of every operation's input, values at, below and above its bounds, of every wrong type,
// of a wrong form, and none at all: every answer is a success or a well-formed 4xx.
func TestProbes(t *testing.T) {
	p := newProber(t)
	for _, name := range slices.Sorted(maps.Keys(p.model.Operations)) {
		op := p.model.Operations[name]
		if op.Input == nil {
			p.probe(name, "without input", map[string]any{})
			continue
		}
		input := p.model.Shapes[op.Input.Shape]
		p.ensure()
		p.probe(name, "a valid input", p.valid(name, input))
		p.structure(name, input, nil, func(in map[string]any) map[string]any { return in })
		for _, text := range bodies {
			p.ensure()
			in := p.valid(name, input)
			p.body = &text
			p.probe(name, fmt.Sprintf("the body %.40q", text), in)
		}
	}
	if log := p.logs.String(); strings.Contains(log, "panicked") || strings.Contains(log, "request failed") {
		t.Errorf("the server's log:\n%.3000s", log)
	}
	for name := range p.model.Operations { // else the probes of an operation show little
		if !p.good[name] && !slices.Contains(unbuilt, name) && !slices.Contains(refusing, name) {
			t.Errorf("%s never answered well", name)
		}
	}
	p.judgeCoverage()
}

func newProber(t *testing.T) *prober {
	p := &prober{T: t, who: lambda.Caller{Account: probeAccount}, logs: new(lockedBuffer), good: map[string]bool{}, seen: map[string]kinds{}, zip: base64.StdEncoding.EncodeToString(zipOf(t, "x"))}
	text, err := os.ReadFile("../apimodel/model.json")
	if err == nil {
		err = json.Unmarshal(text, &p.model)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &stub{}
	p.catalog = catalog.New(memory.NewCatalog(), region)
	s.catalog = p.catalog
	p.server, err = apiserver.New(apiserver.Config{
		Catalog: p.catalog, Blobs: memory.NewBlobs(), Invoker: s, Preparer: s, Inspect: code.Inspect, Events: &inbox{s},
		Authenticate: func(*http.Request, []byte) (lambda.Caller, error) { return p.who, nil },
		Log:          slog.New(slog.NewTextHandler(p.logs, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.catalog.Run(ctx) })
	<-p.catalog.Ready()
	running.Go(func() { _ = p.server.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return p
}

// ensure makes what valid inputs name, where a probe has removed it.
func (p *prober) ensure() {
	id := catalog.ID{Account: probeAccount, Name: "probe"}
	if _, ok := p.catalog.Function(id); !ok {
		p.must("CreateFunction", map[string]any{"FunctionName": "probe", "Runtime": "python3.12", "Handler": "h.h", "Role": role, "Code": map[string]any{"ZipFile": p.zip}, "Publish": true})
	}
	p.settle(id)
	if _, ok := p.catalog.Alias(id, "live"); !ok {
		p.must("CreateAlias", map[string]any{"FunctionName": "probe", "Name": "live", "FunctionVersion": "$LATEST"})
	}
	if _, ok := p.catalog.Version(id, "1"); !ok {
		p.must("DeleteFunction", map[string]any{"FunctionName": "probe"})
		p.ensure()
		return
	}
	if policy, ok := p.catalog.Policy(id, ""); !ok || !strings.Contains(string(mustJSON(p.T, policy)), `"kept"`) {
		p.must("AddPermission", map[string]any{"FunctionName": "probe", "StatementId": "kept", "Action": "lambda:InvokeFunction", "Principal": "*"})
	}
	if _, ok := p.catalog.Provisioned(id, "1"); !ok {
		p.must("PutProvisionedConcurrencyConfig", map[string]any{"FunctionName": "probe", "Qualifier": "1", "ProvisionedConcurrentExecutions": 1})
	}
	if _, ok := p.catalog.URL(id, ""); !ok {
		p.must("CreateFunctionUrlConfig", map[string]any{"FunctionName": "probe", "AuthType": "NONE"})
	}
	if _, ok := p.catalog.URL(id, "live"); ok { // where the probes of CreateFunctionUrlConfig make theirs
		p.must("DeleteFunctionUrlConfig", map[string]any{"FunctionName": "probe", "Qualifier": "live"})
	}
	if _, ok := p.catalog.EventConfig(id, lambda.Latest); !ok {
		p.must("PutFunctionEventInvokeConfig", map[string]any{"FunctionName": "probe", "MaximumRetryAttempts": 1})
	}
	if _, err := p.catalog.LayerPolicy(catalog.LayerID(id), p.layer); err != nil {
		made := p.must("PublishLayerVersion", map[string]any{"LayerName": "probe", "Content": map[string]any{"ZipFile": p.zip}})
		p.layer = int64(made["Version"].(float64))
		p.must("AddLayerVersionPermission", map[string]any{"LayerName": "probe", "VersionNumber": p.layer, "StatementId": "kept", "Action": "lambda:GetLayerVersion", "Principal": "*"})
	}
	if _, ok := p.catalog.Mapping(probeAccount, p.mapping); !ok {
		p.mapping = p.must("CreateEventSourceMapping", map[string]any{"FunctionName": "probe", "EventSourceArn": "arn:aws:sqs:us-east-1:000000000001:kept"})["UUID"].(string)
	}
	if _, ok := p.catalog.SigningByARN(probeAccount, p.signing); !ok {
		p.sign()
	}
}

// sign makes a code signing configuration that no function has.
func (p *prober) sign() {
	made := p.must("CreateCodeSigningConfig", map[string]any{"AllowedPublishers": map[string]any{"SigningProfileVersionArns": []any{"arn:aws:signer:us-east-1:000000000001:/signing-profiles/p/1"}}})
	p.signing = made["CodeSigningConfig"].(map[string]any)["CodeSigningConfigArn"].(string)
}

// settle waits until a function is not being changed.
func (p *prober) settle(id catalog.ID) {
	for deadline := time.Now().Add(probeWithin); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		f, ok := p.catalog.Function(id)
		if ok && f.Latest.State != lambda.Pending && f.Latest.Update != catalog.InProgress {
			return
		}
	}
	p.Fatal("a function was not made ready")
}

func (p *prober) must(op string, in map[string]any) map[string]any {
	p.Helper()
	answer := p.send(op, in)
	var out map[string]any
	if answer.Code == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &out); err != nil || answer.Code >= 300 {
		p.Fatalf("%s: %d %s", op, answer.Code, answer.Body)
	}
	return out
}

// probe sends one input and judges the answer.
func (p *prober) probe(op, what string, in map[string]any) {
	p.Helper()
	instead := p.body
	p.body = nil
	p.ensure()
	p.body = instead
	p.count++
	answer := p.send(op, in)
	body := answer.Body.String()
	switch {
	case answer.Code < 300:
		p.good[op] = true
		return
	case answer.Code == http.StatusNotImplemented && slices.Contains(unbuilt, op):
	case answer.Code < 400 || answer.Code >= 500:
		p.Errorf("%s, %s: %d %.300s", op, what, answer.Code, body)
		return
	}
	var e struct{ Message, Type string }
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Message == "" || answer.Header().Get("X-Amzn-Errortype") == "" ||
		answer.Header().Get("X-Amzn-Requestid") == "" || len(body) > 64<<10 || strings.Contains(body, "goroutine ") {
		p.Errorf("%s, %s: not an error as the API has them: %d %v %.300s", op, what, answer.Code, answer.Header(), body)
	}
}

// send makes a request of an input as SDKs do.
func (p *prober) send(op string, in map[string]any) *httptest.ResponseRecorder {
	p.Helper()
	o := p.model.Operations[op]
	path, rest, _ := strings.Cut(o.HTTP.RequestURI, "?")
	query, _ := url.ParseQuery(rest)
	header, fields, body := http.Header{}, map[string]any{}, []byte(nil)
	input := p.model.Shapes[o.Input.Shape]
	for name, value := range in {
		m := input.Members[name]
		text, isText := value.(string)
		if !isText {
			b, _ := json.Marshal(value)
			text = string(b)
		}
		wire := m.LocationName
		if wire == "" {
			wire = name
		}
		switch m.Location {
		case "uri":
			path = strings.ReplaceAll(path, "{"+wire+"}", url.PathEscape(text))
		case "querystring":
			if list, ok := value.([]any); ok {
				for _, v := range list {
					query.Add(wire, fmt.Sprint(v))
				}
			} else {
				query.Set(wire, text)
			}
		case "header":
			header.Set(wire, text)
		default:
			if name == input.Payload || input.Payload == "" && p.model.Shapes[m.Shape].Type == "blob" && op == "InvokeAsync" {
				body = []byte(text)
			} else {
				fields[wire] = value
			}
		}
	}
	if body == nil && len(fields) > 0 {
		body, _ = json.Marshal(fields)
	}
	if p.body != nil {
		body, p.body = []byte(*p.body), nil
	}
	ctx, cancel := context.WithTimeout(p.Context(), probeWithin)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, o.HTTP.Method, "http://x/", bytes.NewReader(body))
	r.URL = &url.URL{Scheme: "http", Host: "x", RawQuery: query.Encode()}
	if err := setPath(r.URL, path); err != nil {
		p.Fatalf("%s: %v", op, err)
	}
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	p.server.ServeHTTP(w, r)
	if ctx.Err() != nil {
		p.Errorf("%s: no answer within %s to %.300s", op, probeWithin, body)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	return w
}

// setPath takes labels that nobody filled in as they are.
func setPath(u *url.URL, path string) (err error) {
	u.RawPath = path
	u.Path, err = url.PathUnescape(path)
	return err
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
