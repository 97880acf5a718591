package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/sim/cluster"
)

// simulate runs the seeds, as many at once as there are processors, and reports the ones that violate an invariant.
//
// Virtual time is to be had in tests only, so the runs are one: testing.Main makes it, and ends the program.
func simulate(o options, out io.Writer) error {
	os.Args = os.Args[:1] // the flags are ours, not package testing's
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Seeds", F: func(t *testing.T) {
		if err := runSeeds(t, o, out); err != nil {
			t.Fatal(err)
		}
	}}}, nil, nil)
	return nil
}

// totals of many runs.
type totals struct {
	mu      sync.Mutex
	bad     int
	events  int
	answers map[string]int
}

func runSeeds(t *testing.T, o options, out io.Writer) error {
	began := time.Now()
	sum := totals{answers: map[string]int{}}
	var next atomic.Uint64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < o.seeds; n = next.Add(1) - 1 {
				t.Run(fmt.Sprint(o.seed+n), func(t *testing.T) {
					synctest.Test(t, func(*testing.T) { sum.add(o, out, o.seed+n, cluster.Run(cluster.Options{Seed: o.seed + n})) })
				})
			}
		})
	}
	wg.Wait()
	fmt.Fprintf(out, "%d seeds in %.1f s: %d events; invocations ended with %v\n", o.seeds, time.Since(began).Seconds(), sum.events, sum.answers)
	if sum.bad > 0 {
		return fmt.Errorf("%d of %d seeds violate an invariant; replay one with -v -seeds 1 -seed N", sum.bad, o.seeds)
	}
	return nil
}

func (s *totals) add(o options, out io.Writer, seed uint64, h *cluster.History) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events += len(h.Events)
	for ending, n := range h.Answers {
		s.answers[ending] += n
	}
	if o.verbose {
		for _, e := range h.Events {
			fmt.Fprintln(out, e)
		}
		fmt.Fprintf(out, "seed %d: %d events, hash %016x\n", seed, len(h.Events), h.Hash)
	}
	if err := h.Err(); err != nil {
		s.bad++
		fmt.Fprintf(out, "seed %d: %v\n", seed, err)
	}
}
