package apimodel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is a shape's wire type.
type kind uint8

const (
	kindString kind = iota
	kindInteger
	kindLong
	kindDouble
	kindBoolean
	kindBlob
	kindTimestamp
	kindList
	kindMap
	kindStructure
)

var kinds = map[string]kind{
	"string": kindString, "integer": kindInteger, "long": kindLong, "double": kindDouble, "boolean": kindBoolean,
	"blob": kindBlob, "timestamp": kindTimestamp, "list": kindList, "map": kindMap, "structure": kindStructure,
}

// location says where a member travels.
type location uint8

const (
	inBody location = iota
	inURI
	inQuery
	inHeader
	inStatus
	inPayload
)

var locations = map[string]location{
	"": inBody, "uri": inURI, "querystring": inQuery, "header": inHeader, "statusCode": inStatus,
}

// shape is one compiled shape of the model.
type shape struct {
	name      string
	kind      kind
	sensitive bool // its value is not echoed

	limits          // of a string, number, blob, or of a collection's size
	elem     *shape // of a list's or map's values
	key      *shape // of a map's keys
	members  []*member
	byWire   map[string]int // body members by name, index in members
	hasBody  bool           // some member travels in the JSON body
	payload  int            // index of the payload member, -1 without one
	validate bool           // something in or below it has limits
}

// member is one member of a structure.
type member struct {
	name     string // as in the model, and as the Go field
	wire     string // name at its location
	path     string // as messages spell it: lower camel case
	location location
	required bool
	late     bool // checked by lateChecks instead of its shape's limits
	shape    *shape
}

// compiler makes shapes of raw ones; each is made once.
type compiler struct {
	raw  map[string]*rawShape
	done map[string]*shape
	errs []error
}

func (c *compiler) shape(name string) *shape {
	if s := c.done[name]; s != nil {
		return s
	}
	s := &shape{name: name, payload: -1}
	c.done[name] = s
	raw := c.raw[name]
	if raw == nil {
		c.errs = append(c.errs, fmt.Errorf("shape %s is missing", name))
		return s
	}
	k, known := kinds[raw.Type]
	if !known {
		c.errs = append(c.errs, fmt.Errorf("shape %s has the unknown type %q", name, raw.Type))
	}
	s.kind, s.sensitive = k, raw.Sensitive
	if err := s.limits.compile(name, raw, k); err != nil {
		c.errs = append(c.errs, err)
	}
	s.validate = s.limits.any()
	if raw.Member != nil {
		s.elem = c.shape(raw.Member.Shape)
	}
	if raw.Key != nil && raw.Value != nil {
		s.key, s.elem = c.shape(raw.Key.Shape), c.shape(raw.Value.Shape)
	}
	// A shape that contains itself is still being compiled here and counts as validated, which is safe.
	s.validate = s.validate || s.key != nil && s.key.validate || s.elem != nil && (s.elem.validate || s.elem.kind == kindStructure)
	c.members(s, raw)
	return s
}

func (c *compiler) members(s *shape, raw *rawShape) {
	for name, ref := range raw.Members {
		loc, known := locations[ref.Location]
		if !known {
			c.errs = append(c.errs, fmt.Errorf("%s.%s has the unknown location %q", s.name, name, ref.Location))
		}
		if name == raw.Payload {
			loc = inPayload
		}
		s.members = append(s.members, &member{
			name: name, wire: cmp.Or(ref.LocationName, name), path: lowerCamel(name), location: loc,
			required: slices.Contains(raw.Required, name), shape: c.shape(ref.Shape),
		})
	}
	for _, m := range s.members {
		m.late = m.location == inBody && m.shape.name == "Runtime"
	}
	slices.SortFunc(s.members, func(a, b *member) int {
		return cmp.Or(cmp.Compare(rank(a.name), rank(b.name)), strings.Compare(a.name, b.name))
	})
	s.byWire = make(map[string]int, len(s.members))
	for i, m := range s.members {
		switch m.location {
		case inBody:
			s.byWire[m.wire], s.hasBody = i, true
			// InvokeAsync's payload is declared by its streaming blob only.
			if m.shape.name == "BlobStream" {
				m.location, s.payload = inPayload, i
			}
		case inPayload:
			s.payload = i
		}
		s.validate = s.validate || m.required || m.shape.validate || m.shape.kind == kindStructure
	}
}

// rank orders a structure's members in messages that name several: by name, but architectures last (recorded by
// test_layer_exceptions: compatibleRuntimes stands before compatibleArchitectures).
func rank(name string) int {
	if strings.HasSuffix(name, "Architectures") {
		return 1
	}
	return 0
}

// lowerCamel spells a member as messages do: FunctionName → functionName, KMSKeyArn → kMSKeyArn, S3Bucket → s3Bucket.
func lowerCamel(name string) string {
	r, n := utf8.DecodeRuneInString(name)
	return string(unicode.ToLower(r)) + name[n:]
}
