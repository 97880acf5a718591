package lambda

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

// ParseRef reads what a caller wrote.
func ParseRef(s, qualifier string, account AccountID, region string) (Ref, error) {
	return Ref{Account: account, Region: region, Function: s, Qualifier: qualifier}, nil
}
