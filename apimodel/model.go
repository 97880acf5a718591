// Package apimodel turns HTTP requests into the SDK's input structs and output structs into HTTP answers, as the AWS
// Lambda API's machine-readable model (model.json) says: routes, wire formats, validation and errors. The model is
// compiled once by Load; a request costs no look-up in the raw model.
package apimodel

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed model.json
var modelJSON []byte

// Model is the compiled API model. It is immutable and safe for concurrent use.
type Model struct {
	ops        []*Operation
	byName     map[string]*Operation
	routes     *node
	exceptions map[string]exception
	bindings   sync.Map // bindingKey → *binding
}

// Operation is one of the API's operations.
type Operation struct {
	Name   string
	Method string
	URI    string // as the model writes it: /2015-03-31/functions/{FunctionName}
	Code   int    // HTTP status of a success without a StatusCode member

	model  *Model
	labels []string
	input  *shape // nil without one
	output *shape // nil without one
}

// The raw model, as far as it is used.
type (
	rawModel struct {
		Operations map[string]rawOperation `json:"operations"`
		Shapes     map[string]*rawShape    `json:"shapes"`
	}
	rawOperation struct {
		HTTP struct {
			Method       string `json:"method"`
			RequestURI   string `json:"requestUri"`
			ResponseCode int    `json:"responseCode"`
		} `json:"http"`
		Input  *rawRef `json:"input"`
		Output *rawRef `json:"output"`
	}
	rawRef struct {
		Shape        string `json:"shape"`
		Location     string `json:"location"`
		LocationName string `json:"locationName"`
	}
	rawShape struct {
		Type      string            `json:"type"`
		Members   map[string]rawRef `json:"members"`
		Required  []string          `json:"required"`
		Member    *rawRef           `json:"member"`
		Key       *rawRef           `json:"key"`
		Value     *rawRef           `json:"value"`
		Min       *float64          `json:"min"`
		Max       *float64          `json:"max"`
		Pattern   string            `json:"pattern"`
		Enum      []string          `json:"enum"`
		Payload   string            `json:"payload"`
		Sensitive bool              `json:"sensitive"`
		Exception bool              `json:"exception"`
		Fault     bool              `json:"fault"`
		Error     struct {
			HTTPStatusCode int `json:"httpStatusCode"`
		} `json:"error"`
	}
)

// Load compiles the embedded model; it takes some milliseconds, so a process does it once.
func Load() (*Model, error) {
	var raw rawModel
	if err := json.Unmarshal(modelJSON, &raw); err != nil {
		return nil, fmt.Errorf("API model: %w", err)
	}
	m := &Model{byName: map[string]*Operation{}, routes: &node{}, exceptions: map[string]exception{}}
	c := &compiler{raw: raw.Shapes, done: map[string]*shape{}}
	names := make([]string, 0, len(raw.Operations))
	for name := range raw.Operations {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		op := newOperation(m, c, name, raw.Operations[name])
		if err := m.routes.add(op); err != nil {
			c.errs = append(c.errs, err)
		}
		m.ops = append(m.ops, op)
		m.byName[name] = op
	}
	for name, s := range raw.Shapes {
		if s.Exception {
			m.exceptions[name] = newException(s)
		}
	}
	if err := errors.Join(c.errs...); err != nil {
		return nil, fmt.Errorf("API model: %w", err)
	}
	return m, nil
}

func newOperation(m *Model, c *compiler, name string, raw rawOperation) *Operation {
	op := &Operation{Name: name, Method: raw.HTTP.Method, URI: raw.HTTP.RequestURI, Code: raw.HTTP.ResponseCode, model: m}
	if op.Code == 0 {
		op.Code = 200
	}
	if raw.Input != nil {
		op.input = c.shape(raw.Input.Shape)
	}
	if raw.Output != nil {
		op.output = c.shape(raw.Output.Shape)
	}
	path, _, _ := strings.Cut(op.URI, "?")
	for _, segment := range strings.Split(path, "/") {
		if strings.HasPrefix(segment, "{") {
			op.labels = append(op.labels, strings.Trim(segment, "{}"))
		}
	}
	return op
}

// Operations returns all operations, sorted by name as in the model. The slice is the caller's to read only.
func (m *Model) Operations() []*Operation { return m.ops }

// Operation returns an operation by name, or nil.
func (m *Model) Operation(name string) *Operation { return m.byName[name] }
