package apimodel

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/lambda"
)

// Decode fills the SDK input struct that in points to (lambda.CreateFunctionInput for CreateFunction, …) from a request
// that Match gave to op, and validates it. body is the whole request body; payload blobs alias it. The caller bounds its
// size. Errors are *lambda.Error: Validation for a broken constraint, SerializationFailure for a body or parameter that
// is not of the model's type, InvalidParameterValue for the few checks that the service makes later. Any other error is a
// programming mistake: a struct that is not op's input.
func (op *Operation) Decode(r *http.Request, p Path, body []byte, in any) error {
	if op.input == nil {
		return nil
	}
	b, rv, err := op.model.bind(op.input, in)
	if err != nil {
		return fmt.Errorf("decode %s: %w", op.Name, err)
	}
	d := decoder{}
	if err := d.parameters(b, rv, r, &p); err != nil {
		return err
	}
	if err := d.body(b, rv, body); err != nil {
		return err
	}
	d.broken.check(b, rv, nil)
	if err := d.broken.err(lambda.Validation); err != nil {
		return err
	}
	return op.lateChecks(rv)
}

// decoder is the state of one Decode. broken may hold violations that the Go struct cannot show (an empty enum, a null in
// a list).
type decoder struct {
	broken violations
}

// parameters fills what travels in the path, the query and headers.
func (d *decoder) parameters(b *binding, rv reflect.Value, r *http.Request, p *Path) error {
	var query url.Values
	for i, m := range b.shape.members {
		f := b.fields[i]
		if f.binding == nil {
			continue
		}
		var values []string
		switch m.location {
		case inURI:
			values = []string{p.Get(m.wire)}
		case inQuery:
			if query == nil {
				query = r.URL.Query()
			}
			values = query[m.wire]
		case inHeader:
			values = r.Header.Values(m.wire)
		}
		if len(values) == 0 {
			continue
		}
		if err := d.parameter(f.binding, rv.Field(f.index), values, &step{nil, m.path}); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) parameter(b *binding, rv reflect.Value, values []string, path *step) error {
	if b.shape.kind == kindList { // ?tagKeys=a&tagKeys=b
		list := reflect.MakeSlice(b.typ, len(values), len(values))
		for i, v := range values {
			if err := d.parameter(b.elem, list.Index(i), []string{v}, path); err != nil {
				return err
			}
		}
		rv.Set(list)
		return nil
	}
	target, text := settable(rv), values[0]
	switch b.shape.kind {
	case kindString:
		d.setString(b, target, text, path)
		return nil
	case kindBoolean:
		if v, err := strconv.ParseBool(text); err == nil {
			target.SetBool(v)
			return nil
		}
	case kindInteger, kindLong:
		if v, err := strconv.ParseInt(text, 10, target.Type().Bits()); err == nil {
			target.SetInt(v)
			return nil
		}
	case kindTimestamp:
		if t, ok := parseTime(text); ok {
			target.Set(reflect.ValueOf(t))
			return nil
		}
	}
	return lambda.Errorf(lambda.SerializationFailure, "Value '%s' of parameter '%s' can not be converted to %s",
		bounded(text), path, javaNames[b.shape.kind])
}

func (d *decoder) setString(b *binding, target reflect.Value, text string, path *step) {
	target.SetString(text)
	if text == "" && b.shape.enum != nil {
		d.broken.add(path, "", false, b.shape.enumText()) // an enum's "" means absent in Go
	}
}

// settable returns the value to set behind a field, which may be a pointer.
func settable(rv reflect.Value) reflect.Value {
	if rv.Kind() != reflect.Pointer {
		return rv
	}
	if rv.IsNil() {
		rv.Set(reflect.New(rv.Type().Elem()))
	}
	return rv.Elem()
}

// parseTime reads a timestamp as text: ISO 8601, or seconds since 1970.
func parseTime(s string) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, true
	}
	sec, err := strconv.ParseFloat(s, 64)
	// Beyond ±10^11 seconds (the year 5138) int64 nanoseconds and RFC 3339 no longer hold the time.
	if err != nil || !(sec > -1e11 && sec < 1e11) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(sec * 1000)).UTC(), true
}

// body fills what travels in the body: a payload member, or members in a JSON object.
func (d *decoder) body(b *binding, rv reflect.Value, body []byte) error {
	if i := b.shape.payload; i >= 0 {
		f := b.fields[i]
		switch {
		case f.binding == nil || len(body) == 0:
			return nil
		case f.binding.shape.kind == kindStructure:
			return d.json(f.binding, rv.Field(f.index), body, &step{nil, b.shape.members[i].path})
		case rv.Field(f.index).Kind() == reflect.Interface:
			rv.Field(f.index).Set(reflect.ValueOf(io.Reader(bytes.NewReader(body))))
		default:
			rv.Field(f.index).SetBytes(body)
		}
		return nil
	}
	if !b.shape.hasBody || len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	return d.json(b, rv, body, nil)
}

// lateChecks are what the service checks after its framework, so that the error is InvalidParameterValue
// (test_create_lambda_exceptions, test_function_name_and_qualifier_validation).
func (op *Operation) lateChecks(rv reflect.Value) error {
	if op.Name != "CreateFunction" && op.Name != "UpdateFunctionConfiguration" {
		return nil
	}
	if f := rv.FieldByName("Runtime"); f.IsValid() && f.Kind() == reflect.String && f.Len() > 0 {
		known := overrides["Runtime"].enum
		if s := f.String(); !slices.Contains(known, s) && !slices.Contains(runtimes, s) {
			return lambda.Errorf(lambda.InvalidParameterValue, "Value %s at 'runtime' failed to satisfy constraint: %s[%s] or be a valid ARN",
				bounded(s), mustBeOneOf, strings.Join(runtimes, ", "))
		}
	}
	if op.Name != "CreateFunction" {
		return nil
	}
	name := reflect.Indirect(rv.FieldByName("FunctionName"))
	if !name.IsValid() || name.Kind() != reflect.String {
		return nil
	}
	ref, err := lambda.ParseRef(name.String(), "", "", "")
	if err == nil && len(ref.Function) > maxFunctionName {
		var v violations
		v.add(&step{nil, "functionName"}, ref.Function, false, mustBeNoLonger+strconv.Itoa(maxFunctionName))
		return v.err(lambda.InvalidParameterValue)
	}
	return nil
}
