package placement_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"berth/lambda"
	"berth/placement"
)

const mib = 1 << 20

func rng() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func TestChooseNeverTakesAWorkerWithoutRoom(t *testing.T) {
	r := rng()
	for range 10_000 {
		workers := make([]placement.Worker, 1+r.IntN(6))
		fits := false
		for i := range workers {
			workers[i] = placement.Worker{FreeBytes: int64(r.IntN(300)) * mib, HasCode: r.IntN(2) == 0, Environments: r.IntN(9)}
			fits = fits || workers[i].FreeBytes >= 128*mib
		}
		got := placement.Choose(r, workers, 128*mib)
		if (got >= 0) != fits || got >= 0 && workers[got].FreeBytes < 128*mib {
			t.Fatalf("chose %d of %+v", got, workers)
		}
	}
}

func TestChoosePrefersCodeAndSpreadAmongEquals(t *testing.T) {
	for name, better := range map[string]placement.Worker{
		"cached code":     {FreeBytes: 1024 * mib, HasCode: true, Environments: 2},
		"a better spread": {FreeBytes: 1024 * mib, Environments: 0},
		"much more room":  {FreeBytes: 4096 * mib, Environments: 2},
	} {
		r, wins := rng(), 0
		workers := []placement.Worker{{FreeBytes: 1024 * mib, Environments: 2}, better}
		for range 1000 {
			wins += placement.Choose(r, workers, 128*mib)
		}
		if wins < 700 { // both draws hit the worse one a quarter of the time
			t.Errorf("%s: chosen %d times of 1000", name, wins)
		}
	}
}

func TestTwoChoicesKeepLoadsTogether(t *testing.T) {
	const workers, environments = 50, 5000
	r := rng()
	state := make([]placement.Worker, workers)
	for i := range state {
		state[i] = placement.Worker{ID: lambda.WorkerID(fmt.Sprint(i)), FreeBytes: 1 << 40}
	}
	count := make([]int, workers)
	for range environments {
		i := placement.Choose(r, state, 128*mib)
		state[i].FreeBytes -= 128 * mib
		count[i]++
	}
	for i, n := range count {
		if mean := environments / workers; n > mean+6 || n < mean-12 {
			t.Errorf("worker %d has %d environments, mean %d", i, n, mean)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	workers := make([]placement.Worker, 1000)
	for i := range workers {
		workers[i].FreeBytes = int64(i) << 30
	}
	r := rng()
	b.ReportAllocs()
	for b.Loop() {
		placement.Choose(r, workers, 128*mib)
	}
}
