package policy

import "testing"

func TestConditions(t *testing.T) {
	const ip, arn, kind = `"aws:SourceIp"`, `"aws:PrincipalArn"`, `"lambda:FunctionUrlAuthType"`
	with := func(key string, values ...string) Context { return Context{key: values} }
	for _, tt := range []struct {
		condition string
		ctx       Context
		want      bool
	}{
		{`{"StringEquals":{` + kind + `:"NONE"}}`, with(FunctionURLType, "NONE"), true},
		{`{"StringEquals":{"LAMBDA:functionurlauthtype":["AWS_IAM","NONE"]}}`, with(FunctionURLType, "NONE"), true},
		{`{"StringEquals":{` + kind + `:"NONE"}}`, with(FunctionURLType, "none"), false},
		{`{"StringEquals":{` + kind + `:"N*"}}`, with(FunctionURLType, "NONE"), false},
		{`{"StringEquals":{` + kind + `:"NONE"}}`, nil, false},
		{`{"StringEqualsIfExists":{` + kind + `:"NONE"}}`, nil, true},
		{`{"StringEqualsIfExists":{` + kind + `:"NONE"}}`, with(FunctionURLType, "AWS_IAM"), false},
		{`{"StringNotEquals":{` + kind + `:"NONE"}}`, nil, true},
		{`{"StringNotEquals":{` + kind + `:["NONE","AWS_IAM"]}}`, with(FunctionURLType, "AWS_IAM"), false},
		{`{"StringNotEquals":{` + kind + `:"NONE"}}`, with(FunctionURLType, "AWS_IAM"), true},
		{`{"StringEqualsIgnoreCase":{` + kind + `:"none"}}`, with(FunctionURLType, "NONE"), true},
		{`{"StringNotEqualsIgnoreCase":{` + kind + `:"none"}}`, with(FunctionURLType, "NONE"), false},
		{`{"StringLike":{` + kind + `:"N?N*"}}`, with(FunctionURLType, "NONE"), true},
		{`{"StringNotLike":{` + kind + `:"N?N*"}}`, with(FunctionURLType, "NONE"), false},
		{`{"StringEquals":{"aws:userid":"${aws:username}"}}`, Context{UserID: {"x"}, UserName: {"x"}}, true},
		{`{"StringLike":{"aws:userid":"${aws:username}"}}`, Context{UserID: {"x"}, UserName: {"*"}}, false},

		{`{"ArnLike":{` + arn + `:"arn:aws:iam::*:user/a*"}}`, with(PrincipalARN, ann.ARN), true},
		{`{"ArnEquals":{` + arn + `:"arn:aws:iam::*:user/a*"}}`, with(PrincipalARN, ann.ARN), true}, // as ArnLike does
		{`{"ArnLike":{` + arn + `:"arn:aws:*:user/a*"}}`, with(PrincipalARN, ann.ARN), false},
		{`{"ArnNotLike":{` + arn + `:"arn:aws:iam::*:user/a*"}}`, with(PrincipalARN, ann.ARN), false},
		{`{"ArnNotEquals":{` + arn + `:"arn:aws:iam::*:user/b"}}`, with(PrincipalARN, ann.ARN), true},
		{`{"ArnLike":{"aws:SourceArn":"*"}}`, nil, false},

		{`{"Bool":{"aws:SecureTransport":"true"}}`, with(SecureTransport, "true"), true},
		{`{"Bool":{"aws:SecureTransport":false}}`, with(SecureTransport, "true"), false},
		{`{"Bool":{"aws:SecureTransport":"true"}}`, nil, false},
		{`{"BoolIfExists":{"aws:SecureTransport":"true"}}`, nil, true},
		{`{"Null":{"aws:SourceArn":"true"}}`, nil, true},
		{`{"Null":{"aws:SourceArn":"false"}}`, nil, false},
		{`{"Null":{"aws:UserName":"false"}}`, with(UserName, "x"), true},

		{`{"IpAddress":{` + ip + `:"203.0.113.0/24"}}`, with(SourceIP, "203.0.113.9"), true},
		{`{"IpAddress":{` + ip + `:["10.0.0.0/8","203.0.113.9"]}}`, with(SourceIP, "203.0.113.9"), true},
		{`{"IpAddress":{` + ip + `:"203.0.113.0/24"}}`, with(SourceIP, "::ffff:203.0.113.9"), true},
		{`{"IpAddress":{` + ip + `:"2001:db8::/32"}}`, with(SourceIP, "2001:db8::7"), true},
		{`{"IpAddress":{` + ip + `:"203.0.113.0/24"}}`, with(SourceIP, "203.0.114.9"), false},
		{`{"IpAddress":{` + ip + `:"0.0.0.0/0"}}`, with(SourceIP, "nonsense"), false},
		{`{"NotIpAddress":{` + ip + `:"203.0.113.0/24"}}`, with(SourceIP, "203.0.113.9"), false},
		{`{"NotIpAddress":{` + ip + `:"203.0.113.0/24"}}`, with(SourceIP, "10.0.0.1"), true},

		{`{"NumericLessThan":{"aws:EpochTime":100}}`, with(EpochTime, "99"), true},
		{`{"NumericLessThan":{"aws:EpochTime":"100"}}`, with(EpochTime, "100"), false},
		{`{"NumericLessThanEquals":{"aws:EpochTime":"100"}}`, with(EpochTime, "100"), true},
		{`{"NumericGreaterThan":{"aws:EpochTime":"100"}}`, with(EpochTime, "100.5"), true},
		{`{"NumericGreaterThanEquals":{"aws:EpochTime":"100"}}`, with(EpochTime, "x"), false},
		{`{"NumericEquals":{"aws:EpochTime":["1","2"]}}`, with(EpochTime, "2"), true},
		{`{"NumericNotEquals":{"aws:EpochTime":["1","2"]}}`, with(EpochTime, "2"), false},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2020-04-01T00:00:00Z"},"DateLessThan":{"aws:CurrentTime":"2020-06-30T23:59:59Z"}}`,
			with(CurrentTime, "2020-05-01T00:00:00Z"), true}, // the guide's example
		{`{"DateGreaterThan":{"aws:CurrentTime":"2020-04-01"},"DateLessThan":{"aws:CurrentTime":"2020-06-30T23:59:59Z"}}`,
			with(CurrentTime, "2020-07-01T00:00:00Z"), false},
		{`{"DateLessThanEquals":{"aws:CurrentTime":"1588291200"}}`, with(CurrentTime, "2020-05-01T00:00:00Z"), true},

		{`{"ForAllValues:StringLike":{"lambda:Layer":["a*","b*"]}}`, with(LayerARN, "a1", "b1"), true},
		{`{"ForAllValues:StringLike":{"lambda:Layer":["a*","b*"]}}`, with(LayerARN, "a1", "c1"), false},
		{`{"ForAllValues:StringLike":{"lambda:Layer":["a*"]}}`, nil, true},
		{`{"ForAnyValue:StringLike":{"lambda:Layer":["a*"]}}`, with(LayerARN, "c1", "a1"), true},
		{`{"ForAnyValue:StringLike":{"lambda:Layer":["a*"]}}`, nil, false},
		{`{"ForAnyValue:StringNotLike":{"lambda:Layer":["a*"]}}`, with(LayerARN, "a1", "c1"), true},
		{`{"ForAllValues:StringNotLike":{"lambda:Layer":["a*"]}}`, with(LayerARN, "a1", "c1"), false},
		{`{"ForAnyValue:StringNotLike":{"lambda:Layer":["a*"]}}`, nil, false},
		{`{"ForAnyValue:StringLikeIfExists":{"lambda:Layer":["a*"]}}`, nil, true},

		// Keys, and operators, must all hold.
		{`{"StringEquals":{"aws:UserName":"a","aws:UserId":"1"}}`, Context{UserName: {"a"}, UserID: {"1"}}, true},
		{`{"StringEquals":{"aws:UserName":"a","aws:UserId":"1"}}`, Context{UserName: {"a"}, UserID: {"2"}}, false},
		{`{"StringEquals":{"aws:UserName":"a"},"IpAddress":{` + ip + `:"10.0.0.0/8"}}`, Context{UserName: {"a"}, SourceIP: {"11.0.0.1"}}, false},
	} {
		r := Request{Principal: ann, Action: "lambda:GetFunction", Resource: fn, Owner: own, Context: tt.ctx,
			Identity: identity(t, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":`+tt.condition+`}`)}
		if got := Decide(&r).Allowed(); got != tt.want {
			t.Errorf("%s with %v: %v, want %v", tt.condition, tt.ctx, got, tt.want)
		}
	}
}
