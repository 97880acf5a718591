package berth

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// floors says which floor each package stands on. A package imports lower floors only, with two exceptions: floor 1 may
// import ports (which are on floor 1 themselves), and floor 3 may import anything. A package that is not listed fails the
// test: list it here with its floor, and in ARCHITECTURE.md with its one job.
var floors = map[string]int{
	"lambda": 0, "ring": 0, "placement": 0, "policy": 0, "rollout": 0, "sleep": 0, "filter": 0,

	"store": 1, "store/storetest": 1, "store/archive": 1, "store/collect": 1, "store/jetstream": 1, "store/memory": 1,
	"catalog": 1,
	"sandbox": 1, "sandbox/sandboxtest": 1, "sandbox/namespace": 1, "sandbox/fake": 1, "sandbox/guard": 1,
	"wire": 1, "members": 1, "runtimeapi": 1, "extensions": 1, "runtimes": 1, "code": 1, "image": 1, "parked": 1, "logs": 1, "auth": 1, "apimodel": 1, "clientfile": 1, "admin": 1,
	"destinations": 1, "queues": 1, "sts": 1, "functionurl": 1, "tenanttoken": 1,

	"apiserver": 2, "events": 2, "frontend": 2, "manager": 2, "worker": 2, "control": 2, "sources": 2,

	"node": 3, "metrics": 3, "acceptance": 3, "cli": 3, "ui": 3, "client": 3, "cmd/berth": 3, "e2e": 3, "conformance": 3, "bench": 3,
	"internal/serverproc": 3, "internal/procfs": 3, "internal/testcert": 3, "examples/go-hello": 3, "examples/tenant-verifier": 3,
	"sim": 3, "sim/cluster": 3, "sim/replay": 3,
}

// ports are the packages of floor 1 that others on floor 1 may import: declarations without an implementation.
var ports = map[string]bool{"store": true, "sandbox": true}

func TestFloors(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name, inside := strings.CutPrefix(p.ImportPath, "berth/")
		if !inside {
			continue // the root: tests only
		}
		floor, listed := floors[name]
		if !listed {
			t.Errorf("package %s is on no floor: list it in floors_test.go", name)
			continue
		}
		for _, path := range p.Imports {
			imported, inside := strings.CutPrefix(path, "berth/")
			if !inside || floor == 3 {
				continue
			}
			below := floors[imported]
			switch {
			case floor == 0 && imported == "lambda": // the nouns are for everybody
			case below < floor && !(floor == 2 && below == 1 && implementation(imported)):
			case floor == 1 && below == 1 && (ports[imported] || strings.HasPrefix(name, imported+"/")):
			default:
				t.Errorf("%s (floor %d) must not import %s (floor %d)", name, floor, imported, below)
			}
		}
	}
}

// implementation reports whether a package implements a port; roles get those handed in by node, never import them.
func implementation(name string) bool {
	parent, _, sub := strings.Cut(name, "/")
	return sub && ports[parent]
}
