package worker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkCold measures the first call of a new environment, with time in between for the pool to fill: what a caller waits
// for. BENCH_PAUSE is no part of it.
func BenchmarkCold(b *testing.B) {
	for _, c := range []struct {
		language, handler string
		files             map[string]string
	}{
		{"python", "h.handler", map[string]string{"h.py": "def handler(e, c): return e\n"}},
		{"nodejs", "h.handler", map[string]string{"h.js": "exports.handler = async (e) => e\n"}},
		{"provided.al2023", "h", nil},
	} {
		b.Run(c.language, func(b *testing.B) {
			r := newReal(b)
			if c.files == nil {
				c.files = map[string]string{"bootstrap": buildGo(b)}
			}
			v := r.version(r.runtime(c.language), c.handler, c.files)
			v.MemoryMB = 1769
			must(b, r.Prepare(context.Background(), v))
			var all []time.Duration
			for range b.N {
				time.Sleep(100 * time.Millisecond)
				began := time.Now()
				res := r.start(v)
				r.call(res, `"a"`)
				all = append(all, time.Since(began))
				must(b, r.End(context.Background(), res.Environment))
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(0, "ns/op")
			fmt.Println(all)
		})
	}
}
