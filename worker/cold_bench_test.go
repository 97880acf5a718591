package worker_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/lambda"
)

// coldFunctions are the smallest of each kind.
var coldFunctions = []struct {
	language, handler string
	files             map[string]string // nil: a Go program
}{
	{"python", "h.handler", map[string]string{"h.py": "def handler(e, c): return e\n"}},
	{"nodejs", "h.handler", map[string]string{"h.mjs": "export const handler = async (e) => e\n"}},
	{"provided.al2023", "h", nil},
}

func coldVersion(b *testing.B, r *real, i int) *lambda.Version {
	c := coldFunctions[i]
	if c.files == nil {
		c.files = map[string]string{"bootstrap": buildGo(b)}
	}
	v := r.version(r.runtime(c.language), c.handler, c.files)
	v.MemoryMB = 1769
	must(b, r.Prepare(context.Background(), v))
	return v
}

// BenchmarkCold measures the first call of a new environment, with time in between for more sandboxes to be parked.
func BenchmarkCold(b *testing.B) {
	for i, c := range coldFunctions {
		b.Run(c.language, func(b *testing.B) {
			r := newReal(b)
			v := coldVersion(b, r, i)
			var all []time.Duration
			for range b.N {
				time.Sleep(100 * time.Millisecond)
				for r.ParkedFor(v) == 0 {
					time.Sleep(time.Millisecond)
				}
				began := time.Now()
				res := r.begin(v)
				r.call(res, `"a"`)
				all = append(all, time.Since(began))
				must(b, r.End(context.Background(), res.Environment))
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkColdSustained makes environments, calls each once and ends it, as fast as four callers can.
func BenchmarkColdSustained(b *testing.B) {
	for i, c := range coldFunctions {
		b.Run(c.language, func(b *testing.B) {
			r := newReal(b)
			v := coldVersion(b, r, i)
			left := atomic.Int64{}
			left.Store(int64(b.N))
			b.ResetTimer()
			var callers sync.WaitGroup
			for range 4 {
				callers.Go(func() {
					for left.Add(-1) >= 0 {
						res := r.begin(v)
						r.call(res, `"a"`)
						must(b, r.End(context.Background(), res.Environment))
					}
				})
			}
			callers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per-s")
			b.ReportMetric(100*float64(r.Stats().ParkedStarts)/float64(max(1, r.Stats().ColdStarts)), "%parked")
			b.ReportMetric(0, "ns/op")
		})
	}
}
