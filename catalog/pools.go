package catalog

import "berth/lambda"

// Limit returns how many executions of a pool may run at once beside those in provisioned environments, which have a right
// of their own: a function's reserved concurrency, or what the account's functions have reserved none of, less what is
// provisioned of it. A reserved pool whose function has given its reservation back has none left.
func (c *Catalog) Limit(p lambda.PoolID) int {
	if p.Function == "" {
		return c.Account(p.Account).Unreserved()
	}
	f, ok := find[Function](c, ID{p.Account, p.Function}.head())
	if !ok || f.Reserved == nil {
		return 0
	}
	return *f.Reserved - f.Provisioned
}

// Current returns the version that a number (or $LATEST) names now; false when there is none.
func (c *Catalog) Current(account lambda.AccountID, function, number string) (*lambda.Version, bool) {
	id := ID{account, function}
	f, ok := find[Function](c, id.head())
	if !ok || f.Deleting {
		return nil, false
	}
	if number == lambda.Latest {
		return f.current(), true
	}
	v, ok := find[Version](c, id.version(number))
	if !ok {
		return nil, false
	}
	return &v.Version, true
}
