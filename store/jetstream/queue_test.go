package jetstream

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/procfs"
	"berth/store"
)

// BenchmarkPush: pushes of 64 callers at once, each synced.
func BenchmarkPush(b *testing.B) {
	for _, lanes := range []int{1, 64} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) {
			q := open(b, Config{}).Queue()
			var n atomic.Int64
			data := make([]byte, 300)
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					m := store.Message{ID: strconv.FormatInt(i, 10), Lane: store.Lane(fmt.Sprint("a/f", i%int64(lanes))), Data: data, Fresh: true}
					if err := q.Push(context.Background(), m); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkDrain: messages taken and done by one receiver.
func BenchmarkDrain(b *testing.B) {
	q := open(b, Config{}).Queue()
	fillLane(b, q, b.N, 256)
	b.ResetTimer()
	for n := 0; n < b.N; {
		some, err := q.Pull(context.Background(), "a/f", 16, time.Second)
		if err != nil {
			b.Fatal(err)
		}
		for _, d := range some {
			n++
			if err := d.Ticket.Done(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func fillLane(t testing.TB, q store.Queue, n, pushers int) {
	var next atomic.Int64
	var all sync.WaitGroup
	data := make([]byte, 300)
	for range pushers {
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := q.Push(context.Background(), store.Message{ID: "m" + strconv.FormatInt(i, 10), Lane: "a/f", Data: data, Fresh: true}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestMillion: a million waiting messages need little memory. It takes half a minute, so it runs only when asked for.
func TestMillion(t *testing.T) {
	const limit = 300 << 20
	if os.Getenv("BERTH_MILLION") == "" {
		t.Skip("set BERTH_MILLION=1 to push a million messages")
	}
	q := open(t, Config{}).Queue()
	fillLane(t, q, 1000, 256)
	before, err := procfs.PSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	fillLane(t, q, 1_000_000, 1000)
	after, err := procfs.PSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.0f messages/s; memory %d → %d MiB", 1e6/time.Since(began).Seconds(), before>>20, after>>20)
	if after-before > limit {
		t.Errorf("a million messages hold %d MiB, want at most %d", (after-before)>>20, limit>>20)
	}
}
