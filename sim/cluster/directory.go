package cluster

import (
	"context"
	"sync"
	"time"

	"berth/lambda"
	"berth/placement"
)

// directory is what all know of the workers, by their heartbeats.
type directory struct {
	mu       sync.Mutex
	seen     map[lambda.WorkerID]heartbeat
	promised map[promiser]promise
}

type heartbeat struct {
	at   time.Time
	free int64
}

// promiser is one life of a manager, as it thinks of one worker.
type promiser struct {
	manager *process
	worker  lambda.WorkerID
}

// promise is the memory that a manager has promised since a heartbeat, as package members counts it.
type promise struct {
	since time.Time
	bytes int64
}

// heartbeatLimit is how old a heartbeat may be.
const heartbeatLimit = 4 * time.Second

func (w *worker) heartbeat(ctx context.Context) {
	for {
		w.mu.Lock()
		free := w.capacity - w.used
		w.mu.Unlock()
		w.c.directory.heard(w.id, free)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (d *directory) heard(id lambda.WorkerID, free int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen, d.promised = map[lambda.WorkerID]heartbeat{}, map[promiser]promise{}
	}
	d.seen[id] = heartbeat{time.Now(), free}
}

// promise lowers what a manager believes to be free on a worker until its next heartbeat; all of it when the worker has
// refused.
func (d *directory) promise(by promiser, bytes int64, refused bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	beat := d.seen[by.worker]
	p := d.promised[by]
	if !p.since.Equal(beat.at) {
		p = promise{since: beat.at}
	}
	if p.bytes += bytes; refused {
		p.bytes = max(p.bytes, beat.free)
	}
	d.promised[by] = p
}

// candidates lists the workers that were heard of lately, in a fixed order, as one manager knows them.
func (c *Cluster) candidates(by *process) []placement.Worker {
	d := &c.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []placement.Worker
	for _, id := range c.names.workers {
		beat, ok := d.seen[id]
		if !ok || time.Since(beat.at) >= heartbeatLimit {
			continue
		}
		if p := d.promised[promiser{by, id}]; p.since.Equal(beat.at) {
			beat.free -= p.bytes
		}
		list = append(list, placement.Worker{ID: id, FreeBytes: beat.free})
	}
	return list
}
