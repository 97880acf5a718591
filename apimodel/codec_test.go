package apimodel

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/lambda"
)

func replace(s, old, with string) string { return strings.Replace(s, old, with, 1) }

// decode matches and decodes a request as apiserver does.
func decode(t testing.TB, m *Model, in any, method, target, body string, header ...string) error {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	op, p, err := m.Match(r)
	if err != nil {
		t.Fatal(err)
	}
	return op.Decode(r, p, []byte(body), in)
}

const role = `"Role":"arn:aws:iam::123456789012:role/r"`

func TestDecodeCreateFunction(t *testing.T) {
	m := load(t)
	var in api.CreateFunctionInput
	err := decode(t, m, &in, "POST", "/2015-03-31/functions", `{
		"FunctionName": "fn", `+role+`, "Runtime": "python3.12", "Handler": "h.\u0068", "Timeout": 5, "MemorySize": 256.0,
		"Publish": true, "Description": null, "Unknown": [{"a": [1, "]"]}], "Code": {"ZipFile": "AAEC"},
		"Environment": {"Variables": {"AB": "x\"y", "CD": null}}, "Layers": [], "Architectures": ["arm64"],
		"EphemeralStorage": {"Size": 512}, "Tags": {"k": "v"}}`)
	if err != nil {
		t.Fatal(err)
	}
	want := api.CreateFunctionInput{
		FunctionName: aws.String("fn"), Role: aws.String("arn:aws:iam::123456789012:role/r"), Runtime: "python3.12",
		Handler: aws.String("h.h"), Timeout: aws.Int32(5), MemorySize: aws.Int32(256), Publish: true,
		Code:        &types.FunctionCode{ZipFile: []byte{0, 1, 2}},
		Environment: &types.Environment{Variables: map[string]string{"AB": `x"y`}}, Layers: []string{},
		Architectures: []types.Architecture{"arm64"}, EphemeralStorage: &types.EphemeralStorage{Size: aws.Int32(512)},
		Tags: map[string]string{"k": "v"},
	}
	if !reflect.DeepEqual(in, want) {
		t.Errorf("got %+v\nwant %+v", in, want)
	}
}

func TestDecodeLocations(t *testing.T) {
	m := load(t)
	var invoke api.InvokeInput
	err := decode(t, m, &invoke, "POST", "/2015-03-31/functions/fn/invocations?Qualifier=%24LATEST", `{"a":1}`,
		"X-Amz-Invocation-Type", "Event", "X-Amz-Log-Type", "Tail")
	if err != nil || string(invoke.Payload) != `{"a":1}` || *invoke.Qualifier != "$LATEST" ||
		invoke.InvocationType != types.InvocationTypeEvent || invoke.LogType != types.LogTypeTail {
		t.Errorf("Invoke: %+v, %v", invoke, err)
	}
	var list api.ListFunctionsInput
	err = decode(t, m, &list, "GET", "/2015-03-31/functions/?MaxItems=7&Marker=m", "")
	if err != nil || *list.MaxItems != 7 || *list.Marker != "m" {
		t.Errorf("ListFunctions: %+v, %v", list, err)
	}
	var untag api.UntagResourceInput
	err = decode(t, m, &untag, "DELETE", "/2017-03-31/tags/arn:aws:lambda:us-east-1:123456789012:function:f?tagKeys=a&tagKeys=b", "")
	if err != nil || !reflect.DeepEqual(untag.TagKeys, []string{"a", "b"}) {
		t.Errorf("UntagResource: %+v, %v", untag, err)
	}
	var async api.InvokeAsyncInput
	if err = decode(t, m, &async, "POST", "/2014-11-13/functions/fn/invoke-async", `{}`); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(async.InvokeArgs); string(b) != "{}" {
		t.Errorf("InvokeAsync: %q", b)
	}
	var history api.ListDurableExecutionsByFunctionInput
	err = decode(t, m, &history, "GET", "/2025-12-01/functions/fn/durable-executions?StartedAfter=2026-01-02T03%3A04%3A05Z", "")
	if err != nil || !history.StartedAfter.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("ListDurableExecutionsByFunction: %+v, %v", history, err)
	}
	var esm api.CreateEventSourceMappingInput
	err = decode(t, m, &esm, "POST", "/2015-03-31/event-source-mappings", `{"FunctionName":"f","StartingPositionTimestamp":1.5}`)
	if err != nil || esm.StartingPositionTimestamp.UnixMilli() != 1500 {
		t.Errorf("CreateEventSourceMapping: %+v, %v", esm, err)
	}
}

func TestValidation(t *testing.T) {
	m := load(t)
	const create = "/2015-03-31/functions"
	const tags = "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af"
	namePattern := m.Operation("CreateFunction").input.byNameForTest("FunctionName").shape.pattern.text
	for _, c := range []struct{ name, method, target, body, want string }{
		{"pattern", "POST", create, `{"FunctionName":"f","Code":{},"Role":"r1"}`,
			`1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`},
		{"list size", "POST", create, `{"FunctionName":"f","Code":{},` + role + `,"Architectures":["x86_64","arm64"]}`,
			`1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1`},
		{"list element", "POST", create, `{"FunctionName":"f","Code":{},` + role + `,"Architectures":["X86_64"]}`,
			`1 validation error detected: Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]`},
		{"nested, nullable", "POST", create, `{"FunctionName":"f","Code":{},` + role + `,"VpcConfig":{"SubnetIds":["bad"]}}`,
			`1 validation error detected: Value '[bad]' at 'vpcConfig.subnetIds' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: subnet-[0-9a-z]*]`},
		{"null, range", "POST", create, `{"FunctionName":"f",` + role + `,"Timeout":0}`,
			`2 validation errors detected: Value null at 'code' failed to satisfy constraint: Member must not be null; Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1`},
		{"two of one member", "POST", create, `{"Code":{},` + role + `,"FunctionName":"` + strings.Repeat("*", 141) + `"}`,
			`2 validation errors detected: Value '` + strings.Repeat("*", 141) + `' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 140; Value '` +
				strings.Repeat("*", 141) + `' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: ` + namePattern},
		{"sensitive map keys", "POST", create, `{"FunctionName":"f","Code":{},` + role + `,"Environment":{"Variables":{"a-b":"secret"}}}`,
			`1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]`},
		{"map values", "POST", create + "/f/aliases", `{"Name":"a","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":{"2":1.5}}}`,
			`1 validation error detected: Value '{2=1.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]`},
		{"tag value", "POST", tags, `{"Tags":{"Creator":"a,b"}}`,
			`1 validation error detected: Value '{Creator=a,b}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 256, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$]`},
		{"tag key", "POST", create, `{"FunctionName":"f","Code":{},` + role + `,"Tags":{"` + strings.Repeat("k", 129) + `":"v"}}`,
			`1 validation error detected: Value '{` + strings.Repeat("k", 129) + `=v}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$]`},
		{"lookahead", "POST", create + "/f/aliases", `{"Name":"12","FunctionVersion":"1"}`,
			`1 validation error detected: Value '12' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)`},
		{"qualifier", "GET", create + "/f?Qualifier=invalid!", ``,
			`1 validation error detected: Value 'invalid!' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`},
		{"empty enum", "POST", create, `{"FunctionName":"f","Code":{},` + role + `,"PackageType":""}`,
			`1 validation error detected: Value '' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: [Zip, Image]`},
		{"null in list", "POST", create, `{"FunctionName":"f","Code":{},` + role + `,"Layers":[null]}`,
			`1 validation error detected: Value '[]' at 'layers' failed to satisfy constraint: Member must satisfy constraint: [Member must not be null]`},
		{"runtimes", "POST", "/2018-10-31/layers/l/versions", `{"Content":{},"CompatibleRuntimes":["x"],"CompatibleArchitectures":["y"]}`,
			`2 validation errors detected: Value '[x]' at 'compatibleRuntimes' failed to satisfy constraint: Member must satisfy enum value set: [` + strings.Join(runtimes, ", ") +
				`]; Value '[y]' at 'compatibleArchitectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]`},
		{"bounded echo", "POST", create, `{"FunctionName":"f","Code":{},"Role":"` + strings.Repeat("é", 4000) + `"}`,
			`1 validation error detected: Value '` + strings.Repeat("é", 512) + `…' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`},
	} {
		t.Run(c.name, func(t *testing.T) {
			requireError(t, decodeAny(t, m, c.method, c.target, c.body), lambda.Validation, c.want)
		})
	}
}

// byNameForTest finds a member.
func (s *shape) byNameForTest(name string) *member {
	for _, m := range s.members {
		if m.name == name {
			return m
		}
	}
	return nil
}

// decodeAny decodes into a fresh SDK input of the operation that the request matches.
func decodeAny(t testing.TB, m *Model, method, target, body string) error {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	op, p, err := m.Match(r)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := reflect.TypeFor[*api.Client]().MethodByName(op.Name)
	return op.Decode(r, p, []byte(body), reflect.New(f.Type.In(2).Elem()).Interface())
}

func requireError(t *testing.T, err error, code lambda.Code, message string) {
	t.Helper()
	var e *lambda.Error
	if !errors.As(err, &e) || e.Code != code || e.Message != message {
		t.Errorf("got  %v\nwant %s: %s", err, code, message)
	}
}

func TestLateChecks(t *testing.T) {
	m := load(t)
	requireError(t, decodeAny(t, m, "POST", "/2015-03-31/functions", `{"FunctionName":"f","Code":{},`+role+`,"Runtime":"PYTHON3.9"}`),
		lambda.InvalidParameterValue, `Value PYTHON3.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [`+
			strings.Join(runtimes, ", ")+`] or be a valid ARN`)
	long := strings.Repeat("a", 65)
	requireError(t, decodeAny(t, m, "POST", "/2015-03-31/functions", `{"FunctionName":"`+long+`","Code":{},`+role+`}`),
		lambda.InvalidParameterValue, `1 validation error detected: Value '`+long+`' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64`)
	if err := decodeAny(t, m, "POST", "/2015-03-31/functions", `{"FunctionName":"f","Code":{},`+role+`,"Runtime":"nodejs12.x"}`); err != nil {
		t.Errorf("a deprecated runtime is the operation's to refuse: %v", err)
	}
}

func TestSerializationErrors(t *testing.T) {
	m := load(t)
	for body, want := range map[string]string{
		`{"Timeout":"5"}`:            "STRING_VALUE can not be converted to an Integer",
		`{"Timeout":99999999999}`:    "NUMBER_VALUE can not be converted to an Integer",
		`{"FunctionName":5}`:         "NUMBER_VALUE can not be converted to a String",
		`{"FunctionName":true}`:      "TRUE_VALUE can not be converted to a String",
		`{"FunctionName":["a"]}`:     "Start of list found where not expected",
		`{"FunctionName":{"a":"b"}}`: "Start of structure or map found where not expected.",
		`{"Publish":"yes"}`:          "STRING_VALUE can not be converted to a Boolean",
		`{"Layers":{}}`:              "Start of structure or map found where not expected.",
		`{"Code":"x"}`:               "Unexpected field type: STRING_VALUE can not be converted to a Structure",
		`{"Code":{"ZipFile":"%"}}`:   "The value at 'code.zipFile' is not base64.",
		`[]`:                         "Start of list found where not expected",
		`{"FunctionName":`:           "The request body is not a JSON object. Send the parameters of the operation as one object in UTF-8.",
	} {
		t.Run(body, func(t *testing.T) {
			requireError(t, decodeAny(t, m, "POST", "/2015-03-31/functions", body), lambda.SerializationFailure, want)
		})
	}
	requireError(t, decodeAny(t, m, "GET", "/2015-03-31/functions?MaxItems=many", ""), lambda.SerializationFailure,
		"Value 'many' of parameter 'maxItems' can not be converted to an Integer")
}

func TestEncode(t *testing.T) {
	m := load(t)
	for _, c := range []struct {
		op     string
		out    any
		status int
		body   string
	}{
		{"GetFunctionConfiguration", &api.GetFunctionConfigurationOutput{
			FunctionName: aws.String("f\"\n\x01é\xff<"), CodeSize: 3, Layers: []types.Layer{}, Timeout: aws.Int32(3),
			Environment:  &types.EnvironmentResponse{Variables: map[string]string{}},
			LastModified: aws.String("2026-01-02T03:04:05.000+0000"), State: types.StateActive,
		}, 200, `{"CodeSize":3,"Environment":{"Variables":{}},"FunctionName":"f\"\n\u0001é` + "\uFFFD" + `<","LastModified":"2026-01-02T03:04:05.000+0000","Layers":[],"State":"Active","Timeout":3}`},
		{"CreateFunction", &types.FunctionConfiguration{FunctionName: aws.String("f")}, 201, `{"CodeSize":0,"FunctionName":"f"}`},
		{"GetFunctionConcurrency", &api.GetFunctionConcurrencyOutput{}, 200, `{}`},
		{"DeleteFunction", &api.DeleteFunctionOutput{StatusCode: 204}, 204, ``},
		{"DeleteAlias", &api.DeleteAliasOutput{}, 204, ``},
		{"TagResource", nil, 204, ``},
		{"GetEventSourceMapping", &api.GetEventSourceMappingOutput{LastModified: aws.Time(time.UnixMilli(1500))}, 200, `{"LastModified":1.500}`},
		{"Invoke", &api.InvokeOutput{StatusCode: 202, Payload: []byte("raw"), FunctionError: aws.String("Unhandled")}, 202, `raw`},
		{"CreateAlias", &api.CreateAliasOutput{RoutingConfig: &types.AliasRoutingConfiguration{
			AdditionalVersionWeights: map[string]float64{"2": 0.5, "1": 1}}}, 201, `{"RoutingConfig":{"AdditionalVersionWeights":{"1":1.0,"2":0.5}}}`},
	} {
		w := httptest.NewRecorder()
		if err := m.Operation(c.op).Encode(w, c.out); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s: %d %s\nwant %d %s", c.op, w.Code, w.Body, c.status, c.body)
		}
		if c.op == "Invoke" && w.Header().Get("X-Amz-Function-Error") != "Unhandled" {
			t.Errorf("Invoke: headers %v", w.Header())
		}
	}
}

func TestWriteError(t *testing.T) {
	m := load(t)
	for _, c := range []struct {
		err    lambda.Error
		status int
		body   string
	}{
		{lambda.Error{Code: lambda.ResourceNotFound, Message: "m"}, 404, `{"Type":"User","Message":"m"}`},
		{lambda.Error{Code: lambda.InvalidParameterValue, Message: "m"}, 400, `{"Type":"User","message":"m"}`},
		{lambda.Error{Code: lambda.Validation, Message: "m"}, 400, `{"message":"m"}`},
		{lambda.Error{Code: lambda.RequestEntityTooLarge, Message: "m"}, 413, `{"message":"m"}`},
		{lambda.Error{Code: lambda.ServiceFailure, Message: "m"}, 500, `{"Type":"Service","Message":"m"}`},
		{lambda.Error{Code: lambda.NotImplemented, Message: "m"}, 501, `{"message":"m"}`},
		{lambda.Error{Code: lambda.TooManyRequests, Message: "Rate Exceeded.", Reason: lambda.ReasonReservedConcurrency,
			RetryAfter: 1500 * time.Millisecond}, 429,
			`{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}`},
	} {
		w := httptest.NewRecorder()
		m.WriteError(w, &c.err)
		if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("x-amzn-ErrorType") != string(c.err.Code) {
			t.Errorf("%v: %d %s %v", c.err, w.Code, w.Body, w.Header())
		}
		if want := map[bool]string{true: "2"}[c.err.RetryAfter > 0]; w.Header().Get("Retry-After") != want {
			t.Errorf("%v: Retry-After %q", c.err, w.Header().Get("Retry-After"))
		}
	}
}

// FuzzDecode looks for panics, and checks that what decodes also encodes as JSON.
func FuzzDecode(f *testing.F) {
	m := load(f)
	f.Add("CreateFunction", "x", `{"FunctionName":"f","Code":{"ZipFile":"AA=="},"Environment":{"Variables":{"AB":"1"}}}`)
	f.Add("CreateAlias", "f", `{"RoutingConfig":{"AdditionalVersionWeights":{"1":1e400}}}`)
	f.Add("CreateEventSourceMapping", "", `{"SelfManagedEventSource":{"Endpoints":{"KAFKA_BOOTSTRAP_SERVERS":[null,"a:1"]}},"StartingPositionTimestamp":1e11}`)
	f.Add("CreateFunction", "", "{\"FunctionName\":\"\\ud800\",\"Layers\":[[1,{\"a\":\"\\\"]\"}]]}")
	f.Add("StopDurableExecution", "%", ` null `)
	f.Fuzz(func(t *testing.T, name, label, body string) {
		op := m.Operation(name)
		if op == nil {
			return
		}
		method, _ := reflect.TypeFor[*api.Client]().MethodByName(op.Name)
		in := reflect.New(method.Type.In(2).Elem())
		r := &http.Request{Method: op.Method, Header: http.Header{}, URL: httptest.NewRequest("GET", "/", nil).URL}
		r.URL.RawQuery = label
		p := Path{names: op.labels, values: [maxLabels]string{label, label, label}}
		err := op.Decode(r, p, []byte(body), in.Interface())
		if err != nil {
			var e *lambda.Error
			if !errors.As(err, &e) {
				t.Fatalf("not a lambda.Error: %v", err)
			}
			return
		}
		if op.input == nil {
			return
		}
		b, rv, _ := m.bind(op.input, in.Interface())
		if out := appendStructure(nil, b, rv); !json.Valid(out) {
			t.Fatalf("encodes as %s", out)
		}
	})
}

func BenchmarkDecodeCreateFunction(b *testing.B) {
	m := load(b)
	r := httptest.NewRequest("POST", "/2015-03-31/functions", nil)
	op, p, _ := m.Match(r)
	body := []byte(`{"FunctionName":"fn",` + role + `,"Runtime":"python3.12","Handler":"h.h","Code":{"ZipFile":"AAEC"},"Environment":{"Variables":{"AB":"xy"}}}`)
	b.ReportAllocs()
	for b.Loop() {
		var in api.CreateFunctionInput
		if err := op.Decode(r, p, body, &in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeFunctionConfiguration(b *testing.B) {
	m := load(b)
	op := m.Operation("GetFunctionConfiguration")
	out := &api.GetFunctionConfigurationOutput{FunctionName: aws.String("f"), State: "Active", Handler: aws.String("h.h"),
		Environment: &types.EnvironmentResponse{Variables: map[string]string{"AB": "x"}}, Timeout: aws.Int32(3)}
	b.ReportAllocs()
	for b.Loop() {
		if err := op.Encode(httptest.NewRecorder(), out); err != nil {
			b.Fatal(err)
		}
	}
}
