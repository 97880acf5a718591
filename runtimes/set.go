package runtimes

import (
	"context"

	"berth/lambda"
)

// Config says where to look for interpreters and where to keep the bootstraps.
type Config struct {
	StateDir string   // bootstraps are unpacked below it: directories 0755, files 0644
	Search   []string // directories that hold interpreters; nil means /usr/bin and /usr/local/bin
}

// Set is the runtimes that this host can run.
type Set struct{ byName map[string]*Runtime }

// Discover finds the host's interpreters.
func Discover(ctx context.Context, cfg Config) (*Set, error) {
	return &Set{byName: map[string]*Runtime{}}, nil
}

// Find returns the runtime of that name.
func (s *Set) Find(name string) (*Runtime, error) {
	if r := s.byName[name]; r != nil {
		return r, nil
	}
	return nil, lambda.Errorf(lambda.InvalidRuntime, "%s is not installed on this host", name)
}

// All returns the runtimes sorted by name.
func (s *Set) All() []*Runtime { return nil }
