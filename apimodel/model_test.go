package apimodel

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/lambda"
)

func load(t testing.TB) *Model {
	t.Helper()
	m, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestBindings checks every operation's shapes against the SDK's structs: each member has a field of a fitting type.
func TestBindings(t *testing.T) {
	m := load(t)
	if n := len(m.Operations()); n != 85 {
		t.Errorf("%d operations, want 85", n)
	}
	client := reflect.TypeFor[*api.Client]()
	for _, op := range m.Operations() {
		method, ok := client.MethodByName(op.Name)
		if !ok {
			t.Errorf("the SDK has no operation %s", op.Name)
			continue
		}
		seen := map[*binding]bool{}
		if op.input != nil {
			b, _, err := m.bind(op.input, reflect.New(method.Type.In(2).Elem()).Interface())
			if err != nil {
				t.Errorf("%s: %v", op.Name, err)
				continue
			}
			requireFields(t, op.Name, b, seen)
		}
		if op.output != nil {
			b, _, err := m.bind(op.output, reflect.New(method.Type.Out(0).Elem()).Interface())
			if err != nil {
				t.Errorf("%s: %v", op.Name, err)
				continue
			}
			requireFields(t, op.Name, b, seen)
		}
	}
}

func requireFields(t *testing.T, at string, b *binding, seen map[*binding]bool) {
	if b == nil || seen[b] {
		return
	}
	seen[b] = true
	requireFields(t, at+"[]", b.elem, seen)
	for i, m := range b.shape.members {
		if b.fields[i].binding == nil {
			if m.name != "EventStream" { // apiserver writes it frame by frame
				t.Errorf("%s: the Go type %s has no field %s", at, b.typ, m.name)
			}
			continue
		}
		requireFields(t, at+"."+m.name, b.fields[i].binding, seen)
	}
}

func TestMatch(t *testing.T) {
	m := load(t)
	const arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Afn"
	for _, c := range []struct{ method, target, op, label, value string }{
		{"POST", "/2015-03-31/functions/fn/invocations", "Invoke", "FunctionName", "fn"},
		{"POST", "/2015-03-31/functions/" + arn + "/invocations?Qualifier=1", "Invoke", "FunctionName", "arn:aws:lambda:us-east-1:123456789012:function:fn"},
		{"POST", "/2015-03-31/functions/a:b/invocations", "Invoke", "FunctionName", "a:b"},
		{"GET", "/2015-03-31/functions/", "ListFunctions", "FunctionName", ""},
		{"GET", "/2015-03-31/functions", "ListFunctions", "", ""},
		{"GET", "/2015-03-31/functions/fn/", "GetFunction", "FunctionName", "fn"},
		{"DELETE", "/2015-03-31/functions/fn/aliases/p%2Fq", "DeleteAlias", "Name", "p/q"},
		{"GET", "/2018-10-31/layers?find=LayerVersion&Arn=x", "GetLayerVersionByArn", "", ""},
		{"GET", "/2018-10-31/layers?Marker=x", "ListLayers", "", ""},
		{"GET", "/2019-09-30/functions/fn/provisioned-concurrency?List=ALL", "ListProvisionedConcurrencyConfigs", "FunctionName", "fn"},
		{"GET", "/2019-09-30/functions/fn/provisioned-concurrency?Qualifier=1", "GetProvisionedConcurrencyConfig", "FunctionName", "fn"},
		{"DELETE", "/2018-10-31/layers/l/versions/3/policy/s", "RemoveLayerVersionPermission", "StatementId", "s"},
		{"GET", "/2025-12-01/durable-executions/arn%3Aa%2Fdurable-execution%2Fb%2Fc/history", "GetDurableExecutionHistory", "DurableExecutionArn", "arn:a/durable-execution/b/c"},
	} {
		op, p, err := m.Match(httptest.NewRequest(c.method, c.target, nil))
		if err != nil || op.Name != c.op || p.Get(c.label) != c.value {
			t.Errorf("%s %s: %v, %v, %v; want %s with %s=%q", c.method, c.target, op, p, err, c.op, c.label, c.value)
		}
	}
	for _, c := range []struct{ method, target string }{
		{"PATCH", "/2015-03-31/functions/fn"},
		{"GET", "/2015-03-31/function"},
		{"GET", "/"},
		{"GET", "/2015-03-31/functions//x/y"},
		{"GET", "/2015-03-31//functions"},
	} {
		if _, _, err := m.Match(httptest.NewRequest(c.method, c.target, nil)); lambda.CodeOf(err) != lambda.UnknownOperation {
			t.Errorf("%s %s: %v, want UnknownOperation", c.method, c.target, err)
		}
	}
}

// TestMatchEveryRoute sends every operation's own route.
func TestMatchEveryRoute(t *testing.T) {
	m := load(t)
	for _, op := range m.Operations() {
		target := op.URI
		for _, l := range op.labels {
			target = replace(target, "{"+l+"}", "v-"+l)
		}
		got, p, err := m.Match(httptest.NewRequest(op.Method, target, nil))
		if err != nil || got != op {
			t.Errorf("%s %s: %v, %v", op.Method, target, got, err)
			continue
		}
		for _, l := range op.labels {
			if p.Get(l) != "v-"+l {
				t.Errorf("%s: label %s is %q", op.Name, l, p.Get(l))
			}
		}
	}
}

func BenchmarkMatchInvoke(b *testing.B) {
	m := load(b)
	r := httptest.NewRequest(http.MethodPost, "/2015-03-31/functions/my-function/invocations", nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := m.Match(r); err != nil {
			b.Fatal(err)
		}
	}
}
