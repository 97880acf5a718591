// Package placement chooses the worker for a new environment. It is pure: what it knows is handed in, and the random
// numbers are too, so that a simulation replays.
package placement

import (
	"math/rand/v2"

	"berth/lambda"
)

// Worker is what a manager knows of one worker when it chooses.
type Worker struct {
	ID           lambda.WorkerID
	FreeBytes    int64 // memory not promised to environments
	Environments int   // of the same function and version, on this worker: fewer is a better spread
	HasCode      bool  // the version's code tree is unpacked there
}

// Weights of the score, in bytes: what a worker with the code, or with one environment less of the same function, is worth
// against free memory. They only settle near ties: a worker with plainly more room wins.
const (
	codeWorth   = 512 << 20
	spreadWorth = 128 << 20
)

// Choose returns the index of the worker for an environment of need bytes, or -1 when none has room. It draws two workers
// at random and takes the better one ("power of two choices", Mitzenmacher 2001), which keeps loads within a constant of
// each other although every manager chooses by itself and by slightly old numbers. When neither has room it takes the best
// of all.
func Choose(rng *rand.Rand, workers []Worker, need int64) int {
	if len(workers) == 0 {
		return -1
	}
	a, b := rng.IntN(len(workers)), rng.IntN(len(workers))
	best := better(workers, a, b, need)
	if workers[best].FreeBytes >= need {
		return best
	}
	for i := range workers {
		best = better(workers, best, i, need)
	}
	if workers[best].FreeBytes < need {
		return -1
	}
	return best
}

func better(workers []Worker, a, b int, need int64) int {
	fitsA, fitsB := workers[a].FreeBytes >= need, workers[b].FreeBytes >= need
	switch {
	case fitsA != fitsB && fitsA:
		return a
	case fitsA != fitsB:
		return b
	case score(workers[b]) > score(workers[a]):
		return b
	default:
		return a
	}
}

func score(w Worker) int64 {
	s := w.FreeBytes - int64(w.Environments)*spreadWorth
	if w.HasCode {
		s += codeWorth
	}
	return s
}
