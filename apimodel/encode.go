package apimodel

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// Encode writes the SDK output struct that out points to (a *lambda.CreateFunctionOutput for CreateFunction; another
// struct whose field names are the members', such as *types.FunctionConfiguration, will do). The status is op.Code or the
// output's StatusCode member. Nil pointers, slices and maps and empty enums are left out; empty but non-nil slices and
// maps are kept. Timestamps are seconds since 1970; strings that hold times (a function's LastModified) are strings. A
// payload blob is written raw. An answer with status 204 has no body. out may be nil for an operation whose output has no
// members.
//
// An error is a programming mistake (nothing is written then) or a broken connection.
func (op *Operation) Encode(w http.ResponseWriter, out any) error {
	if op.output == nil || out == nil && len(op.output.members) == 0 && op.Code == http.StatusNoContent {
		w.WriteHeader(op.Code)
		return nil
	}
	b, rv, err := op.model.bind(op.output, out)
	if err != nil {
		return fmt.Errorf("encode %s: %w", op.Name, err)
	}
	code, header := op.Code, w.Header()
	for i, m := range b.shape.members {
		f := b.fields[i]
		if f.binding == nil || unset(rv.Field(f.index)) {
			continue
		}
		value := reflect.Indirect(rv.Field(f.index))
		switch m.location {
		case inStatus:
			if n := int(value.Int()); n >= 200 && n <= 599 {
				code = n
			}
		case inHeader:
			header.Set(m.wire, value.String())
		}
	}
	var body []byte
	switch {
	case code == http.StatusNoContent:
	case b.shape.payload >= 0:
		body = payload(b, rv)
	case b.shape.hasBody || len(b.shape.members) == 0:
		body = appendStructure(make([]byte, 0, 1024), b, rv)
	}
	if body != nil {
		if header.Get("Content-Type") == "" {
			header.Set("Content-Type", "application/json")
		}
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(code)
	if body == nil {
		return nil
	}
	_, err = w.Write(body)
	return err
}

func payload(b *binding, rv reflect.Value) []byte {
	f := b.fields[b.shape.payload]
	if f.binding == nil || f.binding.shape.kind != kindBlob || rv.Field(f.index).Kind() != reflect.Slice {
		return nil
	}
	return rv.Field(f.index).Bytes()
}

func appendStructure(out []byte, b *binding, rv reflect.Value) []byte {
	out = append(out, '{')
	first := true
	for i, m := range b.shape.members {
		f := b.fields[i]
		if m.location != inBody || f.binding == nil || unset(rv.Field(f.index)) {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(appendString(out, m.wire), ':')
		out = appendValue(out, f.binding, rv.Field(f.index))
	}
	return append(out, '}')
}

func appendValue(out []byte, b *binding, rv reflect.Value) []byte {
	rv = reflect.Indirect(rv)
	if !rv.IsValid() {
		return append(out, "null"...)
	}
	switch b.shape.kind {
	case kindStructure:
		return appendStructure(out, b, rv)
	case kindList:
		out = append(out, '[')
		for i := range rv.Len() {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendValue(out, b.elem, rv.Index(i))
		}
		return append(out, ']')
	case kindMap:
		out = append(out, '{')
		for i, key := range sortedKeys(rv) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendString(out, key.String()), ':')
			out = appendValue(out, b.elem, rv.MapIndex(key))
		}
		return append(out, '}')
	}
	return appendScalar(out, b.shape.kind, rv)
}

func appendScalar(out []byte, k kind, rv reflect.Value) []byte {
	switch k {
	case kindInteger, kindLong:
		return strconv.AppendInt(out, rv.Int(), 10)
	case kindDouble:
		return append(out, number(rv.Float(), true)...)
	case kindBoolean:
		return strconv.AppendBool(out, rv.Bool())
	case kindTimestamp:
		return unix(out, rv.Interface().(time.Time))
	case kindBlob:
		out = append(out, '"')
		if rv.Kind() == reflect.Slice {
			out = base64.StdEncoding.AppendEncode(out, rv.Bytes())
		}
		return append(out, '"')
	}
	return appendString(out, rv.String())
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string. Unlike encoding/json it leaves <, > and & alone, as the service does.
func appendString(out []byte, s string) []byte {
	out = append(out, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, `\n`...)
		case r == '\t':
			out = append(out, `\t`...)
		case r == '\r':
			out = append(out, `\r`...)
		case r < 0x20:
			out = append(out, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		default: // invalid UTF-8 becomes U+FFFD
			out = utf8.AppendRune(out, r)
		}
	}
	return append(out, '"')
}
