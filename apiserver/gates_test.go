package apiserver_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"berth/lambda"
)

// as sends an operation's valid input as somebody, after everything that it names has been made.
func (p *prober) as(who lambda.Caller, op string, edit func(map[string]any)) (status int, kind, body string) {
	p.ensure()
	in := map[string]any{}
	if o := p.model.Operations[op]; o.Input != nil {
		in = p.valid(op, p.model.Shapes[o.Input.Shape])
	}
	edit(in)
	p.who = who
	defer func() { p.who = lambda.Caller{Account: probeAccount} }()
	answer := p.send(op, in)
	return answer.Code, answer.Header().Get("X-Amzn-Errortype"), answer.Body.String()
}

// TestEveryOperationAsks: a key that may do nothing can do nothing. An operation whose handler asks no policy fails here.
func TestEveryOperationAsks(t *testing.T) {
	p := newProber(t)
	if _, err := p.catalog.CreateAccount(t.Context(), probeAccount); err != nil {
		t.Fatal(err)
	}
	key, err := p.catalog.CreateKey(t.Context(), probeAccount, "nobody", `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
	if err != nil {
		t.Fatal(err)
	}
	nobody := lambda.Caller{Account: probeAccount, Key: key.ID, User: "nobody", Restricted: true}
	for _, op := range slices.Sorted(maps.Keys(p.model.Operations)) {
		status, kind, body := p.as(nobody, op, func(map[string]any) {})
		if status == http.StatusNotImplemented && slices.Contains(unbuilt, op) || status < 500 && status >= 400 && slices.Contains(refusing, op) {
			continue
		}
		if status != http.StatusForbidden || kind != string(lambda.AccessDenied) ||
			!strings.Contains(body, "User: arn:aws:iam::000000000001:user/nobody is not authorized to perform: ") {
			t.Errorf("%s: %d %s %.300s", op, status, kind, body)
		}
	}
}

// TestNothingCrossesAccounts: another account gets at nothing by its ARN but what the probes' policies open.
func TestNothingCrossesAccounts(t *testing.T) {
	p := newProber(t)
	opened := []string{"Invoke", "InvokeWithResponseStream", "GetLayerVersion", "GetLayerVersionByArn"}
	for _, op := range slices.Sorted(maps.Keys(p.model.Operations)) {
		named := false
		status, _, body := p.as(lambda.Caller{Account: otherAccount}, op, func(in map[string]any) {
			for member, kind := range map[string]string{"FunctionName": ":function:", "LayerName": ":layer:"} {
				if name, ok := in[member].(string); ok && !strings.Contains(name, ":") {
					in[member] = "arn:aws:lambda:us-east-1:000000000001" + kind + name
				}
				named = named || in[member] != nil
			}
			named = named || in["Resource"] != nil || in["UUID"] != nil || op != "CreateFunction" && in["CodeSigningConfigArn"] != nil
		})
		switch {
		case slices.Contains(opened, op) && status < 300, status == http.StatusNotImplemented && slices.Contains(unbuilt, op):
		case named && status < 400, status >= 500, status < 300 && strings.Contains(body, "lambda:us-east-1:"+probeAccount):
			t.Errorf("%s: %d %.300s", op, status, body)
		}
	}
}
