package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"berth/lambda"
)

// codec encodes documents. Those of the types below, which are on the path of an invocation, it writes compactly: the exported
// fields in order, without names. That is only understood by who has the same fields in the same order, so both sides of a connection
// compare their layout's digest first; processes of different releases speak JSON, which forgives.
//
// Strings, slices and maps are their length (uvarint; of slices and maps plus one, 0 is nil) and elements; integers are varints;
// a time is its Unix seconds and nanoseconds; a pointer is 0, or 1 and what it points to. Fields marked json:"-" stay behind.
type codec struct {
	layouts map[reflect.Type]*layout
	digest  string
}

// layout is how one type is written.
type layout struct {
	kind   reflect.Kind
	time   bool
	bytes  bool
	fields []field
	elem   *layout
	min    int // bytes that a value takes at least
}

type field struct {
	index  int
	layout *layout
}

func newCodec() (*codec, error) {
	c := &codec{layouts: map[reflect.Type]*layout{}}
	sum := sha256.New()
	for _, t := range []reflect.Type{
		reflect.TypeFor[lambda.AcquireRequest](), reflect.TypeFor[lambda.Answer](), reflect.TypeFor[[]Notice](),
		reflect.TypeFor[lambda.HandOverRequest](), reflect.TypeFor[lambda.HandOverAnswer](), reflect.TypeFor[lambda.OfferRequest](),
		reflect.TypeFor[lambda.RenewRequest](), reflect.TypeFor[lambda.RenewAnswer](), reflect.TypeFor[lambda.AdoptAnswer](),
		reflect.TypeFor[invokeMeta](), reflect.TypeFor[outcomeMeta](), reflect.TypeFor[nothing](),
	} {
		var description strings.Builder
		l, err := layoutOf(t, &description, 0)
		if err != nil {
			return nil, err
		}
		c.layouts[t] = l
		fmt.Fprintln(sum, description.String())
	}
	c.digest = hex.EncodeToString(sum.Sum(nil))[:32]
	return c, nil
}

// maxDepth bounds the nesting of types, against types that contain themselves.
const maxDepth = 8

func layoutOf(t reflect.Type, description *strings.Builder, depth int) (*layout, error) {
	l := &layout{kind: t.Kind(), min: 1}
	fmt.Fprintf(description, "%s ", t.Kind())
	inner := func(t reflect.Type) (err error) {
		l.elem, err = layoutOf(t, description, depth+1)
		return err
	}
	switch {
	case depth > maxDepth:
		return nil, fmt.Errorf("%v is nested too deeply for the wire", t)
	case t == reflect.TypeFor[time.Time]():
		l.time, l.min = true, 2
		description.WriteString("time ")
		return l, nil
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint32, reflect.Uint64:
		return l, nil
	case reflect.Pointer:
		return l, inner(t.Elem())
	case reflect.Slice:
		l.bytes = t.Elem().Kind() == reflect.Uint8
		if err := inner(t.Elem()); err != nil || l.elem.min > 0 {
			return l, err
		}
	case reflect.Map:
		if t == reflect.TypeFor[map[string]string]() {
			return l, nil
		}
	case reflect.Struct:
		l.min = 0
		for i := range t.NumField() {
			f := t.Field(i)
			if !f.IsExported() || f.Tag.Get("json") == "-" {
				continue
			}
			fmt.Fprintf(description, "%s:", f.Name)
			inner, err := layoutOf(f.Type, description, depth+1)
			if err != nil {
				return nil, fmt.Errorf("%v.%s: %w", t, f.Name, err)
			}
			l.fields = append(l.fields, field{i, inner})
			l.min += inner.min
		}
		description.WriteString("end ")
		return l, nil
	}
	return nil, fmt.Errorf("%v has no compact form on the wire", t)
}

// append encodes what v points to; compact says how.
func (c *codec) append(buf []byte, v any, compactly bool) (out []byte, compact bool, err error) {
	if compactly {
		value := reflect.ValueOf(v).Elem()
		if l := c.layouts[value.Type()]; l != nil {
			return l.append(buf, value), true, nil
		}
	}
	document, err := json.Marshal(v)
	return append(buf, document...), false, err
}

// decode is the reverse, into what v points to. Nothing of doc is kept.
func (c *codec) decode(doc []byte, v any, compact bool) error {
	if !compact {
		return json.Unmarshal(doc, v)
	}
	value := reflect.ValueOf(v).Elem()
	l := c.layouts[value.Type()]
	if l == nil {
		return fmt.Errorf("a compact document where JSON was expected")
	}
	d := decoder{rest: doc}
	d.value(l, value)
	if len(d.rest) > 0 && d.err == nil {
		d.err = fmt.Errorf("%d bytes too many", len(d.rest))
	}
	return d.err
}

func (l *layout) append(buf []byte, v reflect.Value) []byte {
	switch l.kind {
	case reflect.Bool:
		if v.Bool() {
			return append(buf, 1)
		}
		return append(buf, 0)
	case reflect.String:
		return appendString(buf, v.String())
	case reflect.Int, reflect.Int32, reflect.Int64:
		return binary.AppendVarint(buf, v.Int())
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(buf, v.Uint())
	case reflect.Pointer:
		if v.IsNil() {
			return append(buf, 0)
		}
		return l.elem.append(append(buf, 1), v.Elem())
	case reflect.Slice:
		return l.appendSlice(buf, v)
	case reflect.Map:
		return appendMap(buf, *v.Addr().Interface().(*map[string]string))
	}
	if l.time {
		at := v.Addr().Interface().(*time.Time)
		return binary.AppendUvarint(binary.AppendVarint(buf, at.Unix()), uint64(at.Nanosecond()))
	}
	for _, f := range l.fields {
		buf = f.layout.append(buf, v.Field(f.index))
	}
	return buf
}

func (l *layout) appendSlice(buf []byte, v reflect.Value) []byte {
	if v.IsNil() {
		return append(buf, 0)
	}
	buf = binary.AppendUvarint(buf, uint64(v.Len())+1)
	if l.bytes {
		return append(buf, v.Bytes()...)
	}
	for i := range v.Len() {
		buf = l.elem.append(buf, v.Index(i))
	}
	return buf
}

func appendString(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

func appendMap(buf []byte, m map[string]string) []byte {
	if m == nil {
		return append(buf, 0)
	}
	buf = binary.AppendUvarint(buf, uint64(len(m))+1)
	for k, v := range m {
		buf = appendString(appendString(buf, k), v)
	}
	return buf
}

var errTruncated = errors.New("the document ends too early or claims too much")

// decoder takes a document apart. After the first error it yields zeros.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail() {
	d.rest = nil
	if d.err == nil {
		d.err = errTruncated
	}
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// flag reads a byte that must be 0 or 1.
func (d *decoder) flag() bool {
	n := d.uvarint()
	if n > 1 {
		d.fail()
	}
	return n == 1
}

// take returns the next n bytes, which stay the document's.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail()
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) string() string { return string(d.take(d.uvarint())) }

// count reads a length plus one; present is false for nil. What n elements of at least min bytes need must be there.
func (d *decoder) count(min int) (n int, present bool) {
	claimed := d.uvarint()
	if claimed == 0 {
		return 0, false
	}
	if claimed-1 > uint64(len(d.rest)/max(min, 1)) {
		d.fail()
		return 0, false
	}
	return int(claimed - 1), true
}

func (d *decoder) value(l *layout, v reflect.Value) {
	switch l.kind {
	case reflect.Bool:
		v.SetBool(d.flag())
	case reflect.String:
		v.SetString(d.string())
	case reflect.Int, reflect.Int32, reflect.Int64:
		n := d.varint()
		if v.OverflowInt(n) {
			d.fail()
		}
		v.SetInt(n)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		n := d.uvarint()
		if v.OverflowUint(n) {
			d.fail()
			return
		}
		v.SetUint(n)
	case reflect.Pointer:
		if d.flag() {
			v.Set(reflect.New(v.Type().Elem()))
			d.value(l.elem, v.Elem())
		}
	case reflect.Slice:
		d.slice(l, v)
	case reflect.Map:
		*v.Addr().Interface().(*map[string]string) = d.strings()
	case reflect.Struct:
		if l.time {
			seconds, nanos := d.varint(), d.uvarint()
			if nanos >= uint64(time.Second) {
				d.fail()
			}
			*v.Addr().Interface().(*time.Time) = time.Unix(seconds, int64(nanos)).UTC()
			return
		}
		for _, f := range l.fields {
			d.value(f.layout, v.Field(f.index))
		}
	}
}

func (d *decoder) slice(l *layout, v reflect.Value) {
	n, present := d.count(l.elem.min)
	if !present {
		return
	}
	if l.bytes {
		v.SetBytes(append([]byte{}, d.take(uint64(n))...))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		d.value(l.elem, v.Index(i))
	}
}

func (d *decoder) strings() map[string]string {
	n, present := d.count(2)
	if !present {
		return nil
	}
	m := make(map[string]string, n)
	for range n {
		k := d.string()
		m[k] = d.string()
	}
	return m
}
