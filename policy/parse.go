package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// ParseIdentity reads an identity policy, strictly: what IAM would refuse is refused, and so are condition keys that Berth
// does not fill (a Deny on one of them would never deny). Errors say where and what is wrong, in one line.
func ParseIdentity(text []byte) (*Policy, error) {
	if n := characters(text); n > MaxIdentity || len(text) > maxText {
		return nil, fmt.Errorf("the policy has %d characters besides white space, at most %d are allowed", n, MaxIdentity)
	}
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	var r reader
	return r.document(v)
}

// ParseStatement reads one statement of a resource policy of version 2012-10-17.
func ParseStatement(text []byte) (*Statement, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("the statement has %d bytes, at most %d are allowed", len(text), maxText)
	}
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	r := reader{resource: true, variables: true}
	return r.statement(v)
}

// characters counts what IAM counts.
func characters(text []byte) int {
	n := 0
	for _, c := range text {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' && utf8.RuneStart(c) {
			n++
		}
	}
	return n
}

// reader reads one document.
type reader struct {
	resource  bool // a statement of a resource policy, and not an identity policy
	variables bool // ${…} stands for a value: since version 2012-10-17
	sids      []string
}

func (r *reader) document(v any) (*Policy, error) {
	doc, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("the policy is %s, expected an object", kindOf(v))
	}
	var statements any
	for _, m := range doc {
		switch m.name {
		case "Version":
			switch m.value {
			case "2012-10-17":
				r.variables = true
			case "2008-10-17":
			default:
				return nil, malformedf(`Version: expected "2012-10-17"`)
			}
		case "Id":
			if _, ok := m.value.(string); !ok {
				return nil, malformedf("Id: expected a string, got %s", kindOf(m.value))
			}
		case "Statement":
			statements = m.value
		default:
			return nil, fmt.Errorf("%.80q is no member of a policy; expected Version, Id and Statement", m.name)
		}
	}
	return r.statements(statements)
}

func (r *reader) statements(v any) (*Policy, error) {
	var items []any
	switch v := v.(type) {
	case nil:
		return nil, errors.New("the policy has no Statement")
	case []any:
		items = v
	default:
		items = []any{v}
	}
	if len(items) == 0 {
		return nil, errors.New("Statement: the list is empty")
	}
	p := new(Policy)
	for i, item := range items {
		s, err := r.statement(item)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
		if s.sid != "" && slices.Contains(r.sids, s.sid) {
			return nil, fmt.Errorf("statement %d: Statement IDs (SID) in a single policy must be unique, %q comes twice", i+1, s.sid)
		}
		r.sids = append(r.sids, s.sid)
		p.statements = append(p.statements, s)
	}
	return p, nil
}

func (r *reader) statement(v any) (*Statement, error) {
	doc, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("it is %s, expected an object", kindOf(v))
	}
	s := new(Statement)
	effect := ""
	for _, m := range doc {
		if err := r.member(s, m, &effect); err != nil {
			return nil, fmt.Errorf("%.80s: %w", m.name, err)
		}
	}
	switch {
	case effect == "":
		return nil, malformedf("Missing required field Effect")
	case s.actions.list == nil:
		return nil, malformedf("Policy statement must contain actions.")
	case s.resources.list == nil:
		return nil, malformedf("Policy statement must contain resources.")
	case r.resource && s.principals == nil:
		return nil, malformedf("Missing required field Principal")
	}
	s.deny = effect == "Deny"
	return s, nil
}

func (r *reader) member(s *Statement, m member, effect *string) (err error) {
	switch m.name {
	case "Sid":
		s.sid, err = r.sid(m.value)
	case "Effect":
		text, _ := m.value.(string)
		if text != "Allow" && text != "Deny" {
			return errors.New(`expected "Allow" or "Deny"`)
		}
		*effect = text
	case "Principal":
		if !r.resource {
			return malformedf("Policy document should not specify a principal.")
		}
		s.principals, err = readPrincipals(m.value)
	case "Action", "NotAction":
		err = r.patterns(&s.actions, m, checkAction)
	case "Resource", "NotResource":
		err = r.patterns(&s.resources, m, checkResource)
	case "Condition":
		s.conditions, err = r.conditions(m.value)
	case "NotPrincipal":
		return errors.New("is not supported; say whom the statement is about in Principal")
	default:
		return errors.New("is no member of a statement; expected Sid, Effect, Action or NotAction, Resource or NotResource, and Condition")
	}
	return err
}

// maxSid bounds a statement's id, as AddPermission does, in characters.
const maxSid = 100

func (r *reader) sid(v any) (string, error) {
	text, ok := v.(string)
	letters := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if r.resource {
		letters += "-_"
	}
	if !ok || len(text) > maxSid || strings.Trim(text, letters) != "" {
		return "", fmt.Errorf("Statement IDs (SID) must be alpha-numeric, of at most %d characters", maxSid)
	}
	return text, nil
}

func (r *reader) patterns(to *patterns, m member, check func(string) error) error {
	if to.list != nil {
		return errors.New("a statement has either it or its opposite, once")
	}
	texts, err := textsOf(m.value)
	if err != nil {
		return err
	}
	to.not = strings.HasPrefix(m.name, "Not")
	for _, text := range texts {
		if err := check(text); err != nil {
			return err
		}
		to.list = append(to.list, wildcards(text, r.variables))
	}
	return nil
}

func checkAction(text string) error {
	if text == "*" {
		return nil
	}
	vendor, name, ok := strings.Cut(text, ":")
	if !ok || vendor == "" || name == "" || strings.Contains(name, ":") || strings.ContainsAny(text, " ${}") {
		return fmt.Errorf(`%.80q: Actions must be prefaced by a vendor, e.g., "lambda:InvokeFunction", or be "*"`, text)
	}
	return nil
}

func checkResource(text string) error {
	parts := strings.SplitN(text, ":", arnParts)
	if text == "*" || len(parts) == arnParts && parts[0] == "arn" {
		return nil
	}
	return malformedf(`Resource %.256s must be in ARN format or "*".`, text)
}

func (r *reader) conditions(v any) ([]condition, error) {
	doc, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("expected an object, got %s", kindOf(v))
	}
	var all []condition
	for _, o := range doc {
		keys, ok := o.value.(object)
		if !ok {
			return nil, fmt.Errorf("%.80s: expected an object of keys and values, got %s", o.name, kindOf(o.value))
		}
		for _, k := range keys {
			c, err := r.condition(o.name, k)
			if err != nil {
				return nil, fmt.Errorf("%.80s: %.80s: %w", o.name, k.name, err)
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func (r *reader) condition(name string, key member) (condition, error) {
	c := condition{key: strings.ToLower(key.name)}
	if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		name, c.quantity = rest, anyValue
	} else if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		name, c.quantity = rest, allValues
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	if c.operator, _ = operators(name); c.operator == nil || c.operator.null && (c.ifExists || c.quantity != single) {
		return c, errors.New("there is no such condition operator")
	}
	if !slices.Contains(known, c.key) {
		return c, errors.New("this server does not know this condition key, so the statement would not do what it says")
	}
	texts, err := textsOf(key.value)
	if err != nil {
		return c, err
	}
	if c.operator.null && len(texts) != 1 {
		return c, malformedf("Null takes one value, true or false")
	}
	for _, text := range texts {
		o, err := c.operator.read(text, r.variables)
		if err != nil {
			return c, err
		}
		c.values = append(c.values, o)
	}
	return c, nil
}
