package logs

import (
	"errors"
	"strings"
)

// errPattern: CloudWatch would understand it.
var errPattern = errors.New("filter patterns for JSON ({ … }), for columns ([ … ]) and regular expressions (%…%) are not supported; use terms: word, \"a phrase\", -without, ?any ?of")

// parsePattern turns CloudWatch's filter pattern for plain text into a predicate: all plain terms must be in the message,
// none of the -terms, and one of the ?terms if there are any. nil takes everything.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
func parsePattern(pattern string) (func(string) bool, error) {
	pattern = strings.TrimSpace(pattern)
	if pattern == "" {
		return nil, nil
	}
	if strings.ContainsAny(pattern[:1], "{[%") {
		return nil, errPattern
	}
	var all, any, none []string
	for pattern != "" {
		into := &all
		switch pattern[0] {
		case '-':
			into, pattern = &none, pattern[1:]
		case '?':
			into, pattern = &any, pattern[1:]
		}
		var term string
		if strings.HasPrefix(pattern, `"`) {
			var closed bool
			if term, pattern, closed = strings.Cut(pattern[1:], `"`); !closed {
				return nil, errors.New(`the filter pattern has a " without its end`)
			}
		} else {
			term, pattern, _ = strings.Cut(pattern, " ")
		}
		if term != "" {
			*into = append(*into, term)
		}
		pattern = strings.TrimLeft(pattern, " ")
	}
	return func(message string) bool {
		for _, term := range all {
			if !strings.Contains(message, term) {
				return false
			}
		}
		for _, term := range none {
			if strings.Contains(message, term) {
				return false
			}
		}
		for _, term := range any {
			if strings.Contains(message, term) {
				return true
			}
		}
		return len(any) == 0
	}, nil
}
