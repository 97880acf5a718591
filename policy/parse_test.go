package policy

import (
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	const rest = `"Effect":"Allow","Action":"*","Resource":"*"`
	for _, tt := range []struct{ text, want string }{
		{``, "Syntax errors in policy"},
		{`{`, "Syntax errors in policy"},
		{`[]`, "expected an object"},
		{`{"Statement":[]} x`, "after the end"},
		{`{"Version":"2012-10-17"}`, "has no Statement"},
		{`{"Version":"2013-10-17","Statement":[]}`, "expected \"2012-10-17\""},
		{`{"Version":2012,"Statement":[]}`, "Version"},
		{`{"Statement":[]}`, "the list is empty"},
		{`{"Statement":null}`, "null"},
		{`{"statement":[{` + rest + `}]}`, `"statement" is no member`},
		{`{"Id":1,"Statement":[{` + rest + `}]}`, "Id"},
		{`{"Statement":"x"}`, "statement 1: it is a string"},
		{`{"Statement":[{` + rest + `},{"effect":"Allow"}]}`, "statement 2: effect: is no member"},
		{`{"Statement":[{` + rest + `,"Effect":"Deny"}]}`, "comes twice"},
		{`{"Statement":[{"Sid":"a",` + rest + `},{"Sid":"a",` + rest + `}]}`, "must be unique"},
		{`{"Statement":[{"Sid":"a b",` + rest + `}]}`, "alpha-numeric"},
		{`{"Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}`, `expected "Allow" or "Deny"`},
		{`{"Statement":[{"Action":"*","Resource":"*"}]}`, "Missing required field Effect"},
		{`{"Statement":[{"Effect":"Allow","Resource":"*"}]}`, "must contain actions"},
		{`{"Statement":[{"Effect":"Allow","Action":"*"}]}`, "must contain resources"},
		{`{"Statement":[{"Effect":"Allow","Action":[],"Resource":"*"}]}`, "the list is empty"},
		{`{"Statement":[{"Effect":"Allow","Action":[["*"]],"Resource":"*"}]}`, "list of strings"},
		{`{"Statement":[{"Effect":"Allow","Action":{"a":"b"},"Resource":"*"}]}`, "got an object"},
		{`{"Statement":[{"Effect":"Allow","Action":"*","NotAction":"a:b","Resource":"*"}]}`, "or its opposite"},
		{`{"Statement":[{"Effect":"Allow","Action":"InvokeFunction","Resource":"*"}]}`, "prefaced by a vendor"},
		{`{"Statement":[{"Effect":"Allow","Action":"lambda:","Resource":"*"}]}`, "prefaced by a vendor"},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"function:f"}]}`, "must be in ARN format"},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda"}]}`, "must be in ARN format"},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:*:*:\u0001"}]}`, "control character"},
		{`{"Statement":[{` + rest + `,"Principal":"*"}]}`, "should not specify a principal"},
		{`{"Statement":[{` + rest + `,"NotPrincipal":"*"}]}`, "not supported"},
		{`{"Statement":[{` + rest + `,"Condition":[]}]}`, "expected an object"},
		{`{"Statement":[{` + rest + `,"Condition":{"StringIs":{"aws:userid":"a"}}}]}`, "no such condition operator"},
		{`{"Statement":[{` + rest + `,"Condition":{"NullIfExists":{"aws:userid":"true"}}}]}`, "no such condition operator"},
		{`{"Statement":[{` + rest + `,"Condition":{"NumericLike":{"aws:epochtime":"1"}}}]}`, "no such condition operator"},
		{`{"Statement":[{` + rest + `,"Condition":{"StringEquals":{"aws:ResourceTag/env":"a"}}}]}`, "does not know this condition key"},
		{`{"Statement":[{` + rest + `,"Condition":{"StringEquals":{"aws:userid":[]}}}]}`, "the list is empty"},
		{`{"Statement":[{` + rest + `,"Condition":{"StringEquals":{"aws:userid":[["a"]]}}}]}`, "too deeply"},
		{`{"Statement":[{` + rest + `,"Condition":{"StringEquals":{"aws:userid":{"a":"b"}}}}]}`, "list of strings"},
		{`{"Statement":[{` + rest + `,"Condition":{"Bool":{"aws:SecureTransport":"yes"}}}]}`, "neither true nor false"},
		{`{"Statement":[{` + rest + `,"Condition":{"Null":{"aws:userid":["true","false"]}}}]}`, "one value"},
		{`{"Statement":[{` + rest + `,"Condition":{"NumericEquals":{"aws:EpochTime":"x"}}}]}`, "no number"},
		{`{"Statement":[{` + rest + `,"Condition":{"DateEquals":{"aws:CurrentTime":"tomorrow"}}}]}`, "no time"},
		{`{"Statement":[{` + rest + `,"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}}]}`, "no IP address"},
		{`{"Statement":[{` + rest + `,"Sid":"` + strings.Repeat("a", MaxIdentity) + `"}]}`, "at most 6144"},
		{strings.Repeat(" ", maxText) + `{"Statement":[{` + rest + `}]}`, "at most 6144"},
	} {
		_, err := ParseIdentity([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.200s\ngot  %v\nwant %s", tt.text, err, tt.want)
		}
		if err != nil && strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("more than one line: %v", err)
		}
	}
}

func TestParseTakes(t *testing.T) {
	for _, text := range []string{
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`,
		`{"Id":"x","Statement":[{"Sid":"","Effect":"Deny","NotAction":["lambda:*"],"NotResource":["arn:aws:lambda:*:*:*"]},{"Sid":"","Effect":"Allow","Action":"*","Resource":"*"}]}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}}`,
		// Developer guide, "Identity-based policies for Lambda": function permissions, layer control, URL control.
		`{"Version":"2012-10-17","Statement":[{"Sid":"ReadOnlyPermissions","Effect":"Allow","Action":["lambda:GetAccountSettings","lambda:GetEventSourceMapping","lambda:ListTags","iam:ListRoles"],"Resource":"*"},{"Sid":"DevelopFunctions","Effect":"Allow","NotAction":["lambda:AddPermission","lambda:PutFunctionConcurrency"],"Resource":"arn:aws:lambda:*:*:function:intern-*"},{"Sid":"DevelopEventSourceMappings","Effect":"Allow","Action":["lambda:DeleteEventSourceMapping"],"Resource":"*","Condition":{"StringLike":{"lambda:FunctionArn":"arn:aws:lambda:*:*:function:intern-*"}}},{"Sid":"PassExecutionRole","Effect":"Allow","Action":["iam:PassRole"],"Resource":"arn:aws:iam::*:role/intern-lambda-execution-role"}]}`,
		`{"Version":"2012-10-17","Statement":[{"Sid":"ConfigureFunctions","Effect":"Allow","Action":["lambda:CreateFunction"],"Resource":"*","Condition":{"ForAllValues:StringLike":{"lambda:Layer":["arn:aws:lambda:*:123456789012:layer:*:*"]}}}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":["lambda:CreateFunctionUrlConfig"],"Resource":"*","Condition":{"StringNotEquals":{"lambda:FunctionUrlAuthType":"AWS_IAM"}}}]}`,
	} {
		if _, err := ParseIdentity([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestPrincipals(t *testing.T) {
	statement := func(principal string) []byte {
		return []byte(`{"Sid":"a-b_c","Effect":"Allow","Principal":` + principal + `,"Action":"lambda:*","Resource":"*"}`)
	}
	for _, good := range []string{`"*"`, `{"AWS":"*"}`, `{"AWS":"000000000001"}`, `{"AWS":["arn:aws:iam::000000000001:root","arn:aws:iam::000000000001:user/x/y"]}`,
		`{"AWS":"arn:aws:sts::000000000001:assumed-role/r/s"}`, `{"Service":"s3.amazonaws.com"}`, `{"Service":["a.b"],"AWS":"000000000001"}`} {
		if _, err := ParseStatement(statement(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{`"000000000001"`, `{}`, `[]`, `{"AWS":[]}`, `{"AWS":"1"}`, `{"AWS":"arn:aws:iam::1:root"}`, `{"AWS":"arn:aws:iam::000000000001:user/*"}`,
		`{"AWS":"arn:aws:s3:::x"}`, `{"Service":"*"}`, `{"Service":"s3"}`, `{"Federated":"cognito-identity.amazonaws.com"}`, `{"CanonicalUser":"79a5"}`} {
		if _, err := ParseStatement(statement(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if _, err := ParseStatement([]byte(`{"Effect":"Allow","Action":"lambda:*","Resource":"*"}`)); err == nil || !strings.Contains(err.Error(), "Principal") {
		t.Errorf("without a principal: %v", err)
	}
	if _, err := ParseStatement([]byte(`[]`)); err == nil {
		t.Error("a list was taken for a statement")
	}
	if _, err := ParseStatement([]byte(strings.Repeat(" ", maxText+1))); err == nil {
		t.Error("an endless statement was read")
	}
}

// FuzzDocument: no document makes the parser or a decision fail, and whoever is allowed is allowed by an Allow.
func FuzzDocument(f *testing.F) {
	f.Add(oneStatement(allowAll), fn, "ann")
	f.Add(oneStatement(denyInvoke+","+allowInvoke), fn+":1", "*")
	f.Add(oneStatement(`{"Effect":"Allow","NotAction":"a:b*?","NotResource":"arn:*:${aws:username}:::","Condition":{"ForAnyValue:StringLikeIfExists":{"aws:username":["${a","a*?b"]}}}`), "*", "\x01")
	f.Add(grant(`{"AWS":["*","000000000001"],"Service":"a.b"}`), fn, "x")
	f.Fuzz(func(t *testing.T, text, resource, user string) {
		if strings.Contains(text, `\u`) {
			return // could spell what the checks below look for
		}
		ctx := Context{UserName: {user}, SourceIP: {user}, EpochTime: {user}, LayerARN: {user, "x"}}
		if p, err := ParseIdentity([]byte(text)); err == nil {
			r := Request{Principal: ann, Identity: p, Action: "lambda:InvokeFunction", Resource: resource, Owner: own, Context: ctx}
			if Decide(&r).Allowed() && !strings.Contains(text, "Allow") {
				t.Errorf("allowed by %s", text)
			}
		}
		if s, err := ParseStatement([]byte(text)); err == nil {
			r := Request{Action: "lambda:InvokeFunction", Resource: resource, Owner: own, Context: ctx, Policy: Of(s)}
			if Decide(&r).Allowed() && !strings.Contains(text, "*") {
				t.Errorf("anonymous is allowed by %s", text)
			}
		}
	})
}
