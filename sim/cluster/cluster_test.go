package cluster

import (
	"fmt"
	"testing"
	"testing/synctest"
)

func simulate(t *testing.T, o Options) (h *History) {
	synctest.Test(t, func(*testing.T) { h = Run(o) })
	return h
}

func TestSeeds(t *testing.T) {
	answers := map[string]int{}
	events := 0
	for seed := range uint64(1000) {
		h := simulate(t, Options{Seed: seed})
		if err := h.Err(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		for k, n := range h.Answers {
			answers[k] += n
		}
		events += len(h.Events)
	}
	fmt.Println(answers, events)
}

func TestReplay(t *testing.T) {
	for seed := range uint64(1000) {
		a, b := simulate(t, Options{Seed: seed}), simulate(t, Options{Seed: seed})
		if a.Hash != b.Hash {
			t.Errorf("seed %d: two runs differ", seed)
			for i := range min(len(a.Events), len(b.Events)) {
				if a.Events[i] != b.Events[i] {
					for j := max(0, i-6); j < min(i+4, len(a.Events), len(b.Events)); j++ {
						t.Logf("\n%v\n%v", a.Events[j], b.Events[j])
					}
					break
				}
			}
		}
	}
}
