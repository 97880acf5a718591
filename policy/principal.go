package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// iamARN matches the principals of IAM and STS: users, roles, sessions. The account is the first group, the rest the second.
var iamARN = regexp.MustCompile(`^arn:aws[a-zA-Z-]*:(?:iam|sts)::(\d{12}):([a-zA-Z0-9+=,.@_/-]+)$`)

// readPrincipals reads "*", or an object of AWS and Service. A role or session is taken and is nobody here. Federated and
// canonical users are refused: nothing here could prove to be one.
func readPrincipals(v any) (*principals, error) {
	p := new(principals)
	if v == "*" {
		p.all = true
		return p, nil
	}
	doc, ok := v.(object)
	if !ok || len(doc) == 0 {
		return nil, errors.New(`expected "*", {"AWS":…} or {"Service":…}`)
	}
	for _, m := range doc {
		texts, err := textsOf(m.value)
		if err != nil {
			return nil, err
		}
		for _, text := range texts {
			if err := p.add(m.name, text); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func (p *principals) add(kind, text string) error {
	switch kind {
	case "Service":
		if !strings.Contains(text, ".") || strings.ContainsAny(text, "*?:/ ") {
			return malformedf("Service: %.80q is no service like events.amazonaws.com", text)
		}
		p.services = append(p.services, text)
		return nil
	case "AWS":
	default:
		return fmt.Errorf("%.80q is not supported; expected AWS or Service", kind)
	}
	if text == "*" {
		p.all = true
		return nil
	}
	if len(text) == 12 && strings.Trim(text, "0123456789") == "" {
		p.accounts = append(p.accounts, text)
		return nil
	}
	parts := iamARN.FindStringSubmatch(text)
	switch {
	case parts == nil:
		return fmt.Errorf("AWS: %.256q is no account, and no ARN of an account's root, user or role", text)
	case parts[2] == "root":
		p.accounts = append(p.accounts, parts[1])
	default:
		p.arns = append(p.arns, text)
	}
	return nil
}
