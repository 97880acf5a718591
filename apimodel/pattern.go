package apimodel

import (
	"fmt"
	"regexp"
	"strings"
)

// pattern is a constraint in the model's Java syntax, made to run in RE2. It matches whole strings.
type pattern struct {
	text string // as messages show it
	is   *regexp.Regexp
	not  *regexp.Regexp // what a lookaround excludes, nil without one
}

// lookarounds holds the model's patterns that RE2 cannot express, each as what must and what must not match.
var lookarounds = map[string]struct{ is, not string }{
	`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`:              {`[a-zA-Z0-9-_]+`, `[0-9]+`},
	`((?!^\d+$)^[0-9a-zA-Z-_]+$)`:               {`[0-9a-zA-Z-_]+`, `\d+`},
	`(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)`: {`[_a-zA-Z0-9][^$]*`, `(?s)system\x2e.*`},
	`[0-9A-Za-z\.\-_]*(?<!\.)`:                  {`[0-9A-Za-z\.\-_]*`, `(?s).*\.`},
}

// The model spells AWS's regions without the European sovereign ones, the service itself with them (all recordings).
const (
	modelRegion   = `[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}`
	serviceRegion = `(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}`
)

func newPattern(text string) (*pattern, error) {
	p := &pattern{text: strings.ReplaceAll(text, modelRegion, serviceRegion)}
	is, not := p.text, ""
	if l, ok := lookarounds[text]; ok {
		is, not = l.is, l.not
	}
	var err error
	if p.is, err = whole(is); err != nil {
		return nil, err
	}
	if not != "" {
		if p.not, err = whole(not); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func whole(expr string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("pattern %s: %w", expr, err)
	}
	return re, nil
}

func (p *pattern) match(s string) bool {
	return p.is.MatchString(s) && (p.not == nil || !p.not.MatchString(s))
}
