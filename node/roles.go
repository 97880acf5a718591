package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Roles says what one process does.
type Roles struct {
	Frontend bool // the public API
	Manager  bool
	Worker   bool
	Engine   bool // hosts the store that all processes share
	Control  bool // background work: ring versions, events, rollouts, cleaning up
}

var roleNames = []string{"frontend", "manager", "worker", "engine", "control"}

// ParseRoles reads what --role and --engine say together. Without names a process does everything, except that it hosts no
// engine when it is told where one is.
func ParseRoles(names []string, engine string) (Roles, error) {
	if len(names) == 0 {
		return Roles{Frontend: true, Manager: true, Worker: true, Engine: engine == "", Control: true}, nil
	}
	var r Roles
	for _, name := range names {
		if !slices.Contains(roleNames, name) {
			return r, fmt.Errorf("the role %q is not known: the roles are %s", name, strings.Join(roleNames, ", "))
		}
		r.Frontend = r.Frontend || name == "frontend"
		r.Manager = r.Manager || name == "manager"
		r.Worker = r.Worker || name == "worker"
		r.Engine = r.Engine || name == "engine"
		r.Control = r.Control || name == "control"
	}
	switch {
	case engine != "" || r == Roles{true, true, true, true, true}:
		return r, nil
	case r.Engine:
		return r, errors.New("other processes need the engine: say where it listens with --engine nats://HOST:PORT")
	default:
		return r, errors.New("this process has no engine of its own: say where one is with --engine nats://HOST:PORT")
	}
}

// alone: all roles in this process, and nobody else to talk to.
func (c *Config) alone() bool { return c.Engine == "" }
