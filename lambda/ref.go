package lambda

import "strings"

// Ref is what a caller wrote to name a function: a name, a partial or a full ARN, with or without a qualifier, made whole
// with the caller's own account and region. Resolving it against the catalog gives a Version.
type Ref struct {
	Account   AccountID
	Region    string
	Function  string
	Qualifier string // "", Latest, a version number or an alias name
}

// ARN returns the function's ARN with the qualifier, if there is one.
func (r Ref) ARN() string {
	arn := FunctionARN(r.Region, r.Account, r.Function)
	if r.Qualifier != "" {
		arn += ":" + r.Qualifier
	}
	return arn
}

// Limits of what names a function, in characters (API model: NamespacedFunctionName,
// NumericLatestPublishedOrAliasQualifier).
const (
	maxRef       = 256
	maxQualifier = 128
	maxRefParts  = 8 // arn:aws:lambda:REGION:ACCOUNT:function:NAME:QUALIFIER
)

// The patterns that ParseRef implements by hand, as the service's messages show them (recorded 25-11-2025).
const (
	refPattern = `(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?` +
		`(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?`
	qualifierPattern = `\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`
	latestPublished  = "$LATEST.PUBLISHED"
)

// ParseRef reads what a caller wrote to name a function: s is a name or an ARN, whole or in part, with or without a
// qualifier; qualifier is the one given beside it, "" for none. What s leaves out is taken from account and region, the
// caller's own; either may be "" to accept any. A plain name costs no allocation.
//
// The errors are those of the service: Validation for a text that is no reference, InvalidParameterValue for two
// qualifiers that differ, ResourceNotFound for another region, AccessDenied for another account: where a policy could allow
// that, ReadRef is for whoever asks the policy.
func ParseRef(s, qualifier string, account AccountID, region string) (Ref, error) {
	ref, err := ReadRef(s, qualifier, account, region)
	if err == nil && account != "" && ref.Account != account {
		return Ref{}, Errorf(AccessDenied,
			"Account %s is not authorized to use the resource %s because no resource-based policy allows it", account, ref.ARN())
	}
	return ref, err
}

// ReadRef is ParseRef for functions of any account. The caller must ask a policy before it acts on another's.
func ReadRef(s, qualifier string, account AccountID, region string) (Ref, error) {
	ref := Ref{Account: account, Region: region}
	ok := len(s) <= maxRef && ref.parse(s)
	if !ok || qualifier != "" && (len(qualifier) > maxQualifier || !isLooseQualifier(qualifier)) {
		return Ref{}, invalidRef(s, qualifier, ok)
	}
	switch {
	case ref.Qualifier == "":
		ref.Qualifier = qualifier
	case qualifier != "" && qualifier != ref.Qualifier:
		return Ref{}, Errorf(InvalidParameterValue,
			"The derived qualifier from the function name does not match the specified qualifier.")
	}
	if region != "" && ref.Region != region {
		return Ref{}, Errorf(ResourceNotFound,
			"Functions from '%s' are not reachable in this region ('%s')", ref.Region, region)
	}
	return ref, nil
}

// parse fills the reference from its text, and reports whether it is one.
func (r *Ref) parse(s string) bool {
	if strings.IndexByte(s, ':') < 0 { // the common case
		r.Function = s
		return isName(s)
	}
	var array [maxRefParts]string
	n := 0
	for rest, more := s, true; more; n++ {
		if n == maxRefParts {
			return false
		}
		array[n], rest, more = strings.Cut(rest, ":")
	}
	parts := array[:n]
	if n >= 4 && parts[0] == "arn" && parts[2] == "lambda" && isPartition(parts[1]) {
		return r.parseTail(parts[3:])
	}
	return r.parseTail(parts)
}

// parseTail reads [REGION:][ACCOUNT:][function:]NAME[:QUALIFIER]. Like the pattern it takes as many of the optional parts
// as leave a name, the leftmost first: "123456789012:5" is function 5 of an account, not version 5 of a function.
func (r *Ref) parseTail(parts []string) bool {
	for try := range 8 {
		rest, region, account := parts, "", ""
		if try&4 == 0 {
			if len(rest) < 2 || !isRegion(rest[0]) {
				continue
			}
			region, rest = rest[0], rest[1:]
		}
		if try&2 == 0 {
			if len(rest) < 2 || !isAccount(rest[0]) {
				continue
			}
			account, rest = rest[0], rest[1:]
		}
		if try&1 == 0 {
			if len(rest) < 2 || rest[0] != "function" {
				continue
			}
			rest = rest[1:]
		}
		if len(rest) > 2 || !isName(rest[0]) || len(rest) == 2 && !isQualifier(rest[1]) {
			continue
		}
		r.Function = rest[0]
		if len(rest) == 2 {
			r.Qualifier = rest[1]
		}
		if region != "" {
			r.Region = region
		}
		if account != "" {
			r.Account = AccountID(account)
		}
		return true
	}
	return false
}

// invalidRef says what is wrong, in the service's words.
func invalidRef(s, qualifier string, nameOK bool) error {
	const mustBeNoLonger, mustMatch = "Member must have length less than or equal to ", "Member must satisfy regular expression pattern: "
	var broken []string
	note := func(value, member, constraint string) {
		if len(value) > 2*maxRef {
			value = strings.ToValidUTF8(value[:2*maxRef], "") + "…"
		}
		broken = append(broken, "Value '"+value+"' at '"+member+"' failed to satisfy constraint: "+constraint)
	}
	switch {
	case len(s) > maxRef:
		note(s, "functionName", mustBeNoLonger+"256")
	case s == "":
		note(s, "functionName", "Member must have length greater than or equal to 1")
	case !nameOK:
		note(s, "functionName", mustMatch+refPattern)
	}
	if len(qualifier) > maxQualifier {
		note(qualifier, "qualifier", mustBeNoLonger+"128")
	} else if qualifier != "" && !isLooseQualifier(qualifier) {
		note(qualifier, "qualifier", mustMatch+qualifierPattern)
	}
	count := "1 validation error"
	if len(broken) == 2 {
		count = "2 validation errors"
	}
	return Errorf(Validation, "%s detected: %s", count, strings.Join(broken, "; "))
}

// isWordByte reports whether c is one of [a-zA-Z0-9-_].
func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c == '-' || c == '_'
}

// isName reports whether s is [a-zA-Z0-9-_\.]+.
func isName(s string) bool {
	for i := range len(s) {
		if !isWordByte(s[i]) && s[i] != '.' {
			return false
		}
	}
	return s != ""
}

// isQualifier reports whether s can be the qualifier at the end of an ARN.
func isQualifier(s string) bool {
	if s == Latest || s == latestPublished {
		return true
	}
	for i := range len(s) {
		if !isWordByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// isLooseQualifier reports whether s can be the qualifier beside a name, which may hold a $ anywhere.
func isLooseQualifier(s string) bool {
	if s == latestPublished {
		return true
	}
	for i := range len(s) {
		if !isWordByte(s[i]) && s[i] != '$' {
			return false
		}
	}
	return s != ""
}

// isPartition reports whether s is (aws[a-zA-Z-]*)?.
func isPartition(s string) bool {
	if s == "" {
		return true
	}
	rest, ok := strings.CutPrefix(s, "aws")
	for i := range len(rest) {
		c := rest[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-')
	}
	return ok
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// isRegion reports whether s is (eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}.
func isRegion(s string) bool {
	s = strings.TrimPrefix(s, "eusc-")
	if len(s) < 2 || !isLower(s[:2]) {
		return false
	}
	s = s[2:]
	if isPlace(s) {
		return true
	}
	if rest, ok := strings.CutPrefix(s, "-gov"); ok {
		return isPlace(rest)
	}
	if rest, ok := strings.CutPrefix(s, "-iso"); ok {
		return isPlace(rest) || rest != "" && isLower(rest[:1]) && isPlace(rest[1:])
	}
	return false
}

// isPlace reports whether s is -[a-z]+-\d.
func isPlace(s string) bool {
	n := len(s)
	return n >= 4 && s[0] == '-' && s[n-2] == '-' && s[n-1] >= '0' && s[n-1] <= '9' && isLower(s[1:n-2])
}

// isLower reports whether s is [a-z]*.
func isLower(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return true
}
