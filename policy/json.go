package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// object is a JSON object, its members in the order in which they stand. Names are compared exactly, and none comes twice:
// encoding/json alone would take "effect" for Effect, and the last of two.
type object []member

type member struct {
	name  string
	value any // object, []any, string, bool, json.Number; never nil
}

// malformed says what is wrong with a document, in IAM's words where it has some.
type malformed string

func (m malformed) Error() string { return string(m) }

func malformedf(format string, args ...any) error { return malformed(fmt.Sprintf(format, args...)) }

// decode reads one JSON document into objects, lists, strings, numbers and booleans.
func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := value(d, maxDepth)
	if err != nil {
		return nil, malformedf("Syntax errors in policy: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, malformedf("Syntax errors in policy: there is more after the end of the document")
	}
	return v, nil
}

func value(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if depth == 0 {
			return nil, errors.New("it is nested too deeply")
		}
		if t == '{' {
			return members(d, depth-1)
		}
		return items(d, depth-1)
	case string:
		if strings.ContainsFunc(t, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, errors.New("a text has a control character")
		}
		return t, nil
	case nil:
		return nil, errors.New("null has no meaning here")
	}
	return t, nil // bool, json.Number
}

func members(d *json.Decoder, depth int) (object, error) {
	o := object{}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		if seen[name] {
			return nil, fmt.Errorf("%.80q comes twice in one object", name)
		}
		seen[name] = true
		v, err := value(d, depth)
		if err != nil {
			return nil, err
		}
		o = append(o, member{name, v})
	}
	_, err := d.Token() // the end of the object
	return o, err
}

func items(d *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for d.More() {
		v, err := value(d, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token() // the end of the list
	return list, err
}

// textsOf reads a value or a list of values; numbers and booleans count as their texts.
func textsOf(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if len(list) == 0 {
		return nil, errors.New("the list is empty")
	}
	texts := make([]string, 0, len(list))
	for _, one := range list {
		switch one := one.(type) {
		case string:
			texts = append(texts, one)
		case bool:
			texts = append(texts, fmt.Sprint(one))
		case json.Number:
			texts = append(texts, one.String())
		default:
			return nil, fmt.Errorf("expected a string or a list of strings, got %s", kindOf(one))
		}
	}
	return texts, nil
}

func kindOf(v any) string {
	switch v.(type) {
	case object:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	}
	return "a number"
}
