package filter

import (
	"fmt"
	"net/netip"
	"strings"
)

// test decides about one value; present is false when the record has none there.
type test func(value any, present bool) bool

func parseTests(list []any) ([]test, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("the list of values is empty")
	}
	var out []test
	for _, v := range list {
		t, err := parseTest(v)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// parseTest reads a value to equal, or one comparison.
func parseTest(v any) (test, error) {
	switch v := v.(type) {
	case []any:
		return nil, fmt.Errorf("a list in a list of values")
	case map[string]any:
		if len(v) == 1 {
			for name, operand := range v {
				return comparison(name, operand)
			}
		}
		return nil, fmt.Errorf("a comparison must be an object of one member")
	}
	return func(value any, present bool) bool { return present && value == v }, nil
}

func comparison(name string, operand any) (test, error) {
	switch name {
	case "exists":
		want, ok := operand.(bool)
		if !ok {
			return nil, fmt.Errorf("exists takes true or false")
		}
		return func(_ any, present bool) bool { return present == want }, nil
	case "anything-but":
		return anythingBut(operand)
	case "numeric":
		return numeric(operand)
	}
	return textual(name, operand)
}

// textual comparisons are those of strings. A prefix or suffix may be {"equals-ignore-case": TEXT}.
func textual(name string, operand any) (test, error) {
	fold := false
	if inner, ok := operand.(map[string]any); ok && len(inner) == 1 && (name == "prefix" || name == "suffix") {
		operand, fold = inner["equals-ignore-case"], true
	}
	want, ok := operand.(string)
	if !ok {
		return nil, fmt.Errorf("%s takes a text", name)
	}
	var match func(string) bool
	switch name {
	case "prefix":
		match = func(s string) bool { return len(s) >= len(want) && same(s[:len(want)], want, fold) }
	case "suffix":
		match = func(s string) bool { return len(s) >= len(want) && same(s[len(s)-len(want):], want, fold) }
	case "equals-ignore-case":
		match = func(s string) bool { return strings.EqualFold(s, want) }
	case "wildcard":
		match = wildcard(want)
	case "cidr":
		network, err := netip.ParsePrefix(want)
		if err != nil {
			return nil, fmt.Errorf("cidr: %w", err)
		}
		match = func(s string) bool {
			address, err := netip.ParseAddr(s)
			return err == nil && network.Contains(address)
		}
	default:
		return nil, fmt.Errorf("there is no comparison %.40q", name)
	}
	return func(value any, _ bool) bool {
		s, ok := value.(string)
		return ok && match(s)
	}, nil
}

func same(a, b string, fold bool) bool { return a == b || fold && strings.EqualFold(a, b) }

// wildcard returns a match in which each * of the pattern stands for any text.
func wildcard(pattern string) func(string) bool {
	parts := strings.Split(pattern, "*")
	return func(s string) bool {
		if len(parts) == 1 {
			return s == pattern
		}
		first, last := parts[0], parts[len(parts)-1]
		if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
			return false
		}
		s = s[len(first) : len(s)-len(last)]
		for _, part := range parts[1 : len(parts)-1] {
			i := strings.Index(s, part)
			if i < 0 {
				return false
			}
			s = s[i+len(part):]
		}
		return true
	}
}

// anythingBut matches what is there and is none of the operand's: a value, a list of them, or one comparison of texts.
func anythingBut(operand any) (test, error) {
	var not []test
	switch operand := operand.(type) {
	case map[string]any:
		t, err := parseTest(operand)
		if err != nil {
			return nil, err
		}
		not = []test{t}
	case []any:
		tests, err := parseTests(operand)
		if err != nil {
			return nil, err
		}
		not = tests
	default:
		not = []test{func(value any, _ bool) bool { return value == operand }}
	}
	return func(value any, present bool) bool { return present && !matchAny(not, value, present) }, nil
}

// numeric reads [">", 0, "<=", 5]: all of the pairs must hold.
func numeric(operand any) (test, error) {
	list, ok := operand.([]any)
	if !ok || len(list) == 0 || len(list)%2 != 0 {
		return nil, fmt.Errorf("numeric takes pairs of a comparison and a number")
	}
	var all []func(float64) bool
	for i := 0; i < len(list); i += 2 {
		n, isNumber := list[i+1].(float64)
		if !isNumber {
			return nil, fmt.Errorf("numeric: expected a number, got %v", list[i+1])
		}
		switch list[i] {
		case "=":
			all = append(all, func(v float64) bool { return v == n })
		case "<":
			all = append(all, func(v float64) bool { return v < n })
		case "<=":
			all = append(all, func(v float64) bool { return v <= n })
		case ">":
			all = append(all, func(v float64) bool { return v > n })
		case ">=":
			all = append(all, func(v float64) bool { return v >= n })
		default:
			return nil, fmt.Errorf("numeric: there is no comparison %v", list[i])
		}
	}
	return func(value any, _ bool) bool {
		v, ok := value.(float64)
		if !ok {
			return false
		}
		for _, holds := range all {
			if !holds(v) {
				return false
			}
		}
		return true
	}, nil
}
