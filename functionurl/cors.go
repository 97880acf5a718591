package functionurl

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// CORS is a URL's cross-origin configuration. The zero value of a member is "not given".
type CORS struct {
	AllowCredentials *bool
	AllowHeaders     []string
	AllowMethods     []string
	AllowOrigins     []string
	ExposeHeaders    []string
	MaxAge           *int // seconds
}

// IsPreflight reports whether a request only asks what another may do (Fetch standard, "CORS-preflight request").
func IsPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// Preflight sets the headers of the answer to a preflight request.
func (c *CORS) Preflight(out http.Header, r *http.Request) {
	if !c.origin(out, r) {
		return
	}
	set := func(name string, values []string) {
		if len(values) > 0 {
			out.Set(name, strings.Join(values, ","))
		}
	}
	set("Access-Control-Allow-Methods", c.AllowMethods)
	set("Access-Control-Allow-Headers", c.AllowHeaders)
	if c.MaxAge != nil {
		out.Set("Access-Control-Max-Age", strconv.Itoa(*c.MaxAge))
	}
}

// Apply sets the headers of a response. What a function says of this itself is dropped: the configuration holds (developer guide).
func (c *CORS) Apply(out http.Header, r *http.Request) {
	for name := range out {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(out, name)
		}
	}
	if c.origin(out, r) && len(c.ExposeHeaders) > 0 {
		out.Set("Access-Control-Expose-Headers", strings.Join(c.ExposeHeaders, ","))
	}
}

// origin sets what depends on the request's origin, and reports whether that is allowed.
func (c *CORS) origin(out http.Header, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	credentials := c.AllowCredentials != nil && *c.AllowCredentials
	any := slices.Contains(c.AllowOrigins, "*")
	if any && !credentials {
		out.Set("Access-Control-Allow-Origin", "*")
		return origin != ""
	}
	out.Add("Vary", "Origin")
	if origin == "" || !any && !slices.ContainsFunc(c.AllowOrigins, func(o string) bool { return strings.EqualFold(o, origin) }) {
		return false
	}
	out.Set("Access-Control-Allow-Origin", origin)
	if credentials {
		out.Set("Access-Control-Allow-Credentials", "true")
	}
	return true
}
