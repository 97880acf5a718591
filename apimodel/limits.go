package apimodel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// limits are what a value, or the size of a collection, must satisfy.
type limits struct {
	min, max *float64
	pattern  *pattern
	enum     []string // in the order in which messages show it
	notNull  bool     // as an element: messages about it end in "Member must not be null"
}

func (l *limits) compile(name string, raw *rawShape, k kind) error {
	l.min, l.max, l.enum = raw.Min, raw.Max, raw.Enum
	text := raw.Pattern
	l.notNull = true
	if o, ok := overrides[name]; ok {
		if o.pattern != "" {
			text = o.pattern
		}
		if o.hasLength {
			l.min, l.max = &o.min, &o.max
		}
		if o.enum != nil {
			l.enum = o.enum
		}
		l.notNull = !o.nullable
	}
	if k == kindBoolean || k == kindStructure {
		l.min, l.max = nil, nil
	}
	if text == "" {
		return nil
	}
	p, err := newPattern(text)
	if err != nil {
		return fmt.Errorf("shape %s: %w", name, err)
	}
	if also := overrides[name].also; also != "" {
		if p.is, err = whole(p.is.String() + "|" + also); err != nil {
			return fmt.Errorf("shape %s: %w", name, err)
		}
	}
	l.pattern = p
	return nil
}

func (l *limits) any() bool {
	return l.min != nil || l.max != nil || l.pattern != nil || l.enum != nil
}

// The constraints' wording, recorded.
const (
	mustNotBeNull    = "Member must not be null"
	mustBeOneOf      = "Member must satisfy enum value set: "
	mustMatch        = "Member must satisfy regular expression pattern: "
	mustBeNoLonger   = "Member must have length less than or equal to "
	mustBeNoShorter  = "Member must have length greater than or equal to "
	mustBeNoMore     = "Member must have value less than or equal to "
	mustBeNoLess     = "Member must have value greater than or equal to "
	mustAll          = "Member must satisfy constraint: "
	mustAllMapKeys   = "Map keys must satisfy constraint: "
	mustAllMapValues = "Map value must satisfy constraint: "
)

// broken returns the constraints that a string of the given length does not satisfy.
func (l *limits) broken(s string, length int) []string {
	var out []string
	if l.enum != nil && !slices.Contains(l.enum, s) {
		out = append(out, l.enumText())
	}
	out = l.brokenSize(out, float64(length), mustBeNoLonger, mustBeNoShorter, false)
	if l.pattern != nil && !l.pattern.match(s) {
		out = append(out, mustMatch+l.pattern.text)
	}
	return out
}

// brokenSize appends the constraints that a number, or a length, does not satisfy.
func (l *limits) brokenSize(out []string, n float64, more, less string, double bool) []string {
	if l.max != nil && !(n <= *l.max) {
		out = append(out, more+number(*l.max, double))
	}
	if l.min != nil && !(n >= *l.min) {
		out = append(out, less+number(*l.min, double))
	}
	return out
}

// all returns every constraint of an element in the order of messages: enum, longest, shortest, pattern, not null.
func (l *limits) all(k kind) []string {
	var out []string
	if l.enum != nil {
		out = append(out, l.enumText())
	}
	more, less := mustBeNoLonger, mustBeNoShorter
	if k == kindInteger || k == kindLong || k == kindDouble {
		more, less = mustBeNoMore, mustBeNoLess
	}
	if l.max != nil {
		out = append(out, more+number(*l.max, k == kindDouble))
	}
	if l.min != nil {
		out = append(out, less+number(*l.min, k == kindDouble))
	}
	if l.pattern != nil {
		out = append(out, mustMatch+l.pattern.text)
	}
	if l.notNull {
		out = append(out, mustNotBeNull)
	}
	return out
}

func (l *limits) enumText() string { return mustBeOneOf + "[" + strings.Join(l.enum, ", ") + "]" }

// number prints a limit as Java does: integers bare, doubles with at least one decimal.
func number(n float64, double bool) string {
	s := strconv.FormatFloat(n, 'f', -1, 64)
	if double && !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
