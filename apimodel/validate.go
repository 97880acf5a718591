package apimodel

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"berth/lambda"
)

// Bounds of what a validation error repeats of the request.
const (
	maxEchoedValue = 1024 // characters of one value
	maxViolations  = 20   // constraints named
)

// step is one name of the path to a value; the path is only spelled out when a constraint is broken.
type step struct {
	up   *step
	name string
}

func (s *step) String() string {
	if s.up == nil {
		return s.name
	}
	return s.up.String() + "." + s.name
}

// violations collects what a request breaks.
type violations struct {
	texts []string
	count int
}

// add notes a broken constraint. Java prints null without quotes, and sensitive values not at all.
func (v *violations) add(path *step, value string, sensitive bool, constraint string) {
	v.count++
	if len(v.texts) == maxViolations {
		return
	}
	shown := "Value '" + bounded(value) + "'"
	if sensitive {
		shown = "Value"
	}
	v.texts = append(v.texts, shown+" at '"+path.String()+"' failed to satisfy constraint: "+constraint)
}

func (v *violations) addNull(path *step) {
	v.count++
	if len(v.texts) < maxViolations {
		v.texts = append(v.texts, "Value null at '"+path.String()+"' failed to satisfy constraint: "+mustNotBeNull)
	}
}

// err returns the recorded error, or nil.
func (v *violations) err(code lambda.Code) error {
	if v.count == 0 {
		return nil
	}
	plural := "s"
	if v.count == 1 {
		plural = ""
	}
	return lambda.Errorf(code, "%d validation error%s detected: %s", v.count, plural, strings.Join(v.texts, "; "))
}

func bounded(s string) string {
	if len(s) <= maxEchoedValue {
		return s
	}
	cut := maxEchoedValue
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// check validates a structure, members in model order.
func (v *violations) check(b *binding, rv reflect.Value, up *step) {
	for i, m := range b.shape.members {
		f := b.fields[i]
		if f.binding == nil || !(m.required || m.shape.validate) {
			continue
		}
		value, path := rv.Field(f.index), &step{up, m.path}
		if unset(value) {
			if m.required {
				v.addNull(path)
			}
			continue
		}
		if !m.late {
			v.value(f.binding, value, path)
		}
	}
}

// unset reports whether a Go field stands for an absent member: nil, or an enum's "".
func unset(rv reflect.Value) bool {
	switch rv.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return rv.IsNil()
	case reflect.String:
		return rv.Len() == 0
	}
	return false
}

func (v *violations) value(b *binding, rv reflect.Value, path *step) {
	s := b.shape
	if !s.validate {
		return
	}
	rv = reflect.Indirect(rv)
	switch s.kind {
	case kindStructure:
		v.check(b, rv, path)
	case kindList:
		v.list(b, rv, path)
	case kindMap:
		v.mapping(b, rv, path)
	default:
		for _, c := range brokenScalar(s, rv) {
			v.add(path, printed(rv), s.sensitive, c)
		}
	}
}

func brokenScalar(s *shape, rv reflect.Value) []string {
	switch s.kind {
	case kindString:
		str := rv.String()
		return s.broken(str, javaLength(str))
	case kindInteger, kindLong:
		return s.brokenSize(nil, float64(rv.Int()), mustBeNoMore, mustBeNoLess, false)
	case kindDouble:
		return s.brokenSize(nil, rv.Float(), mustBeNoMore, mustBeNoLess, true)
	case kindBlob:
		if rv.Kind() == reflect.Slice {
			return s.brokenSize(nil, float64(rv.Len()), mustBeNoLonger, mustBeNoShorter, false)
		}
	}
	return nil
}

// javaLength counts as Java's String.length does: UTF-16 code units.
func javaLength(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

// list checks a list's size and its elements. Broken scalars are reported once, at the list.
func (v *violations) list(b *binding, rv reflect.Value, path *step) {
	s := b.shape
	for _, c := range s.brokenSize(nil, float64(rv.Len()), mustBeNoLonger, mustBeNoShorter, false) {
		v.add(path, printed(rv), s.sensitive, c)
	}
	broken := false
	for i := range rv.Len() {
		if scalar(s.elem.kind) {
			broken = broken || brokenScalar(s.elem, rv.Index(i)) != nil
		} else {
			v.value(b.elem, rv.Index(i), &step{path, strconv.Itoa(i+1) + ".member"})
		}
	}
	switch {
	case !broken:
	case s.name == "CompatibleRuntimes": // a check of the service's own, recorded by test_layer_exceptions
		v.add(path, printed(rv), false, mustBeOneOf+"["+strings.Join(runtimes, ", ")+"]")
	default:
		v.add(path, printed(rv), s.sensitive, mustAll+bracketed(s.elem.all(s.elem.kind)))
	}
}

// mapping checks a map's size, keys and values. Broken keys or scalars are reported once, at the map.
func (v *violations) mapping(b *binding, rv reflect.Value, path *step) {
	s := b.shape
	for _, c := range s.brokenSize(nil, float64(rv.Len()), mustBeNoLonger, mustBeNoShorter, false) {
		v.add(path, printed(rv), s.sensitive, c)
	}
	keys, values := false, false
	for _, key := range sortedKeys(rv) {
		keys = keys || brokenScalar(s.key, key) != nil
		if scalar(s.elem.kind) {
			values = values || brokenScalar(s.elem, rv.MapIndex(key)) != nil
		} else {
			v.value(b.elem, rv.MapIndex(key), &step{path, key.String()})
		}
	}
	if keys {
		v.add(path, printed(rv), s.sensitive, mustAllMapKeys+bracketed(s.key.all(s.key.kind)))
	}
	if values {
		v.add(path, printed(rv), s.sensitive, mustAllMapValues+bracketed(s.elem.all(s.elem.kind)))
	}
}

func bracketed(constraints []string) string { return "[" + strings.Join(constraints, ", ") + "]" }

func scalar(k kind) bool { return k < kindList }

func sortedKeys(rv reflect.Value) []reflect.Value {
	keys := rv.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// printed shows a value as Java's toString does: [a, b], {k=v}, Name(member=value).
func printed(rv reflect.Value) string {
	var b strings.Builder
	printTo(&b, rv)
	return b.String()
}

func printTo(b *strings.Builder, rv reflect.Value) {
	if b.Len() > maxEchoedValue {
		return // the rest would be cut anyway
	}
	switch rv.Kind() {
	case reflect.Pointer, reflect.Interface:
		if rv.IsNil() {
			b.WriteString("null")
			return
		}
		printTo(b, rv.Elem())
	case reflect.Slice:
		b.WriteString("[")
		for i := range min(rv.Len(), maxEchoedValue) {
			if i > 0 {
				b.WriteString(", ")
			}
			printTo(b, rv.Index(i))
		}
		b.WriteString("]")
	case reflect.Map:
		b.WriteString("{")
		for i, key := range sortedKeys(rv) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(key.String() + "=")
			printTo(b, rv.MapIndex(key))
		}
		b.WriteString("}")
	case reflect.Struct:
		printStruct(b, rv)
	case reflect.String:
		b.WriteString(rv.String())
	case reflect.Float64:
		b.WriteString(number(rv.Float(), true))
	default:
		fmt.Fprint(b, rv.Interface())
	}
}

func printStruct(b *strings.Builder, rv reflect.Value) {
	switch x := rv.Interface().(type) {
	case time.Time:
		b.WriteString(x.UTC().Format(time.RFC3339))
		return
	case io.Reader:
		return
	}
	t := rv.Type()
	b.WriteString(t.Name() + "(")
	first := true
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && f.Name != "ResultMetadata" {
			if !first {
				b.WriteString(", ")
			}
			first = false
			b.WriteString(lowerCamel(f.Name) + "=")
			printTo(b, rv.Field(i))
		}
	}
	b.WriteString(")")
}
