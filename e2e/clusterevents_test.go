package e2e

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"berth/client"
)

// TestEventsSurviveKillsInACluster: three engines, two control processes, two managers, a worker and a frontend, each a process; any
// of them is killed. BERTH_EVENT_ROUNDS=20 BERTH_EVENT_COUNT=5000 is the full test.
func TestEventsSurviveKillsInACluster(t *testing.T) {
	sharedClient(t)
	queue := newSQSDouble(t)
	p, nodes := startClusterWith(t, "engine", 2, 0, "--aws-endpoint", "sqs="+queue.URL, "--log-level", "error")
	roles := map[string]string{"e1": "engine", "e2": "engine", "e3": "engine", "c1": "control", "c2": "control",
		"m1": "manager", "m2": "manager", "w1": "worker", "f1": "frontend"}
	for id, s := range p.managers {
		nodes[id] = s
	}
	nodes["w1"] = p.worker
	surviveKills(t, queue, 1, victims{
		start: func() *client.Client {
			for id, role := range roles {
				if nodes[id] == nil {
					nodes[id] = p.start(role, id)
				}
			}
			if t.Failed() {
				t.FailNow()
			}
			c := client.New(nodes["f1"].Client)
			waitRing(t, c, "m1", "m2")
			return c
		},
		kill: func() bool {
			victim := slices.Sorted(maps.Keys(roles))[rand.N(len(roles))]
			t.Logf("%s is killed", victim)
			nodes[victim].Kill()
			nodes[victim] = nil
			return victim != "f1"
		},
	})
}
