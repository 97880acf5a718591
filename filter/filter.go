// Package filter decides which records of an event source a function gets: it parses event patterns and matches records
// against them. Semantics are those of the developer guide ("Filter rule syntax") and of EventBridge's patterns, which it
// names. It does no I/O.
package filter

import (
	"encoding/json"
	"fmt"
)

// maxDepth bounds how deep a pattern may nest; patterns have at most 4,096 characters.
const maxDepth = 64

// Pattern is a parsed event pattern. It is immutable.
type Pattern struct{ fields fields }

// fields must all match.
type fields struct {
	named []field
	or    []fields // of these, if there are any, one must match
}

// field is one name of a pattern: either what the object there must match, or which values match.
type field struct {
	name   string
	object *fields
	any    []test // of these one must match
}

// Parse reads a pattern: an object whose leaves are lists of values and comparisons, none of them empty.
func Parse(text string) (*Pattern, error) {
	var raw map[string]any
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return nil, fmt.Errorf("a pattern must be a JSON object: %w", err)
	}
	f, err := parseFields(raw, 0)
	if err != nil {
		return nil, err
	}
	return &Pattern{*f}, nil
}

func parseFields(raw map[string]any, depth int) (*fields, error) {
	if len(raw) == 0 || depth > maxDepth {
		return nil, fmt.Errorf("a pattern must name a field at each level, and have at most %d levels", maxDepth)
	}
	out := &fields{}
	for name, value := range raw {
		switch value := value.(type) {
		case map[string]any:
			inner, err := parseFields(value, depth+1)
			if err != nil {
				return nil, err
			}
			out.named = append(out.named, field{name: name, object: inner})
		case []any:
			if name == "$or" {
				if err := out.alternatives(value, depth); err != nil {
					return nil, err
				}
				continue
			}
			tests, err := parseTests(value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			out.named = append(out.named, field{name: name, any: tests})
		default:
			return nil, fmt.Errorf("%s: expected a list of values, or an object", name)
		}
	}
	return out, nil
}

func (f *fields) alternatives(list []any, depth int) error {
	if len(list) < 2 {
		return fmt.Errorf("$or needs two alternatives at least")
	}
	for _, v := range list {
		raw, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("$or: expected objects")
		}
		inner, err := parseFields(raw, depth+1)
		if err != nil {
			return err
		}
		f.or = append(f.or, *inner)
	}
	return nil
}

// Match reports whether a record, decoded as encoding/json does into an any, matches.
func (p *Pattern) Match(record map[string]any) bool { return p.fields.match(record) }

func (f *fields) match(record map[string]any) bool {
	for _, one := range f.named {
		if !one.match(record) {
			return false
		}
	}
	if len(f.or) == 0 {
		return true
	}
	for i := range f.or {
		if f.or[i].match(record) {
			return true
		}
	}
	return false
}

func (f *field) match(record map[string]any) bool {
	value, present := record[f.name]
	if f.object != nil {
		return matchObject(f.object, value)
	}
	if list, ok := value.([]any); ok && present {
		for _, v := range list {
			if matchAny(f.any, v, true) {
				return true
			}
		}
		return len(list) == 0 && matchAny(f.any, nil, false)
	}
	return matchAny(f.any, value, present)
}

// matchObject matches what is in an object, or in one of a list of objects. What is not there has no fields, so that
// {"exists": false} may match in it.
func matchObject(f *fields, value any) bool {
	switch value := value.(type) {
	case map[string]any:
		return f.match(value)
	case []any:
		for _, v := range value {
			if inner, ok := v.(map[string]any); ok && f.match(inner) {
				return true
			}
		}
		return false
	}
	return f.match(nil)
}

func matchAny(tests []test, value any, present bool) bool {
	for _, t := range tests {
		if t(value, present) {
			return true
		}
	}
	return false
}
