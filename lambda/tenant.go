package lambda

import "strings"

// Unbound is the Tenant of environments that are initialised for a function with tenant isolation and have never had an
// invocation. The first call's tenant takes its place, for ever. No tenant can be called so.
const Unbound = "*"

// MaxTenant is how long a tenant id may be, in characters (API model, TenantId).
const MaxTenant = 256

const tenantLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/=+-@ "

// IsTenant reports whether a tenant id has 1 to MaxTenant of the letters that the API's model allows.
func IsTenant(id string) bool {
	return id != "" && len(id) <= MaxTenant && strings.Trim(id, tenantLetters) == ""
}

// CheckTenant refuses a call without a tenant of a version that isolates them, and one with a tenant of a version that does
// not: to run either could mix what must stay apart. Error: InvalidParameterValue.
func (v *Version) CheckTenant(id string) error {
	switch {
	case v.PerTenant && id == "":
		return Errorf(InvalidParameterValue, "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
	case v.PerTenant && !IsTenant(id):
		return Errorf(InvalidParameterValue, "The tenant ID must have 1 to %d of the characters a-z A-Z 0-9 . _ : / = + - @ and space.", MaxTenant)
	case !v.PerTenant && id != "":
		return Errorf(InvalidParameterValue, "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.")
	}
	return nil
}

// Bind is what an environment's tenant becomes when a call of the given one takes it; false when it must not, as it is bound
// to another, or as only one of the two knows of tenants.
func Bind(environment, call string) (string, bool) {
	if environment != Unbound {
		return environment, environment == call
	}
	if call == "" || call == Unbound {
		return environment, false
	}
	return call, true
}
