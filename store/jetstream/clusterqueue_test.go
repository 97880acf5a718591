package jetstream

import (
	"fmt"
	"testing"
	"time"

	"berth/store"
)

// TestTheLossOfTheLeaderCostsNoEvent: each stream of the queue is on three servers, with what it knows of deliveries. Pushes and
// pulls go on when the one that leads is gone.
func TestTheLossOfTheLeaderCostsNoEvent(t *testing.T) {
	const lane, n = store.Lane("a/f"), 60
	c := newTrio(t)
	remote := c.connect()
	q := remote.Queue()
	p := remote.queue.partition(lane)
	for _, p := range remote.queue.partitions {
		if info, err := p.stream.Info(t.Context()); err != nil || info.Config.Replicas != 3 || len(info.Cluster.Replicas) != 2 {
			t.Fatalf("partition %d is %+v, %v", p.number, info, err)
		}
	}
	want, pushed := map[string]bool{}, 0
	push := func() {
		for range n {
			id := fmt.Sprint("m", pushed)
			pushed++
			if err := q.Push(t.Context(), store.Message{ID: id, Lane: lane, Data: []byte("x"), Fresh: true}); err != nil {
				t.Fatal(err)
			}
			want[id] = true
		}
	}
	twice := 0
	take := func(left int) {
		for deadline := time.Now().Add(time.Minute); len(want) > left; {
			some, err := q.Pull(t.Context(), lane, 7, time.Second)
			if time.Now().After(deadline) {
				t.Fatalf("%d events do not come (%v): %v", len(want), err, want)
			}
			for _, d := range some {
				if !want[d.ID] {
					twice++
				}
				delete(want, d.ID)
				if err := d.Ticket.Done(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	push()
	take(n / 2)
	consumer, err := p.stream.Consumer(t.Context(), consumerName(lane))
	if err != nil || len(consumer.CachedInfo().Cluster.Replicas) != 2 {
		t.Fatalf("the consumer is %+v, %v", consumer, err)
	}
	info, err := p.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.configs {
		if c.configs[i].Cluster.Name == info.Cluster.Leader {
			c.stop(i)
			defer c.start(i)
		}
	}
	push()
	take(0)
	t.Logf("%d events came twice", twice)
}
