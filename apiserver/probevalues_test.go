package apiserver_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// named are valid values of members whose pattern or meaning a generated one would not meet.
func (p *prober) named(op, member string) (any, bool) {
	switch member {
	case "FunctionName":
		switch op {
		case "CreateFunction":
			p.fresh++
			return fmt.Sprintf("new-%d", p.fresh), true
		}
		return "probe", true
	case "LayerName":
		return "probe", true
	case "Qualifier":
		if strings.Contains(op, "Provisioned") {
			return "1", true
		}
		return "live", true
	case "Name":
		if op == "CreateAlias" {
			p.fresh++
			return fmt.Sprintf("alias-%d", p.fresh), true
		}
		return "live", true
	case "StatementId":
		if strings.HasPrefix(op, "Remove") {
			return "kept", true
		}
		p.fresh++
		return fmt.Sprintf("statement-%d", p.fresh), true
	case "VersionNumber":
		return p.layer, true
	case "Arn":
		return fmt.Sprintf("arn:aws:lambda:us-east-1:000000000001:layer:probe:%d", p.layer), true
	case "UUID":
		return p.mapping, true
	case "CodeSigningConfigArn":
		if op == "DeleteCodeSigningConfig" {
			p.sign()
		}
		return p.signing, true
	case "EventSourceArn":
		p.fresh++
		return fmt.Sprintf("arn:aws:sqs:us-east-1:000000000001:queue-%d", p.fresh), true
	case "Action":
		return "lambda:" + map[bool]string{true: "GetLayerVersion", false: "InvokeFunction"}[strings.Contains(op, "Layer")], true
	case "ZipFile":
		return p.zip, true
	}
	v, ok := map[string]any{
		"Resource": prefix + "probe", "Role": role, "Runtime": "python3.12", "Handler": "h.handler", "FunctionVersion": "1",
		"Principal": "*", "SigningProfileVersionArns": []any{"arn:aws:signer:us-east-1:000000000001:/signing-profiles/p/1"},
		"TagKeys": []any{"k"}, "Tags": map[string]any{"k": "v"},
		"ReservedConcurrentExecutions": 5, "CapacityProviderName": "none", "SourceArn": "arn:aws:s3:::bucket", "SourceAccount": probeAccount, "AuthType": "NONE", "Payload": "{}", "InvokeArgs": "{}",
	}[member]
	return v, ok
}

// valid makes an input with the required members.
func (p *prober) valid(op string, s *probeShape) map[string]any {
	in := map[string]any{}
	for name, m := range s.Members {
		if slices.Contains(s.Required, name) || name == "ZipFile" || name == "EventSourceArn" && op == "CreateEventSourceMapping" ||
			name == "MaximumRetryAttempts" && strings.HasSuffix(op, "FunctionEventInvokeConfig") ||
			op == "CreateFunctionUrlConfig" && name == "Qualifier" ||
			op == "CreateFunction" && (name == "Runtime" || name == "Handler") {
			in[name] = p.value(op, name, m.Shape, 0)
		}
	}
	return in
}

// value makes a valid value of a shape.
func (p *prober) value(op, member, shape string, depth int) any {
	if v, ok := p.named(op, member); ok {
		return v
	}
	s := p.model.Shapes[shape]
	switch s.Type {
	case "structure":
		return p.valid(op, s)
	case "list":
		if depth > probeDepth {
			return []any{}
		}
		return []any{p.value(op, "", s.Member.Shape, depth+1)}
	case "map":
		return map[string]any{fmt.Sprint(p.value(op, "", s.Key.Shape, depth+1)): p.value(op, "", s.Value.Shape, depth+1)}
	case "integer", "long", "double":
		if s.Min != nil {
			return *s.Min
		}
		return 1
	case "boolean":
		return false
	case "timestamp":
		return 1700000000
	case "blob":
		return base64.StdEncoding.EncodeToString([]byte("{}"))
	}
	if len(s.Enum) > 0 {
		return s.Enum[0]
	}
	n := 1
	if s.Min != nil {
		n = max(n, int(*s.Min))
	}
	return strings.Repeat("a", n)
}

// wrong are values of every JSON type, and texts that break most patterns.
var wrong = map[string]any{
	"null": nil, "a text": "x", "no text": "", "a number": 12, "a fraction": 0.5, "a negative number": -1, "a huge number": 1e300, "true": true,
	"a list": []any{"x"}, "no elements": []any{}, "a list of null": []any{nil}, "an object": map[string]any{"k": "v"}, "an empty object": map[string]any{},
	"spaces": "   ", "control characters": "a\x00b\nc", "not ASCII": "grüße-\u4e16\U0001F600", "a path": "../../etc/passwd", "an ARN of nothing": "arn:aws:lambda:::",
	"a colon": ":", "a percent sign": "%", "a very long text": strings.Repeat("é", 3000), "a template": "${jndi:ldap://x}", "not base64": "%%%%",
}

// bounds are values at, below and above a shape's limits.
func (p *prober) bounds(op, member, shape string) map[string]any {
	s, out := p.model.Shapes[shape], map[string]any{}
	for which, limit := range map[string]*float64{"the least": s.Min, "the most": s.Max} {
		if limit == nil {
			continue
		}
		for delta, how := range map[float64]string{-1: "one below ", 0: "", 1: "one above "} {
			n := *limit + delta
			size := int(min(n, probeLength))
			switch s.Type {
			case "integer", "long", "double":
				out[how+which] = n
			case "string":
				if size >= 0 {
					out[how+which] = strings.Repeat("a", size)
				}
				if good, ok := p.value(op, member, shape, 0).(string); ok && size > len(good) {
					out[how+which+", beginning as a good one"] = good + strings.Repeat("a", size-len(good))
				}
			case "list":
				if size >= 0 && size <= 1<<12 {
					out[how+which] = slices.Repeat([]any{p.value(op, "", s.Member.Shape, 1)}, size)
				}
			case "map":
				if size >= 0 && size <= 1<<12 {
					m := map[string]any{}
					for i := range size {
						m[fmt.Sprintf("k%d", i)] = p.value(op, "", s.Value.Shape, 1)
					}
					out[how+which] = m
				}
			}
		}
	}
	return out
}
