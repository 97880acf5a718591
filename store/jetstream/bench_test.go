package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/store"
)

func record(i, size int) []byte {
	data, err := json.Marshal(map[string]any{"name": fmt.Sprint("function-", i), "memory": 128, "pad": bytes.Repeat([]byte{'x'}, size*3/4)})
	if err != nil {
		panic(err)
	}
	return data
}

func perSecond(b *testing.B, n int, what string) {
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), what+"/s")
}

func BenchmarkApply(b *testing.B) {
	value := record(1, 1200)
	for _, c := range []struct{ callers, ops int }{{1, 1}, {4, 1}, {16, 1}, {64, 1}, {1, 2}, {16, 2}, {1, 64}, {4, 64}, {1, store.MaxOps}} {
		b.Run(fmt.Sprintf("callers=%d/ops=%d", c.callers, c.ops), func(b *testing.B) {
			catalog := open(b, Config{}).Catalog()
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range c.callers {
				wg.Go(func() {
					for {
						i := int(next.Add(1))
						if i > b.N {
							return
						}
						ops := make([]store.Op, c.ops)
						for j := range ops {
							ops[j] = store.Put(store.Key(fmt.Sprintf("function/1/%d", (i*c.ops+j)%20_000)), value)
						}
						if _, err := catalog.Apply(context.Background(), ops...); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			perSecond(b, b.N*c.ops, "writes")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	catalog := open(b, Config{}).Catalog()
	if _, err := catalog.Apply(b.Context(), store.Put("function/1/a", record(1, 1200))); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := catalog.Get(context.Background(), "function/1/a"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBlobPut(b *testing.B) {
	for _, size := range []int{10_000, 1_000_000, 50_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			blobs := open(b, Config{}).Blobs()
			data := bytes.Repeat([]byte{'z'}, size)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				copy(data, fmt.Sprint(i, "."))
				d, _, err := blobs.Put(context.Background(), bytes.NewReader(data))
				if err != nil {
					b.Fatal(err)
				}
				if size > 1_000_000 {
					_ = blobs.Delete(context.Background(), d)
				}
			}
		})
	}
}

// BenchmarkOpen measures the start of a server with 100,000 functions: the engine's opening, and until a mirror of all is
// ready; then a page of 50 with its records decoded for the first time, and again.
func BenchmarkOpen100k(b *testing.B) {
	const records = 100_000
	dir := b.TempDir()
	fill(b, dir, records)
	type function struct {
		Name   string `json:"name"`
		Memory int    `json:"memory"`
	}
	decode := func(e store.Entry) (*function, error) {
		f := new(function)
		return f, json.Unmarshal(e.Value, f)
	}
	var opening, filling, page, again time.Duration
	for b.Loop() {
		start := time.Now()
		e := open(b, Config{Dir: dir})
		opening += time.Since(start)
		m := store.NewMirror(e.Catalog(), "function/", decode)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = m.Run(ctx) })
		<-m.Ready()
		filling += time.Since(start)
		if m.Len() != records {
			b.Fatalf("%d records, want %d", m.Len(), records)
		}
		for _, took := range []*time.Duration{&page, &again} {
			n, start := 0, time.Now()
			m.Ascend("function/000000000001/name-050000", func(store.Key, *function, store.Revision) bool { n++; return n < 50 })
			*took += time.Since(start)
		}
		b.StopTimer()
		cancel()
		wg.Wait()
		_ = e.Close()
		b.StartTimer()
	}
	for name, d := range map[string]time.Duration{"open": opening, "open+mirror": filling, "page": page, "page-again": again} {
		b.ReportMetric(d.Seconds()*1000/float64(b.N), name+"-ms")
	}
}

func fill(b *testing.B, dir string, records int) {
	e := open(b, Config{Dir: dir})
	var ops []store.Op
	for i := range records {
		ops = append(ops, store.Create(store.Key(fmt.Sprintf("function/000000000001/name-%06d", i)), record(i, 1150)))
		if len(ops) == store.MaxOps || i == records-1 {
			if _, err := e.Catalog().Apply(context.Background(), ops...); err != nil {
				b.Fatal(err)
			}
			ops = ops[:0]
		}
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}
