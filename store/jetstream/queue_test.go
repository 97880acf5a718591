package jetstream

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
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
	fillLane(b, q, b.N, 256, "a/f", true)
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

func fillLane(t testing.TB, q store.Queue, n, pushers int, lane store.Lane, fresh bool) {
	var next atomic.Int64
	var all sync.WaitGroup
	data := make([]byte, 300)
	for range pushers {
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := q.Push(context.Background(), store.Message{ID: string(lane[2:]) + strconv.FormatInt(i, 10), Lane: lane, Data: data, Fresh: fresh}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestMillion: a million waiting messages need little memory, be they packed or each for itself. It takes minutes, so it runs only
// when asked for.
func TestMillion(t *testing.T) {
	const limit = 300 << 20
	if os.Getenv("BERTH_MILLION") == "" {
		t.Skip("set BERTH_MILLION=1 to push two million messages")
	}
	for _, fresh := range []bool{true, false} {
		t.Run(fmt.Sprint("fresh=", fresh), func(t *testing.T) {
			e := open(t, Config{})
			q := e.Queue()
			fillLane(t, q, 1000, 256, "a/warm", fresh)
			before, err := procfs.PSS(os.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			fillLane(t, q, 1_000_000, 1000, "a/f", fresh)
			rate := 1e6 / time.Since(began).Seconds()
			after, err := procfs.PSS(os.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.0f messages/s; memory %d → %d MiB", rate, before>>20, after>>20)
			if after-before > limit {
				t.Errorf("a million messages hold %d MiB, want at most %d", (after-before)>>20, limit>>20)
			}
			if d, err := q.Depth(t.Context(), "a/f"); err != nil || d.Held != 1_000_000 {
				t.Errorf("the lane holds %+v, %v", d, err)
			}
			if err := e.Close(); err != nil { // its memory is not the next one's
				t.Fatal(err)
			}
			debug.FreeOSMemory()
		})
	}
}
