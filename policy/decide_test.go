package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

const (
	own   = "000000000001"
	other = "000000000002"
	fn    = "arn:aws:lambda:us-east-1:000000000001:function:f"
)

var (
	ann   = Principal{Account: own, ARN: "arn:aws:iam::000000000001:user/ann"}
	bob   = Principal{Account: other, ARN: "arn:aws:iam::000000000002:user/bob"}
	root2 = Principal{Account: other, ARN: "arn:aws:iam::000000000002:root"}
)

// oneStatement wraps a statement into a document.
func oneStatement(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }

func identity(t testing.TB, s string) *Policy {
	t.Helper()
	p, err := ParseIdentity([]byte(oneStatement(s)))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return p
}

func resource(t testing.TB, statements string) *Policy {
	t.Helper()
	var texts []json.RawMessage
	if err := json.Unmarshal([]byte("["+statements+"]"), &texts); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
	var list []*Statement
	for _, text := range texts {
		s, err := ParseStatement(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		list = append(list, s)
	}
	return Of(list...)
}

const (
	allowAll    = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	allowInvoke = `{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"` + fn + `"}`
	allowOther  = `{"Effect":"Allow","Action":"lambda:GetFunction","Resource":"*"}`
	denyInvoke  = `{"Sid":"no","Effect":"Deny","Action":"lambda:Invoke*","Resource":"*"}`
)

func grant(principal string) string {
	return `{"Sid":"s","Effect":"Allow","Principal":` + principal + `,"Action":"lambda:InvokeFunction","Resource":"` + fn + `"}`
}

func refuse(principal string) string {
	return `{"Sid":"d","Effect":"Deny","Principal":` + principal + `,"Action":"lambda:InvokeFunction","Resource":"` + fn + `"}`
}

// TestLogic is the flow chart of the IAM User Guide, "Policy evaluation logic", within an account and between two.
func TestLogic(t *testing.T) {
	for _, tt := range []struct {
		name               string
		who                Principal
		identity, resource string // "" is none
		want               Cause
	}{
		{"root of the account", Principal{own, "arn:aws:iam::000000000001:root", ""}, "", "", AllowIdentity},
		{"identity allows", ann, allowInvoke, "", AllowIdentity},
		{"nothing allows", ann, allowOther, "", NoIdentity},
		{"deny wins", ann, allowAll + "," + denyInvoke, "", DenyIdentity},
		{"deny wins, the other order", ann, denyInvoke + "," + allowAll, "", DenyIdentity},
		{"deny of the resource wins", ann, allowAll, grant(`"*"`) + "," + refuse(`{"AWS":"`+own+`"}`), DenyResource},
		{"deny of others", ann, allowAll, refuse(`{"AWS":"` + other + `"}`), AllowIdentity},
		{"identity deny over resource allow", ann, denyInvoke, grant(`{"AWS":"` + ann.ARN + `"}`), DenyIdentity},
		{"resource names the user", ann, allowOther, grant(`{"AWS":"` + ann.ARN + `"}`), AllowResource},
		{"resource is open to all", ann, allowOther, grant(`"*"`), AllowResource},
		{"resource leaves it to the account", ann, allowOther, grant(`{"AWS":"` + own + `"}`), NoIdentity},
		{"resource leaves it to the account, and it allows", ann, allowInvoke, grant(`{"AWS":"` + own + `"}`), AllowIdentity},
		{"resource names another user", ann, allowOther, grant(`{"AWS":"arn:aws:iam::000000000001:user/eve"}`), NoIdentity},

		{"across, neither", bob, allowOther, "", NoIdentity},
		{"across, identity only", bob, allowInvoke, "", NoResource},
		{"across, root and no policy", root2, "", "", NoResource},
		{"across, resource only", bob, allowOther, grant(`{"AWS":"` + bob.ARN + `"}`), NoIdentity},
		{"across, both, by user", bob, allowInvoke, grant(`{"AWS":"` + bob.ARN + `"}`), AllowResource},
		{"across, both, by account", bob, allowInvoke, grant(`{"AWS":"` + other + `"}`), AllowResource},
		{"across, both, by root ARN", bob, allowInvoke, grant(`{"AWS":"arn:aws:iam::` + other + `:root"}`), AllowResource},
		{"across, both, by *", bob, allowInvoke, grant(`{"AWS":"*"}`), AllowResource},
		{"across, root", root2, "", grant(`{"AWS":["` + own + `","` + other + `"]}`), AllowResource},
		{"across, the user is named, root asks", root2, "", grant(`{"AWS":"` + bob.ARN + `"}`), NoResource},
		{"across, resource denies", bob, allowInvoke, grant(`"*"`) + "," + refuse(`{"AWS":"`+other+`"}`), DenyResource},
		{"across, identity denies", bob, denyInvoke, grant(`"*"`), DenyIdentity},

		{"anonymous, open", Principal{}, "", grant(`"*"`), AllowResource},
		{"anonymous, no policy", Principal{}, "", "", NoResource},
		{"anonymous, for accounts", Principal{}, "", grant(`{"AWS":["` + own + `","` + ann.ARN + `"],"Service":"s3.amazonaws.com"}`), NoResource},
		{"anonymous has no identity policy", Principal{}, allowAll, "", NoResource},
		{"anonymous, denied", Principal{}, "", grant(`"*"`) + "," + refuse(`"*"`), DenyResource},
		{"service", Principal{Service: "s3.amazonaws.com"}, "", grant(`{"Service":"s3.amazonaws.com"}`), AllowResource},
		{"another service", Principal{Service: "sns.amazonaws.com"}, "", grant(`{"Service":"s3.amazonaws.com"}`), NoResource},
		{"a role is nobody", ann, allowOther, grant(`{"AWS":"arn:aws:iam::000000000001:role/ann"}`), NoIdentity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{Principal: tt.who, Action: "lambda:InvokeFunction", Resource: fn, Owner: own}
			if tt.identity != "" {
				r.Identity = identity(t, tt.identity)
			}
			if tt.resource != "" {
				r.Policy = resource(t, tt.resource)
			}
			d := Decide(&r)
			if d.Cause != tt.want || d.Allowed() != (tt.want == AllowIdentity || tt.want == AllowResource) {
				t.Errorf("got %+v, allowed %v; want cause %d", d, d.Allowed(), tt.want)
			}
			if d.Allowed() == (d.Reason(r.Action) != "") {
				t.Errorf("reason %q", d.Reason(r.Action))
			}
		})
	}
}

func TestZeroDecisionRefuses(t *testing.T) {
	if (Decision{}).Allowed() || (Decision{}).Reason("a:b") == "" {
		t.Error("the zero Decision allows")
	}
}

func TestMessage(t *testing.T) {
	r := &Request{Principal: bob, Action: "lambda:InvokeFunction", Resource: fn, Owner: own, Identity: identity(t, allowInvoke)}
	want := "User: arn:aws:iam::000000000002:user/bob is not authorized to perform: lambda:InvokeFunction on resource: " + fn +
		" because no resource-based policy allows the lambda:InvokeFunction action"
	if got := Message(r, Decide(r)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r.Identity = identity(t, denyInvoke)
	if got := Message(r, Decide(r)); !strings.HasSuffix(got, fn+" with an explicit deny in an identity-based policy") {
		t.Errorf("got %s", got)
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		what, value string // "Action" or "Resource", and what is asked for
		pattern     string // JSON, or with NotAction/NotResource in front
		want        bool
	}{
		{"Action", "lambda:InvokeFunction", `"lambda:InvokeFunction"`, true},
		{"Action", "lambda:InvokeFunction", `"LAMBDA:invokefunction"`, true},
		{"Action", "lambda:InvokeFunction", `["s3:*","lambda:Invoke*"]`, true},
		{"Action", "lambda:InvokeFunction", `"lambda:*Function"`, true},
		{"Action", "lambda:InvokeFunction", `"lambda:In?okeFunction"`, true},
		{"Action", "lambda:InvokeFunction", `"lambda:In?voke*"`, false},
		{"Action", "lambda:InvokeFunction", `"lambda:Invoke"`, false},
		{"Action", "lambda:InvokeFunctionUrl", `"lambda:InvokeFunction"`, false},
		{"Action", "logs:GetLogEvents", `"lambda:*"`, false},
		{"NotAction", "lambda:InvokeFunction", `"lambda:Invoke*"`, false},
		{"NotAction", "lambda:GetFunction", `["lambda:Invoke*","s3:*"]`, true},

		{"Resource", fn, `"*"`, true},
		{"Resource", fn, `"` + fn + `"`, true},
		{"Resource", fn + ":1", `"` + fn + `"`, false},
		{"Resource", fn, `"` + fn + `:1"`, false},
		{"Resource", fn + ":1", `"` + fn + `:*"`, true},
		{"Resource", fn + ":1", `"` + fn + `*"`, true},
		{"Resource", fn, `"arn:aws:lambda:*:*:function:f"`, true},
		{"Resource", fn, `"arn:aws:lambda:*:function:f"`, false}, // a * for two parts
		{"Resource", fn, `"arn:aws:lambda:us-*:000000000001:*"`, true},
		{"Resource", fn, `"arn:*:lambda:us-east-?:*1:fun*:f"`, true},
		{"Resource", fn, `"arn:aws:lambda:us-east-1:00000000000?:function:*"`, true},
		{"Resource", fn, `"arn:aws:lambda:us-east-1:000000000002:function:*"`, false},
		{"Resource", fn, `"arn:aws:LAMBDA:us-east-1:000000000001:function:f"`, false},
		{"Resource", "arn:aws:logs:us-east-1:000000000001:log-group:/aws/lambda/f:log-stream:", `"arn:aws:logs:*:*:log-group:/aws/lambda/*:*"`, true},
		{"Resource", "*", `"*"`, true},
		{"Resource", "*", `"arn:aws:lambda:*:*:*"`, false},
		{"NotResource", fn, `"` + fn + `"`, false},
		{"NotResource", fn + ":1", `"` + fn + `"`, true},
		{"Resource", "arn:aws:lambda:us-east-1:000000000001:function:" + strings.Repeat("f", maxResource), `"*"`, false},

		{"Resource", "arn:aws:lambda:us-east-1:000000000001:function:ann-f", `"arn:aws:lambda:*:*:function:${aws:username}-*"`, true},
		{"Resource", "arn:aws:lambda:us-east-1:000000000001:function:eve-f", `"arn:aws:lambda:*:*:function:${aws:username}-*"`, false},
		{"Resource", "arn:aws:lambda:us-east-1:000000000001:function:ann-f", `"arn:aws:lambda:*:*:function:${AWS:UserName}-f"`, true},
		{"Resource", "arn:aws:lambda:us-east-1:000000000001:function:x", `"arn:aws:lambda:*:*:function:${aws:sourcearn, 'x'}"`, true},
		{"Resource", "arn:aws:lambda:us-east-1:000000000001:function:x", `"arn:aws:lambda:*:*:function:${aws:sourcearn}*"`, false},
		{"NotResource", "arn:aws:lambda:us-east-1:000000000001:function:x", `"arn:aws:lambda:*:*:function:${aws:sourcearn}*"`, false},
		{"Resource", "arn:aws:lambda:us-east-1:000000000001:function:x", `"arn:aws:lambda:*:*:function:${*}"`, false},
		{"Resource", "arn:aws:lambda:us-east-1:000000000001:function:x", `"arn:aws:lambda:*:*:function:${aws:userid}"`, false}, // its value is *
		{"Resource", "arn:aws:lambda:us-east-1:000000000001:function:x", `"arn:aws:lambda:*:*:function:${open"`, false},
	} {
		r := Request{Principal: ann, Action: "lambda:InvokeFunction", Resource: fn, Owner: own,
			Context: Context{UserName: {"ann"}, UserID: {"*"}}}
		statement := `{"Effect":"Allow","` + tt.what + `":` + tt.pattern
		if strings.HasSuffix(tt.what, "Action") {
			r.Action, statement = tt.value, statement+`,"Resource":"*"}`
		} else {
			r.Resource, statement = tt.value, statement+`,"Action":"*"}`
		}
		r.Identity = identity(t, statement)
		if got := Decide(&r).Allowed(); got != tt.want {
			t.Errorf("%s of %s: allowed %v, want %v", statement, tt.value, got, tt.want)
		}
	}
}

// TestVersionWithoutVariables: in a document of 2008, ${…} is text.
func TestVersionWithoutVariables(t *testing.T) {
	p, err := ParseIdentity([]byte(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:*:*:function:${aws:username}"}}`))
	if err != nil {
		t.Fatal(err)
	}
	r := Request{Principal: ann, Identity: p, Action: "lambda:GetFunction", Owner: own, Context: Context{UserName: {"ann"}}}
	for name, want := range map[string]bool{"ann": false, "${aws:username}": true} {
		r.Resource = "arn:aws:lambda:us-east-1:000000000001:function:" + name
		if got := Decide(&r).Allowed(); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestPathologicalPatternEnds(t *testing.T) {
	pattern := wildcards(strings.Repeat("a*", 2000)+"b", false)
	if glob(pattern.text, strings.Repeat("a", maxResource)) {
		t.Error("matched")
	}
}

var sink Decision

// BenchmarkDecide is what a call costs that is judged at all: a key with a policy, and a call between accounts.
func BenchmarkDecide(b *testing.B) {
	for name, r := range map[string]*Request{
		"identity": {Principal: ann, Identity: identity(b, allowOther+","+allowInvoke), Owner: own},
		"accounts": {Principal: bob, Identity: identity(b, allowInvoke), Owner: own, Policy: resource(b, grant(`{"AWS":"`+other+`"}`))},
	} {
		r.Action, r.Resource = "lambda:InvokeFunction", fn
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sink = Decide(r)
			}
			if !sink.Allowed() {
				b.Fatal("refused")
			}
		})
	}
}
