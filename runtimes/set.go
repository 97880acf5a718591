package runtimes

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"berth/lambda"
)

// Set is the runtimes that this host can run.
type Set struct{ byName map[string]*Runtime }

// All returns the runtimes sorted by name.
func (s *Set) All() []*Runtime {
	names := slices.Sorted(maps.Keys(s.byName))
	all := make([]*Runtime, len(names))
	for i, name := range names {
		all[i] = s.byName[name]
	}
	return all
}

var (
	pythonName = regexp.MustCompile(`^python3\.\d+$`)
	nodeName   = regexp.MustCompile(`^nodejs(\d+)\.x$`)
)

// Find returns the runtime of that name, or lambda.InvalidRuntime with a message that says how to add it.
func (s *Set) Find(name string) (*Runtime, error) {
	if r := s.byName[name]; r != nil {
		return r, nil
	}
	have := "none"
	if len(s.byName) > 0 {
		have = strings.Join(slices.Sorted(maps.Keys(s.byName)), ", ")
	}
	if pythonName.MatchString(name) {
		return nil, lambda.Errorf(lambda.InvalidRuntime, "%s is not installed on this host; install it (apt-get install %s) "+
			"and restart Berth, or use one of: %s", name, name, have)
	}
	if m := nodeName.FindStringSubmatch(name); m != nil {
		return nil, lambda.Errorf(lambda.InvalidRuntime, "%s is not installed on this host; install Node.js %s (https://nodejs.org) "+
			"as /usr/bin/node or /usr/local/bin/node and restart Berth, or use one of: %s", name, m[1], have)
	}
	return nil, lambda.Errorf(lambda.InvalidRuntime, "Berth has no runtime %s; it runs python3.x, nodejs18.x and later, "+
		"provided.al2023 and provided.al2; this host has: %s", name, have)
}
