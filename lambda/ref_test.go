package lambda

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

const (
	me   AccountID = "123456789012"
	here string    = "us-east-1"
)

func TestParseRef(t *testing.T) {
	arn := "arn:aws:lambda:us-east-1:123456789012:function:"
	for _, c := range []struct {
		s, qualifier  string
		name, version string
	}{
		{"fn", "", "fn", ""},
		{"fn", "7", "fn", "7"},
		{"fn", "$LATEST", "fn", "$LATEST"},
		{"fn:prod", "", "fn", "prod"},
		{"fn:prod", "prod", "fn", "prod"},
		{"fn:$LATEST", "", "fn", "$LATEST"},
		{arn + "fn", "", "fn", ""},
		{arn + "fn:2", "", "fn", "2"},
		{arn + "fn", "2", "fn", "2"},
		{"arn::lambda:us-east-1:123456789012:function:fn", "", "fn", ""},
		{"123456789012:function:fn", "", "fn", ""},
		{"123456789012:fn", "", "fn", ""},
		{"us-east-1:123456789012:function:fn:1", "", "fn", "1"},
		{"function:fn", "", "fn", ""},
		{"function:fn:1", "", "fn", "1"},
		{"function:$LATEST", "", "function", "$LATEST"}, // as the pattern reads it
		{"arn:aws:lambda:us-east-1:123456789012:function", "", "function", ""},
		{"arn:1", "", "arn", "1"},
		{"a.b", "", "a.b", ""},
	} {
		ref, err := ParseRef(c.s, c.qualifier, me, here)
		if err != nil || ref != (Ref{me, here, c.name, c.version}) {
			t.Errorf("ParseRef(%q, %q) = %+v, %v; want %s, %s", c.s, c.qualifier, ref, err, c.name, c.version)
		}
	}
}

func TestParseRefErrors(t *testing.T) {
	for _, c := range []struct {
		s, qualifier string
		code         Code
		message      string
	}{
		{"arn:aws:lambda:us-east-1:123456789012:function:fn:1", "$LATEST", InvalidParameterValue,
			"The derived qualifier from the function name does not match the specified qualifier."},
		{"arn:aws:lambda:eu-central-1:123456789012:function:fn", "", ResourceNotFound,
			"Functions from 'eu-central-1' are not reachable in this region ('us-east-1')"},
		{"arn:aws:lambda:us-east-1:999999999999:function:fn", "", AccessDenied, "no resource-based policy allows it"},
		{"*", "", Validation, "1 validation error detected: Value '*' at 'functionName' failed to satisfy constraint: " +
			"Member must satisfy regular expression pattern: " + refPattern},
		{"fn", "invalid!", Validation, "1 validation error detected: Value 'invalid!' at 'qualifier' failed to satisfy " +
			"constraint: Member must satisfy regular expression pattern: " + qualifierPattern},
		{"fn", strings.Repeat("a", 129), Validation, "Member must have length less than or equal to 128"},
		{strings.Repeat("a", 257), "x y", Validation, "2 validation errors detected: "},
		{"", "", Validation, "Member must have length greater than or equal to 1"},
		{"function:fn:$LATEST:extra", "", Validation, "regular expression"},
		{"invalid-account:function:fn", "", Validation, "regular expression"},
		{"arn:aws:lambda::123456789012:function:fn", "", Validation, "regular expression"},
		{"arn:aws:ec2:us-east-1:123456789012:instance:i-1", "", Validation, "regular expression"},
		{"arn:aws:lambda:us-east-1:123456789012:function:fn:$LATES", "", Validation, "regular expression"},
		{"a:b:c:d:e:f:g:h:i", "", Validation, "regular expression"},
	} {
		_, err := ParseRef(c.s, c.qualifier, me, here)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Message, c.message) {
			t.Errorf("ParseRef(%q, %q): %v; want %s with %q", c.s, c.qualifier, err, c.code, c.message)
		}
	}
}

func TestParseRefAcceptsAnyWithoutCaller(t *testing.T) {
	ref, err := ParseRef("arn:aws:lambda:eu-west-1:999999999999:function:fn", "", "", "")
	if err != nil || ref != (Ref{"999999999999", "eu-west-1", "fn", ""}) {
		t.Errorf("got %+v, %v", ref, err)
	}
}

func TestParseRefAllocatesNothing(t *testing.T) {
	for _, s := range []string{"fn", "fn:prod", "arn:aws:lambda:us-east-1:123456789012:function:fn:1"} {
		if n := testing.AllocsPerRun(100, func() { _, _ = ParseRef(s, "", me, here) }); n != 0 {
			t.Errorf("ParseRef(%q): %v allocations, want none", s, n)
		}
	}
}

func BenchmarkParseRef(b *testing.B) {
	for b.Loop() {
		_, _ = ParseRef("my-function", "", me, here)
	}
}

// FuzzParseRef compares the hand-written parser with the pattern that it implements.
func FuzzParseRef(f *testing.F) {
	for _, s := range []string{
		"fn", "fn:1", "function:fn:$LATEST", "us-gov-west-1:123456789012:x", "arn:aws-cn:lambda:cn-north-1:123456789012:function:f:a",
		"eusc-de-east-1:f", "us-isob-east-1:f", "arn:aws:lambda:f", "us-east-1:function:function:function", "::", "a:$LATEST.PUBLISHED",
	} {
		f.Add(s, "")
	}
	f.Add("fn", "$LATEST.PUBLISHED")
	name := regexp.MustCompile(`\A(?:` + refPattern + `)\z`)
	qualifier := regexp.MustCompile(`\A(?:` + qualifierPattern + `)\z`)
	f.Fuzz(func(t *testing.T, s, q string) {
		ref, err := ParseRef(s, q, "", "")
		groups := name.FindStringSubmatch(s)
		nameOK := groups != nil && len(s) <= maxRef
		qualifierOK := q == "" || len(q) <= maxQualifier && qualifier.MatchString(q)
		if valid := CodeOf(err) != Validation || err == nil; valid != (nameOK && qualifierOK) {
			t.Fatalf("ParseRef(%q, %q) = %+v, %v; the patterns say %v, %v", s, q, ref, err, nameOK, qualifierOK)
		}
		if err != nil {
			return
		}
		if ref.Function != groups[11] || groups[13] != "" && ref.Qualifier != groups[13] {
			t.Fatalf("ParseRef(%q) = %+v; the pattern says %q", s, ref, groups)
		}
		whole, err := ParseRef(FunctionARN("us-east-1", me, ref.Function), ref.Qualifier, me, "us-east-1")
		if err == nil && (whole.Function != ref.Function || whole.Qualifier != ref.Qualifier) {
			t.Fatalf("%+v does not survive a round trip: %+v", ref, whole)
		}
	})
}
