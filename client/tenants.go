package client

import (
	"context"
	"net/http"
	"net/url"
)

// TenantStatus is how one tenant of a function is.
type TenantStatus struct {
	Tenant       string `json:"tenant"`
	Environments int    `json:"environments"`
	Busy         int    `json:"busy"`
	Calls        uint64 `json:"calls"`
	Throttles    uint64 `json:"throttles"`
}

// TenantList is the tenants of a function, those with the most calls and throttles first.
type TenantList struct {
	Tenants []TenantStatus `json:"tenants"`
	Others  TenantStatus   `json:"others"` // the sums of all further tenants
	Unbound int            `json:"unbound"`
	Partial bool           `json:"partial,omitempty"`
}

// Tenants lists the tenants of a function with tenant isolation.
func (c *Client) Tenants(ctx context.Context, function string) (out TenantList, err error) {
	err = c.own(ctx, http.MethodGet, tenantsPath+url.PathEscape(function), nil, &out, maxOwnDocument)
	return out, err
}
