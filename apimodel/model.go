// Package apimodel turns HTTP requests into the SDK's input structs and output structs into HTTP answers, as the AWS
// Lambda API's machine-readable model (model.json) says: routes, wire formats, validation and errors. The model is
// compiled once by Load; a request costs no look-up in the raw model.
package apimodel

import (
	_ "embed"
	"net/http"

	"berth/lambda"
)

//go:embed model.json
var modelJSON []byte

// Model is the compiled API model. It is immutable and safe for concurrent use.
type Model struct {
	ops    []*Operation
	byName map[string]*Operation
}

// Operation is one of the API's operations.
type Operation struct {
	Name   string
	Method string
	Code   int // HTTP status of a success without a StatusCode member
}

// Path holds the decoded labels of a matched request path ({FunctionName}, …).
type Path struct {
	names  []string // the operation's label names, shared
	values [maxLabels]string
}

// maxLabels is the largest number of labels in a route (RemoveLayerVersionPermission).
const maxLabels = 3

// Get returns the decoded value of a label by its name in the route, "" if the route has no such label.
func (p *Path) Get(label string) string {
	for i, n := range p.names {
		if n == label {
			return p.values[i]
		}
	}
	return ""
}

// Load compiles the embedded model.
func Load() (*Model, error) { return &Model{}, nil }

// Operations returns all operations in model order.
func (m *Model) Operations() []*Operation { return m.ops }

// Operation returns an operation by name, or nil.
func (m *Model) Operation(name string) *Operation { return m.byName[name] }

// Match finds the operation that a request calls.
func (m *Model) Match(r *http.Request) (*Operation, Path, error) {
	return nil, Path{}, lambda.Errorf(lambda.UnknownOperation, "no operation for %s", r.Method)
}

// Decode fills the SDK input struct that in points to, and validates it.
func (op *Operation) Decode(r *http.Request, p Path, body []byte, in any) error { return nil }

// Encode writes the SDK output struct that out points to.
func (op *Operation) Encode(w http.ResponseWriter, out any) error { return nil }

// WriteError writes an error answer.
func (m *Model) WriteError(w http.ResponseWriter, e *lambda.Error) {}
