package apimodel

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"berth/lambda"
)

// maxLabels is the largest number of labels in a route (RemoveLayerVersionPermission).
const maxLabels = 3

// maxEchoedPath bounds how much of an unknown path an error repeats.
const maxEchoedPath = 256

// Path holds the decoded labels of a matched request path ({FunctionName}, …).
type Path struct {
	names  []string // the operation's label names, shared
	values [maxLabels]string
}

// Get returns the decoded value of a label by its name in the route, "" if the route has no such label.
func (p *Path) Get(label string) string {
	for i, n := range p.names {
		if n == label {
			return p.values[i]
		}
	}
	return ""
}

// node is one path segment of the route table.
type node struct {
	static map[string]*node
	label  *node
	ops    []routed // with a query discriminator first
}

// routed is an operation at its node; key and value are its query discriminator, if any.
type routed struct {
	op         *Operation
	key, value string
}

func (n *node) add(op *Operation) error {
	path, query, _ := strings.Cut(op.URI, "?")
	if len(op.labels) > maxLabels {
		return fmt.Errorf("%s has more than %d labels", op.Name, maxLabels)
	}
	for _, segment := range strings.Split(strings.Trim(path, "/"), "/") {
		if strings.HasPrefix(segment, "{") {
			if n.label == nil {
				n.label = &node{}
			}
			n = n.label
			continue
		}
		if n.static[segment] == nil {
			if n.static == nil {
				n.static = map[string]*node{}
			}
			n.static[segment] = &node{}
		}
		n = n.static[segment]
	}
	r := routed{op: op}
	r.key, r.value, _ = strings.Cut(query, "=")
	if r.key != "" {
		n.ops = append([]routed{r}, n.ops...)
	} else {
		n.ops = append(n.ops, r)
	}
	return nil
}

// Match finds the operation that a request calls and the labels of its path. Labels may be percent-encoded, one trailing
// slash is accepted. Without a match the error is a *lambda.Error UnknownOperation.
//
// The request's path must not have been cleaned: an http.ServeMux in front would break encoded ARNs.
func (m *Model) Match(r *http.Request) (*Operation, Path, error) {
	var p Path
	n, rest, labels := m.routes, r.URL.EscapedPath(), 0
	rest = strings.TrimPrefix(rest, "/")
	for more := rest != ""; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if more && rest == "" {
			more = false // a trailing slash
		}
		switch next := n.static[segment]; {
		case next != nil:
			n = next
		case n.label != nil && labels < maxLabels:
			value, err := url.PathUnescape(segment)
			if err != nil {
				return nil, Path{}, unknown(r)
			}
			p.values[labels] = value
			labels++
			n = n.label
		default:
			return nil, Path{}, unknown(r)
		}
	}
	for _, c := range n.ops {
		if c.op.Method == r.Method && (c.key == "" || r.URL.Query().Get(c.key) == c.value) {
			p.names = c.op.labels
			return c.op, p, nil
		}
	}
	return nil, Path{}, unknown(r)
}

func unknown(r *http.Request) error {
	path := r.URL.EscapedPath()
	if len(path) > maxEchoedPath {
		path = path[:maxEchoedPath] + "…"
	}
	return lambda.Errorf(lambda.UnknownOperation,
		"The Lambda API (2015-03-31) has no operation %s %s. Check the endpoint, the method and the path.", r.Method, path)
}
