package worker

import (
	"hash/maphash"
	"iter"
	"sync"
	"time"

	"berth/lambda"
)

const registryShards = 64 // power of two; far above the number of cores, so that two invocations rarely meet

// registry finds environments by id. An invocation locks one shard for one map lookup.
type registry struct {
	seed   maphash.Seed
	shards [registryShards]struct {
		mu   sync.RWMutex
		byID map[lambda.EnvironmentID]*environment
		_    [24]byte // a shard fills a cache line of 64 bytes
	}
}

func (r *registry) init() {
	r.seed = maphash.MakeSeed()
	for i := range r.shards {
		r.shards[i].byID = map[lambda.EnvironmentID]*environment{}
	}
}

func (r *registry) shard(id lambda.EnvironmentID) int {
	return int(maphash.String(r.seed, string(id)) & (registryShards - 1))
}

func (r *registry) find(id lambda.EnvironmentID) *environment {
	s := &r.shards[r.shard(id)]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}

// add reports false if there is one of this id already.
func (r *registry) add(e *environment) bool {
	s := &r.shards[r.shard(e.id)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[e.id] != nil {
		return false
	}
	s.byID[e.id] = e
	return true
}

func (r *registry) remove(id lambda.EnvironmentID) {
	s := &r.shards[r.shard(id)]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
}

// all yields the environments of the moment; the caller holds no lock.
func (r *registry) all() iter.Seq[*environment] {
	return func(yield func(*environment) bool) {
		for i := range r.shards {
			s := &r.shards[i]
			s.mu.RLock()
			list := make([]*environment, 0, len(s.byID))
			for _, e := range s.byID {
				list = append(list, e)
			}
			s.mu.RUnlock()
			for _, e := range list {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// failureKept is how long the reason of a failed start waits for the invocation that the environment was started for.
const failureKept = 10 * time.Second

// failures remembers why environments could not be started: a start may fail before its invocation arrives.
type failures struct {
	mu    sync.Mutex
	queue []startFailure // oldest first
}

type startFailure struct {
	id  lambda.EnvironmentID
	err error
	at  time.Time
}

func (f *failures) add(id lambda.EnvironmentID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	old := 0
	for old < len(f.queue) && (now.Sub(f.queue[old].at) > failureKept || len(f.queue)-old >= 1000) {
		old++
	}
	f.queue = append(f.queue[old:], startFailure{id, err, now})
}

// find returns nil if nothing is known of id.
func (f *failures) find(id lambda.EnvironmentID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.queue {
		if f.queue[i].id == id {
			return f.queue[i].err
		}
	}
	return nil
}
