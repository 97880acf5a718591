package apimodel

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"berth/lambda"
)

// javaNames are the target types as conversion errors name them, article included.
var javaNames = map[kind]string{
	kindString: "a String", kindInteger: "an Integer", kindLong: "a Long", kindDouble: "a Double", kindBoolean: "a Boolean",
	kindBlob: "a Blob", kindTimestamp: "a Timestamp", kindList: "a List", kindMap: "a Map", kindStructure: "a Structure",
}

// reader walks a JSON text that json.Valid has accepted, so that it need not check syntax again.
type reader struct {
	text []byte
	at   int
}

// json decodes a JSON object or value into rv. Unknown members are ignored, null is absent.
func (d *decoder) json(b *binding, rv reflect.Value, text []byte, path *step) error {
	if !json.Valid(text) { // also bounds the nesting
		return lambda.Errorf(lambda.SerializationFailure,
			"The request body is not a JSON object. Send the parameters of the operation as one object in UTF-8.")
	}
	return d.value(&reader{text: text}, b, rv, path)
}

// peek skips white space and returns the next byte.
func (r *reader) peek() byte {
	for {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return c
		}
	}
}

// next reports whether a collection has another element, and steps over the comma before it or the end after it.
func (r *reader) next(end byte) bool {
	c := r.peek()
	if c == ',' {
		r.at++
		c = r.peek()
	}
	if c == end {
		r.at++
		return false
	}
	return true
}

// raw returns the next scalar's text and steps over it; strings keep their quotes.
func (r *reader) raw() []byte {
	start := r.at
	if r.text[r.at] == '"' {
		for r.at++; r.text[r.at] != '"'; r.at++ {
			if r.text[r.at] == '\\' {
				r.at++
			}
		}
		r.at++
		return r.text[start:r.at]
	}
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			return r.text[start:r.at]
		}
		r.at++
	}
	return r.text[start:r.at]
}

// skip steps over one value.
func (r *reader) skip() {
	depth := 0
	for {
		switch r.peek() {
		case '{', '[':
			depth++
			r.at++
		case '}', ']':
			depth--
			r.at++
		case ',', ':':
			r.at++
		default:
			r.raw()
		}
		if depth == 0 {
			return
		}
	}
}

// str decodes the next string. The common case, without escapes, costs one copy.
func (r *reader) str() string {
	raw := r.raw()
	inner := raw[1 : len(raw)-1]
	for _, c := range inner {
		if c == '\\' || c >= utf8.RuneSelf {
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return "" // unreachable: the text is valid
			}
			return s
		}
	}
	return string(inner)
}

// value decodes the next value; rv is a field, possibly a pointer.
func (d *decoder) value(r *reader, b *binding, rv reflect.Value, path *step) error {
	c := r.peek()
	if c == 'n' {
		r.raw()
		return nil
	}
	switch b.shape.kind {
	case kindStructure:
		if c != '{' {
			return mismatch(c, b.shape.kind)
		}
		return d.structure(r, b, settable(rv), path)
	case kindList:
		if c != '[' {
			return mismatch(c, b.shape.kind)
		}
		return d.list(r, b, rv, path)
	case kindMap:
		if c != '{' {
			return mismatch(c, b.shape.kind)
		}
		return d.mapping(r, b, rv, path)
	}
	return d.scalar(r, c, b, rv, path)
}

func (d *decoder) structure(r *reader, b *binding, rv reflect.Value, path *step) error {
	for r.at++; r.next('}'); {
		name := r.str()
		r.peek()
		r.at++ // the colon
		r.peek()
		i, known := b.shape.byWire[name]
		if !known || b.shape.members[i].location != inBody || b.fields[i].binding == nil {
			r.skip()
			continue
		}
		f := b.fields[i]
		if err := d.value(r, f.binding, rv.Field(f.index), &step{path, b.shape.members[i].path}); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) list(r *reader, b *binding, rv reflect.Value, path *step) error {
	list, nulls := reflect.MakeSlice(b.typ, 0, 0), false
	for r.at++; r.next(']'); {
		if r.peek() == 'n' {
			nulls = true
			r.raw()
			continue
		}
		elem := reflect.New(b.typ.Elem()).Elem()
		name := strconv.Itoa(list.Len()+1) + ".member"
		if err := d.value(r, b.elem, elem, &step{path, name}); err != nil {
			return err
		}
		list = reflect.Append(list, elem)
	}
	if nulls {
		d.broken.add(path, printed(list), b.shape.sensitive, mustAll+"["+mustNotBeNull+"]")
	}
	rv.Set(list)
	return nil
}

func (d *decoder) mapping(r *reader, b *binding, rv reflect.Value, path *step) error {
	m := reflect.MakeMap(b.typ)
	for r.at++; r.next('}'); {
		key := r.str()
		r.peek()
		r.at++ // the colon
		if r.peek() == 'n' {
			r.raw() // a null value is an absent one
			continue
		}
		elem := reflect.New(b.typ.Elem()).Elem()
		if err := d.value(r, b.elem, elem, &step{path, key}); err != nil {
			return err
		}
		m.SetMapIndex(reflect.ValueOf(key).Convert(b.typ.Key()), elem)
	}
	rv.Set(m)
	return nil
}

func (d *decoder) scalar(r *reader, c byte, b *binding, rv reflect.Value, path *step) error {
	k := b.shape.kind
	switch {
	case c == '{' || c == '[':
		return mismatch(c, k)
	case c == '"' && k == kindString:
		d.setString(b, settable(rv), r.str(), path)
		return nil
	case c == '"' && k == kindBlob:
		return setBlob(r, rv, path)
	case c == '"' && k == kindTimestamp:
		if t, ok := parseTime(r.str()); ok {
			settable(rv).Set(reflect.ValueOf(t))
			return nil
		}
	case (c == 't' || c == 'f') && k == kindBoolean:
		settable(rv).SetBool(c == 't')
		r.raw()
		return nil
	case c == '-' || c >= '0' && c <= '9':
		if setNumber(string(r.raw()), k, settable(rv)) {
			return nil
		}
	}
	return mismatch(c, k)
}

func setBlob(r *reader, rv reflect.Value, path *step) error {
	raw := r.raw()
	text := raw[1 : len(raw)-1]
	blob := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(blob, text)
	if err != nil { // escaped slashes ("\/") are rare but valid JSON
		var s string
		if json.Unmarshal(raw, &s) == nil {
			n, err = base64.StdEncoding.Decode(blob, []byte(s))
		}
	}
	if err != nil || rv.Kind() != reflect.Slice {
		return lambda.Errorf(lambda.SerializationFailure, "The value at '%s' is not base64.", path)
	}
	rv.SetBytes(blob[:n:n])
	return nil
}

// setNumber stores a JSON number; fractions are cut for integers, as the service does.
func setNumber(text string, k kind, target reflect.Value) bool {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	switch k {
	case kindDouble:
		target.SetFloat(f)
	case kindTimestamp:
		t, ok := parseTime(text)
		if !ok {
			return false
		}
		target.Set(reflect.ValueOf(t))
	case kindInteger, kindLong:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			if !(f > -1<<62 && f < 1<<62) {
				return false
			}
			n = int64(f)
		}
		if target.OverflowInt(n) {
			return false
		}
		target.SetInt(n)
	default:
		return false
	}
	return true
}

// mismatch is the service framework's error for a JSON value of another type than the model's.
func mismatch(c byte, k kind) error {
	var got string
	switch c {
	case '{':
		got = "Start of structure or map found where not expected."
	case '[':
		got = "Start of list found where not expected"
	case '"':
		got = "STRING_VALUE"
	case 't':
		got = "TRUE_VALUE"
	case 'f':
		got = "FALSE_VALUE"
	default:
		got = "NUMBER_VALUE"
	}
	if c == '{' || c == '[' {
		return lambda.Errorf(lambda.SerializationFailure, "%s", got)
	}
	if k >= kindList {
		return lambda.Errorf(lambda.SerializationFailure, "Unexpected field type: %s can not be converted to %s", got, javaNames[k])
	}
	return lambda.Errorf(lambda.SerializationFailure, "%s can not be converted to %s", got, javaNames[k])
}

// unix renders a time as REST-JSON does: seconds since 1970, with milliseconds if there are any.
func unix(out []byte, t time.Time) []byte {
	ms := t.UnixMilli()
	if ms%1000 == 0 {
		return strconv.AppendInt(out, ms/1000, 10)
	}
	return strconv.AppendFloat(out, float64(ms)/1000, 'f', 3, 64)
}
