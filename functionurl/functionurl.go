// Package functionurl translates between HTTP and functions, as Lambda's function URLs do: a request becomes an event (payload format
// version 2.0), and what the function answers becomes a response. It knows nothing of who calls and may, and runs nothing.
//
// The formats: developer guide, "Invoking Lambda function URLs" and "Response streaming"; what that leaves open is as
// recorded on the real service (TestLambdaURL) or reported by its users.
package functionurl

import (
	"net/http"
	"strings"
)

const (
	// Infix stands between a URL's id and the region in its host name.
	Infix = ".lambda-url."
	// PathPrefix begins the path form, for clients that cannot look up such a host name: /lambda-url/ID/rest.
	PathPrefix = "/lambda-url/"
	idLength   = 32
)

// Route finds out whether a request is for a function URL: by its Host (ID.lambda-url.anything), or by its path. path is what the
// function is to see of the path, as it came over the wire.
func Route(r *http.Request) (id, path string, ok bool) {
	if len(r.Host) > idLength+len(Infix) && strings.EqualFold(r.Host[idLength:idLength+len(Infix)], Infix) {
		id, path = strings.ToLower(r.Host[:idLength]), rawPath(r)
		return id, path, isID(id)
	}
	if !strings.HasPrefix(r.URL.Path, PathPrefix) { // cheap, as most requests are for the API
		return "", "", false
	}
	rest, found := strings.CutPrefix(rawPath(r), PathPrefix)
	if !found || len(rest) < idLength || len(rest) > idLength && rest[idLength] != '/' {
		return "", "", false
	}
	id, path = rest[:idLength], rest[idLength:]
	if path == "" {
		path = "/"
	}
	return id, path, isID(id)
}

// rawPath returns the path as it came over the wire.
func rawPath(r *http.Request) string {
	if path := r.URL.EscapedPath(); path != "" {
		return path
	}
	return "/"
}

func isID(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return len(s) == idLength
}
