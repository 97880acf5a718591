package cluster

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func simulate(t *testing.T, o Options) (h *History) {
	synctest.Test(t, func(*testing.T) { h = Run(o) })
	return h
}

// racedSeeds is how many seeds run under the race detector, which makes them ten times slower; replayedSeeds run twice.
const (
	racedSeeds    = 60
	replayedSeeds = 30
)

// TestInvariantsHoldUnderFaults runs a few seeds here, with the race detector if it is on.
func TestInvariantsHoldUnderFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(racedSeeds) {
		if err := simulate(t, Options{Seed: seed}).Err(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// TestUnboundEnvironmentsAreBound: there are such in the simulation, or it would not show that they are bound once only.
func TestUnboundEnvironmentsAreBound(t *testing.T) {
	t.Parallel()
	for seed := range uint64(racedSeeds) {
		h := simulate(t, Options{Seed: seed})
		if n := len(slices.DeleteFunc(h.Events, func(e Event) bool { return e.Kind != "bind" })); n > 0 {
			t.Logf("seed %d binds %d", seed, n)
			return
		}
	}
	t.Errorf("in %d seeds none was bound", racedSeeds)
}

// TestThousandSeeds runs them with the command, so without the race detector.
func TestThousandSeeds(t *testing.T) {
	if testing.Short() {
		t.Skip("not in -short: it takes half a minute")
	}
	t.Parallel()
	command := filepath.Join(t.TempDir(), "sim")
	if out, err := exec.Command("go", "build", "-o", command, "berth/sim").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.Command(command, "-seeds", "1000").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// TestASeedReplaysExactly compares the whole histories of two runs. The first seeds are those in which most wake at once.
func TestASeedReplaysExactly(t *testing.T) {
	t.Parallel()
	seeds := []uint64{47, 66, 70, 88, 90, 244}
	for seed := range uint64(replayedSeeds) {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		a, b := simulate(t, Options{Seed: seed}), simulate(t, Options{Seed: seed})
		if a.Hash == b.Hash && len(a.Events) == len(b.Events) {
			continue
		}
		for i := range min(len(a.Events), len(b.Events)) {
			if a.Events[i] != b.Events[i] {
				t.Errorf("seed %d: two runs differ:\n%v\n%v", seed, a.Events[i], b.Events[i])
				break
			}
		}
	}
}

func TestFleet(t *testing.T) {
	size := fleetSize{Managers: 100, Frontends: 4, Workers: 1000, Accounts: 50, Functions: 4, Clients: 2000, Calls: 50_000}
	var failed, cold int
	synctest.Test(t, func(*testing.T) { failed, cold = runFleet(size) })
	if failed > 0 || cold == 0 || cold > size.Calls/5 {
		t.Errorf("%d calls failed, %d started cold", failed, cold)
	}
}

// BenchmarkFleet reports invocations per second of real time in a cluster of 1,000 workers and 100 managers.
func BenchmarkFleet(b *testing.B) {
	size := fleetSize{Managers: 100, Frontends: 4, Workers: 1000, Accounts: 50, Functions: 4, Clients: 2000, Calls: 500_000}
	for b.Loop() {
		began := time.Now()
		ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Fleet", F: func(t *testing.T) {
			synctest.Test(t, func(*testing.T) { runFleet(size) })
		}}})
		if !ok {
			b.Fatal("the run failed")
		}
		b.ReportMetric(float64(size.Calls)/time.Since(began).Seconds(), "invocations/s")
	}
}
