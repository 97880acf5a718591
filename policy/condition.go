package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The condition keys that Berth fills, in lower case, as a Context has them. Which a request has depends on it.
const (
	SourceIP           = "aws:sourceip"
	PrincipalARN       = "aws:principalarn"
	PrincipalAccount   = "aws:principalaccount"
	PrincipalType      = "aws:principaltype" // Account, User, Anonymous
	UserID             = "aws:userid"
	UserName           = "aws:username"
	ResourceAccount    = "aws:resourceaccount"
	RequestedRegion    = "aws:requestedregion"
	SecureTransport    = "aws:securetransport"
	CurrentTime        = "aws:currenttime"
	EpochTime          = "aws:epochtime"
	FunctionURLType    = "lambda:functionurlauthtype"
	ViaFunctionURL     = "lambda:invokedviafunctionurl"
	FunctionARN        = "lambda:functionarn"
	LayerARN           = "lambda:layer"
	PermittedPrincipal = "lambda:principal"
)

// absent are keys that policies may name although no request here has them: services and organizations set them.
var absent = []string{"aws:sourceaccount", "aws:sourcearn", "aws:principalorgid", "lambda:eventsourcetoken"}

var known = append([]string{SourceIP, PrincipalARN, PrincipalAccount, PrincipalType, UserID, UserName, ResourceAccount, RequestedRegion,
	SecureTransport, CurrentTime, EpochTime, FunctionURLType, ViaFunctionURL, FunctionARN, LayerARN, PermittedPrincipal}, absent...)

// quantifier says how a key's several values count.
type quantifier int

const (
	single quantifier = iota
	anyValue
	allValues
)

// condition is one key under one operator.
type condition struct {
	key      string // lower case
	operator *operator
	quantity quantifier
	ifExists bool
	values   []operand
}

// operand is one value of a condition, read as its operator reads it.
type operand struct {
	pattern pattern // operators on texts
	number  float64 // on numbers, and on times (seconds since 1970)
	prefix  netip.Prefix
	yes     bool // Bool, Null
}

// operator compares one value of the request with one of the policy.
type operator struct {
	negated bool // StringNotEquals and its like: all values must differ
	null    bool
	read    func(text string, variables bool) (operand, error)
	match   func(o *operand, value string, ctx Context) bool
}

// operators are those of the IAM reference ("condition operators") but the binary ones, which no key here has.
func operators(name string) (*operator, bool) {
	switch name {
	case "StringEquals":
		return &operator{read: readLiteral, match: equals}, true
	case "StringNotEquals":
		return &operator{read: readLiteral, match: equals, negated: true}, true
	case "StringEqualsIgnoreCase":
		return &operator{read: readLiteral, match: equalFold}, true
	case "StringNotEqualsIgnoreCase":
		return &operator{read: readLiteral, match: equalFold, negated: true}, true
	case "StringLike":
		return &operator{read: readPattern, match: like}, true
	case "StringNotLike":
		return &operator{read: readPattern, match: like, negated: true}, true
	case "ArnEquals", "ArnLike": // they behave alike
		return &operator{read: readPattern, match: arnLike}, true
	case "ArnNotEquals", "ArnNotLike":
		return &operator{read: readPattern, match: arnLike, negated: true}, true
	case "Bool":
		return &operator{read: readBool, match: isBool}, true
	case "Null":
		return &operator{read: readBool, null: true}, true
	case "IpAddress":
		return &operator{read: readPrefix, match: within}, true
	case "NotIpAddress":
		return &operator{read: readPrefix, match: within, negated: true}, true
	}
	if rest, ok := strings.CutPrefix(name, "Numeric"); ok {
		return ordered(rest, readNumber, parseNumber)
	}
	if rest, ok := strings.CutPrefix(name, "Date"); ok {
		return ordered(rest, readTime, parseTime)
	}
	return nil, false
}

// ordered makes the operators on what can be smaller and larger.
func ordered(name string, read func(string, bool) (operand, error), parse func(string) (float64, error)) (*operator, bool) {
	compare := map[string]func(have, want float64) bool{
		"Equals":            func(have, want float64) bool { return have == want },
		"NotEquals":         func(have, want float64) bool { return have == want },
		"LessThan":          func(have, want float64) bool { return have < want },
		"LessThanEquals":    func(have, want float64) bool { return have <= want },
		"GreaterThan":       func(have, want float64) bool { return have > want },
		"GreaterThanEquals": func(have, want float64) bool { return have >= want },
	}[name]
	if compare == nil {
		return nil, false
	}
	match := func(o *operand, value string, _ Context) bool {
		n, err := parse(value)
		return err == nil && compare(n, o.number)
	}
	return &operator{read: read, match: match, negated: name == "NotEquals"}, true
}

func readLiteral(text string, variables bool) (operand, error) {
	variables = variables && strings.Contains(text, "${")
	return operand{pattern: pattern{text, variables}}, nil
}

func readPattern(text string, variables bool) (operand, error) {
	return operand{pattern: wildcards(text, variables)}, nil
}

func readBool(text string, _ bool) (operand, error) {
	yes := strings.EqualFold(text, "true")
	if !yes && !strings.EqualFold(text, "false") {
		return operand{}, fmt.Errorf("%.80q is neither true nor false", text)
	}
	return operand{yes: yes}, nil
}

func readNumber(text string, _ bool) (operand, error) {
	n, err := parseNumber(text)
	if err != nil {
		return operand{}, fmt.Errorf("%.80q is no number", text)
	}
	return operand{number: n}, nil
}

func parseNumber(text string) (float64, error) { return strconv.ParseFloat(text, 64) }

func readTime(text string, _ bool) (operand, error) {
	n, err := parseTime(text)
	if err != nil {
		return operand{}, fmt.Errorf("%.80q is no time like 2027-01-31T12:00:00Z, and no count of seconds since 1970", text)
	}
	return operand{number: n}, nil
}

// parseTime reads the forms of ISO 8601 that IAM takes (https://www.w3.org/TR/NOTE-datetime), and seconds since 1970.
func parseTime(text string) (float64, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return float64(t.UnixNano()) / float64(time.Second), nil
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return float64(n), err
}

// readPrefix reads an address, or a network in CIDR notation.
func readPrefix(text string, _ bool) (operand, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return operand{prefix: p.Masked()}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return operand{}, fmt.Errorf("%.80q is no IP address or network like 203.0.113.0/24", text)
	}
	return operand{prefix: netip.PrefixFrom(a, a.BitLen())}, nil
}

func equals(o *operand, value string, ctx Context) bool {
	text, ok := o.pattern.expand(ctx)
	return ok && text == value
}

func equalFold(o *operand, value string, ctx Context) bool {
	text, ok := o.pattern.expand(ctx)
	return ok && strings.EqualFold(text, value)
}

func like(o *operand, value string, ctx Context) bool {
	text, ok := o.pattern.expand(ctx)
	return ok && glob(text, value)
}

func arnLike(o *operand, value string, ctx Context) bool {
	text, ok := o.pattern.expand(ctx)
	return ok && matchARN(text, value)
}

func isBool(o *operand, value string, _ Context) bool {
	got, err := readBool(value, false)
	return err == nil && got.yes == o.yes
}

func within(o *operand, value string, _ Context) bool {
	a, err := netip.ParseAddr(value)
	return err == nil && o.prefix.Contains(a.Unmap().WithZone(""))
}

// holds reports whether a request's context fulfils the condition.
func (c *condition) holds(ctx Context) bool {
	values := ctx[c.key]
	if c.operator.null {
		return (len(values) == 0) == c.values[0].yes
	}
	if len(values) == 0 {
		return c.ifExists || c.quantity == allValues || c.quantity == single && c.operator.negated
	}
	switch c.quantity {
	case anyValue:
		for _, v := range values {
			if c.fits(v, ctx) {
				return true
			}
		}
		return false
	case single:
		if !c.operator.negated {
			for _, v := range values {
				if c.fits(v, ctx) {
					return true
				}
			}
			return false
		}
	}
	for _, v := range values {
		if !c.fits(v, ctx) {
			return false
		}
	}
	return true
}

// fits compares one value of the request with those of the policy: it must match one, or none for a negated operator.
func (c *condition) fits(value string, ctx Context) bool {
	for i := range c.values {
		if c.operator.match(&c.values[i], value, ctx) {
			return !c.operator.negated
		}
	}
	return c.operator.negated
}
