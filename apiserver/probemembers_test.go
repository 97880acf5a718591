package apiserver_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// tier3 are the operations that few use; all others must be probed member by member.
var tier3 = append([]string{
	"CreateCodeSigningConfig", "ListCodeSigningConfigs", "DeleteCodeSigningConfig", "GetCodeSigningConfig", "UpdateCodeSigningConfig",
	"ListFunctionsByCodeSigningConfig", "DeleteFunctionCodeSigningConfig", "PutFunctionCodeSigningConfig",
	"ListCapacityProviders", "GetCapacityProvider",
}, slices.Concat(unbuilt, refusing)...)

// kinds are what one member was probed with.
type kinds struct{ absent, types, bounds, pattern bool }

// probeNesting bounds structures in structures; the model's deepest is four.
const probeNesting = 8

// structure probes every member of a structure, and whatever is in it, lists and maps included. place names what is above;
// within makes an input of the operation that holds a given structure there.
func (p *prober) structure(op string, s *probeShape, place []string, within func(map[string]any) map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(s.Members)) {
		at := append(slices.Clone(place), name)
		if len(at) > probeNesting {
			p.Fatalf("%s: %s is nested deeper than probes go", op, strings.Join(at, "."))
		}
		put := func(v any) map[string]any {
			in := p.valid(op, s)
			in[name] = v
			return within(in)
		}
		p.ensure()
		without := p.valid(op, s)
		delete(without, name)
		p.probe(op, strings.Join(at, ".")+": absent", within(without))
		p.saw(op, at, func(k *kinds) { k.absent = true })
		p.place(op, name, s.Members[name].Shape, at, put)
	}
}

// place probes one place for a value: a member, an element, a key or a map's value. put makes an input with a value there.
func (p *prober) place(op, member, name string, at []string, put func(any) map[string]any) {
	shape, where := p.model.Shapes[name], strings.Join(at, ".")+": "
	try := func(what string, v any) {
		p.ensure()
		p.probe(op, where+what, put(v))
	}
	pattern := violated(shape.Pattern)
	for what, v := range wrong {
		try(what, v)
		text, isText := v.(string)
		p.saw(op, at, func(k *kinds) { k.types = true; k.pattern = k.pattern || isText && pattern(text) })
	}
	for what, v := range p.bounds(op, member, name) {
		try(what, v)
		p.saw(op, at, func(k *kinds) { k.bounds = true })
	}
	for _, v := range shape.Enum {
		try("the value "+v, v)
	}
	try("a value", p.value(op, member, name, 0))
	switch shape.Type {
	case "structure":
		p.structure(op, shape, at, func(inner map[string]any) map[string]any { return put(inner) })
	case "list":
		p.place(op, "", shape.Member.Shape, append(slices.Clone(at), "[]"), func(v any) map[string]any { return put([]any{v}) })
	case "map":
		good := p.value(op, "", shape.Value.Shape, 0)
		p.place(op, "", shape.Key.Shape, append(slices.Clone(at), "{key}"), func(v any) map[string]any {
			key, _ := v.(string) // JSON has no other keys
			return put(map[string]any{key: good})
		})
		p.place(op, "", shape.Value.Shape, append(slices.Clone(at), "{}"), func(v any) map[string]any { return put(map[string]any{"k": v}) })
	}
}

// violated returns whether a text breaks a pattern of the model. Patterns that look ahead or behind Go does not know; the
// wrong texts break all of those.
func violated(pattern string) func(string) bool {
	if pattern == "" {
		return func(string) bool { return false }
	}
	expr, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil {
		return func(string) bool { return true }
	}
	return func(text string) bool { return !expr.MatchString(text) }
}

func (p *prober) saw(op string, at []string, mark func(*kinds)) {
	key := op + " " + strings.Join(at, ".")
	k := p.seen[key]
	mark(&k)
	p.seen[key] = k
}

// judgeCoverage walks the model on a way of its own, and fails for each place in the input of an operation of tier 1 or 2
// that was not probed with everything that its shape can be probed with.
func (p *prober) judgeCoverage() {
	operations, members, places := 0, 0, 0
	for _, op := range slices.Sorted(maps.Keys(p.model.Operations)) {
		if slices.Contains(tier3, op) {
			continue
		}
		operations++
		if input := p.model.Operations[op].Input; input != nil {
			for at, shape := range p.places(input.Shape, "") {
				places++
				element := strings.HasSuffix(at, "[]") || strings.HasSuffix(at, "}")
				if !element {
					members++
				}
				k, s := p.seen[op+" "+at], p.model.Shapes[shape]
				bounded := (s.Min != nil || s.Max != nil) && s.Type != "blob" // whose bounds are those of whole requests
				if !k.types || !element && !k.absent || bounded && !k.bounds || s.Pattern != "" && len(s.Enum) == 0 && !k.pattern && !permissive(s.Pattern) {
					p.Errorf("%s: %s (%s) was probed with %+v only", op, at, shape, k)
				}
			}
		}
	}
	p.Logf("%d probes; of tiers 1 and 2: %d operations, %d members, %d places with elements, keys and values of maps; %d operations in all",
		p.count, operations, members, places, len(p.model.Operations))
	if operations != 60 {
		p.Errorf("%d operations of tiers 1 and 2, want 60", operations)
	}
}

// permissive reports whether a pattern takes any text.
func permissive(pattern string) bool { return pattern == ".*" || pattern == "[\\s\\S]*" }

// places returns the shape of each place within a shape.
func (p *prober) places(shape, at string) map[string]string {
	s, out := p.model.Shapes[shape], map[string]string{}
	add := func(place, inner string) {
		out[place] = inner
		maps.Copy(out, p.places(inner, place))
	}
	join := func(step string) string { return strings.TrimPrefix(at+"."+step, ".") }
	switch s.Type {
	case "structure":
		for name, m := range s.Members {
			add(join(name), m.Shape)
		}
	case "list":
		add(join("[]"), s.Member.Shape)
	case "map":
		out[join("{key}")] = s.Key.Shape
		add(join("{}"), s.Value.Shape)
	}
	return out
}
