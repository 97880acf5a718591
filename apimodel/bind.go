package apimodel

import (
	"fmt"
	"reflect"
	"time"
)

// binding joins a shape with the Go type that holds it; it is made once per pair.
type binding struct {
	shape  *shape
	typ    reflect.Type // without a pointer
	fields []field      // of a structure, parallel to shape.members
	elem   *binding     // of a list or map
}

// field is one member's place in a Go struct; binding is nil if the struct has no such field.
type field struct {
	index   int
	binding *binding
}

type bindingKey struct {
	shape *shape
	typ   reflect.Type
}

var (
	timeType  = reflect.TypeFor[time.Time]()
	bytesType = reflect.TypeFor[[]byte]()
)

// bind returns the binding of a structure and a pointer to a Go struct.
func (m *Model) bind(s *shape, v any) (*binding, reflect.Value, error) {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() || rv.Elem().Kind() != reflect.Struct {
		return nil, reflect.Value{}, fmt.Errorf("want a pointer to the struct of %s, got %T", s.name, v)
	}
	rv = rv.Elem()
	key := bindingKey{s, rv.Type()}
	if b, ok := m.bindings.Load(key); ok {
		return b.(*binding), rv, nil
	}
	b, err := newBinding(s, rv.Type(), map[bindingKey]*binding{})
	if err != nil {
		return nil, reflect.Value{}, err
	}
	m.bindings.Store(key, b)
	return b, rv, nil
}

// newBinding makes a binding; made holds those under way, so that recursive shapes end.
func newBinding(s *shape, t reflect.Type, made map[bindingKey]*binding) (*binding, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	key := bindingKey{s, t}
	if b := made[key]; b != nil {
		return b, nil
	}
	b := &binding{shape: s, typ: t}
	made[key] = b
	if !fits(s.kind, t) {
		return nil, fmt.Errorf("shape %s does not fit the Go type %s", s.name, t)
	}
	var err error
	switch s.kind {
	case kindList, kindMap:
		b.elem, err = newBinding(s.elem, t.Elem(), made)
	case kindStructure:
		b.fields = make([]field, len(s.members))
		for i, m := range s.members {
			f, ok := t.FieldByName(m.name)
			if !ok {
				continue
			}
			b.fields[i].index = f.Index[0]
			if b.fields[i].binding, err = newBinding(m.shape, f.Type, made); err != nil {
				return nil, err
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func fits(k kind, t reflect.Type) bool {
	switch k {
	case kindString:
		return t.Kind() == reflect.String
	case kindInteger, kindLong:
		return t.Kind() == reflect.Int32 || t.Kind() == reflect.Int64
	case kindDouble:
		return t.Kind() == reflect.Float64
	case kindBoolean:
		return t.Kind() == reflect.Bool
	case kindBlob:
		return t == bytesType || t.Kind() == reflect.Interface
	case kindTimestamp:
		return t == timeType
	case kindList:
		return t.Kind() == reflect.Slice
	case kindMap:
		return t.Kind() == reflect.Map && t.Key().Kind() == reflect.String
	default:
		return t.Kind() == reflect.Struct
	}
}
