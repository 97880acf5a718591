package apiserver

import (
	"encoding/json"
	"slices"
)

// matchers are the comparisons of event filters (developer guide, "filter rule syntax").
var matchers = []string{"prefix", "suffix", "anything-but", "numeric", "exists", "equals-ignore-case", "cidr", "wildcard"}

// validPattern reports whether text is an event pattern: an object whose leaves are lists of values and comparisons, none
// of them empty.
func validPattern(text string) bool {
	var pattern map[string]any
	return json.Unmarshal([]byte(text), &pattern) == nil && validFields(pattern)
}

func validFields(fields map[string]any) bool {
	for name, value := range fields {
		ok := false
		switch value := value.(type) {
		case map[string]any:
			ok = validFields(value)
		case []any:
			if name == "$or" {
				ok = validAlternatives(value)
			} else {
				ok = len(value) > 0 && !slices.ContainsFunc(value, func(v any) bool { return !validLeaf(v) })
			}
		}
		if !ok {
			return false
		}
	}
	return len(fields) > 0
}

func validAlternatives(list []any) bool {
	for _, v := range list {
		fields, ok := v.(map[string]any)
		if !ok || !validFields(fields) {
			return false
		}
	}
	return len(list) > 1
}

// validLeaf reports whether v is a value to equal, or one comparison.
func validLeaf(v any) bool {
	switch v := v.(type) {
	case []any:
		return false
	case map[string]any:
		for name := range v {
			if !slices.Contains(matchers, name) {
				return false
			}
		}
		return len(v) == 1
	}
	return true
}
