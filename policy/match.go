package policy

import "strings"

// Wildcards within a pattern: bytes that no document may hold, so that what a variable stands for is never taken for one.
const (
	many = '\x01' // *
	one  = '\x02' // ?
)

// pattern is a text with wildcards, and perhaps with policy variables.
type pattern struct {
	text      string // wildcards are many and one
	variables bool   // text has "${"
}

// wildcards makes a pattern of a document's text. Variables are known since version 2012-10-17.
func wildcards(text string, variables bool) pattern {
	variables = variables && strings.Contains(text, "${")
	if !variables {
		return pattern{text: strings.NewReplacer("*", string(many), "?", string(one)).Replace(text)}
	}
	var b strings.Builder
	for text != "" { // wildcards within ${…} stand for themselves
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(strings.NewReplacer("*", string(many), "?", string(one)).Replace(before))
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		b.WriteString("${" + name)
		if closed {
			b.WriteByte('}')
		}
		text = after
	}
	return pattern{text: b.String(), variables: true}
}

// expand puts values in the place of variables: ${aws:username}, ${aws:username, 'default'}, and ${*}, ${?}, ${$} for the
// characters themselves. Not ok: a variable has no value, so the pattern matches nothing.
func (p *pattern) expand(ctx Context) (text string, ok bool) {
	if !p.variables {
		return p.text, true
	}
	var b strings.Builder
	for rest := p.text; ; {
		before, after, found := strings.Cut(rest, "${")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return "", false
		}
		value, ok := variable(name, ctx)
		if !ok || strings.ContainsAny(value, string([]byte{many, one})) {
			return "", false
		}
		b.WriteString(value)
		rest = tail
	}
}

func variable(name string, ctx Context) (value string, ok bool) {
	switch name {
	case "*", "?", "$":
		return name, true
	}
	key, fallback, hasFallback := strings.Cut(name, ",")
	if values := ctx[strings.ToLower(strings.TrimSpace(key))]; len(values) == 1 {
		return values[0], true
	}
	fallback = strings.TrimSpace(fallback)
	if n := len(fallback); hasFallback && n >= 2 && fallback[0] == '\'' && fallback[n-1] == '\'' {
		return fallback[1 : n-1], true
	}
	return "", false
}

// glob reports whether a text matches a pattern with the wildcards many and one. It takes time of at most the product of
// both lengths. A "?" is one byte: all that is matched is ASCII in practice.
func glob(pattern, s string) bool { return match(pattern, s, false) }

// globFold is glob without a difference between cases of ASCII letters.
func globFold(pattern, s string) bool { return match(pattern, s, true) }

func match(pattern, s string, fold bool) bool {
	p, i := 0, 0
	star, from := -1, 0 // the last many, and where what follows it is tried
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == many:
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == one || pattern[p] == s[i] || fold && lower(pattern[p]) == lower(s[i])):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == many {
		p++
	}
	return p == len(pattern)
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// arnParts is how many parts an ARN has: arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE, the last with any colons.
const arnParts = 6

// matchARN matches part by part, so that no wildcard reaches over a colon but in the last one. Parts that a pattern leaves
// out match anything (IAM reference, Resource, "incomplete ARN"). A pattern of one * matches all.
func matchARN(pattern, arn string) bool {
	if pattern == string(many) {
		return true
	}
	for n := 1; ; n++ {
		if n == arnParts {
			return glob(pattern, arn)
		}
		part, rest, more := strings.Cut(pattern, ":")
		got, others, has := strings.Cut(arn, ":")
		if !glob(part, got) || !has {
			return false
		}
		if !more {
			return true
		}
		pattern, arn = rest, others
	}
}
