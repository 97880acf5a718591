package apiserver

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// untenanted are operations that functions with tenant isolation exclude (developer guide, "Tenant isolation", limitations),
// and what they would give the function. Environments made ahead for nobody in particular are Berth's own business.
var untenanted = map[string]string{
	"PutProvisionedConcurrencyConfig": "Provisioned concurrency",
	"CreateFunctionUrlConfig":         "A function URL",
}

// excludeTenants makes an operation refuse functions with tenant isolation.
func (s *Server) excludeTenants(what string, h handler) handler {
	return func(c *call) error {
		ref, err := lambda.ParseRef(c.path.Get("FunctionName"), "", c.account, s.cfg.Catalog.Region())
		if err != nil {
			return h(c) // which says what is wrong
		}
		if err := s.refuseTenants(ref, what); err != nil {
			return err
		}
		return h(c)
	}
}

// refuseTenants refuses what a function with tenant isolation cannot have.
func (s *Server) refuseTenants(ref lambda.Ref, what string) error {
	if f, ok := s.cfg.Catalog.Function(idOf(ref)); ok && f.Latest.PerTenant {
		return notForTenants(what)
	}
	return nil
}

func notForTenants(what string) error {
	return invalid("%s is not supported for functions with tenant isolation mode PER_TENANT.", what)
}

// checkTenancy refuses a configuration that tenant isolation excludes.
func checkTenancy(perTenant bool, snapStart *types.SnapStart) error {
	if perTenant && snapStart != nil && snapStart.ApplyOn == types.SnapStartApplyOnPublishedVersions {
		return notForTenants("SnapStart")
	}
	return nil
}

// readTenant reads the tenant id of an invocation; "" without one. An id that breaks the model's constraints is refused in
// the model's words.
func readTenant(h http.Header) (string, error) {
	values := h[tenantHeader]
	if len(values) == 0 {
		return "", nil
	}
	id := values[0]
	if lambda.IsTenant(id) && len(values) == 1 {
		return id, nil
	}
	var broken []string
	say := func(constraint string) {
		broken = append(broken, fmt.Sprintf("Value '%.1024s' at 'tenantId' failed to satisfy constraint: Member must %s", id, constraint))
	}
	switch {
	case id == "":
		say("have length greater than or equal to 1")
	case len(id) > lambda.MaxTenant:
		say(fmt.Sprintf("have length less than or equal to %d", lambda.MaxTenant))
	}
	if len(values) > 1 || !lambda.IsTenant(id[:min(len(id), lambda.MaxTenant)]) {
		say(`satisfy regular expression pattern: [a-zA-Z0-9\._:\/=+\-@ ]+`)
	}
	plural := ""
	if len(broken) > 1 {
		plural = "s"
	}
	return "", lambda.Errorf(lambda.Validation, "%d validation error%s detected: %s", len(broken), plural, strings.Join(broken, "; "))
}

// describeTenancy is nil for a function without tenant isolation.
func describeTenancy(v *catalog.Version) *types.TenancyConfig {
	if !v.PerTenant {
		return nil
	}
	return &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationModePerTenant}
}

// TenantStatus is how one tenant of a function is.
type TenantStatus struct {
	Tenant       string `json:"tenant"`
	Environments int    `json:"environments"`
	Busy         int    `json:"busy"`      // of these, not idle
	Calls        uint64 `json:"calls"`     // that got an environment, since the managers began to remember the tenant
	Throttles    uint64 `json:"throttles"` // refused with 429, since the frontends started
}

// TenantList is the tenants of a function, those with the most calls and throttles first.
type TenantList struct {
	Tenants []TenantStatus `json:"tenants"` // at most MaxTenants
	// Others are the sums of all further tenants: what is watched has a bounded number of names.
	Others TenantStatus `json:"others"`
	// Unbound environments have had no invocation yet, and become the next new tenant's.
	Unbound int  `json:"unbound"`
	Partial bool `json:"partial,omitempty"` // some server did not answer
}

// MaxTenants bounds a TenantList.
const MaxTenants = 1000

// tenantsPath shows a function's tenants. They belong to the caller's account.
const tenantsPath = ownPrefix + "v1/tenants/"

func (s *Server) serveTenants(c *call) error {
	if c.r.Method != http.MethodGet {
		return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist; use GET.", c.r.Method, c.r.URL.Path)
	}
	done, err := s.admit(c, 0)
	if err != nil {
		return err
	}
	defer done()
	name := c.r.URL.Path[len(tenantsPath):]
	ref, err := s.ref(c, &name, nil)
	if err != nil {
		return err
	}
	ref.Qualifier = ""
	if err := s.permitOwn(c, "berth:ListTenants", ref.ARN()); err != nil {
		return err
	}
	f, err := s.function(c, &name)
	if err != nil {
		return err
	}
	if !f.Latest.PerTenant {
		return invalid("Function %s has no tenants: it was created without TenancyConfig.", f.Latest.Function)
	}
	if s.cfg.Tenants == nil {
		return lambda.Errorf(lambda.NotImplemented, "This server does not show tenants.")
	}
	list, err := s.cfg.Tenants(c.r.Context(), c.account, f.Latest.Function)
	if err != nil {
		return err
	}
	return answerJSON(c, list)
}

// jwksPath is where verifiers of tenant tokens find the public keys, as RFC 8414 and OpenID Connect servers have it. It asks
// for no signature: the keys are public.
const jwksPath = "/.well-known/jwks.json"

// jwksMaxAge is for how long a verifier may keep what it read; one that meets an unknown key id asks anew.
const jwksMaxAge = "public, max-age=300"

func (s *Server) serveJWKS(c *call) error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist; use GET.", c.r.Method, c.r.URL.Path)
	}
	document := []byte(`{"keys":[]}`)
	if s.cfg.JWKS != nil {
		var err error
		if document, err = s.cfg.JWKS(); err != nil {
			return err
		}
	}
	c.w.Header().Set("Content-Type", "application/jwk-set+json")
	c.w.Header().Set("Cache-Control", jwksMaxAge)
	_, _ = c.w.Write(document) // an error means that the client is gone
	return nil
}
