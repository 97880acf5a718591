package jetstream

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"berth/store"
)

// Limits of the queue.
const (
	partitions   = 8       // streams; a lane is in one of them
	maxDelivered = 200_000 // of a lane: at work, or waiting for their time
	// idleConsumer is after how long without a Pull the server forgets a lane's consumer: with it how often its messages were
	// delivered and until when they were to wait, nothing else.
	idleConsumer = time.Hour
	scanInterval = 2 * time.Second // of all partitions for lanes that hold messages
	pullGrace    = 2 * time.Second // for an answer beyond the wait that was asked for
	keepLanes    = 100_000         // whose consumers are known to exist

	queueSubject = "berth.events."
	wakeSubject  = "berth.wake"
	// damagedDelay keeps a message whose bytes were changed from coming again at once. It stays, for somebody to look at.
	damagedDelay = 10 * time.Minute
)

// queue implements store.Queue: a lane is a subject of one of some work-queue streams, with a consumer of its own, so that no
// lane stands behind another. A stream has one writer at a time, which takes all that waits along (see flush).
type queue struct {
	engine     *Engine
	partitions [partitions]*partition
	background context.Context // of writers: ends with Close
	writers    sync.WaitGroup
	inFlight   *semaphore.Weighted

	held atomic.Int64 // events of all lanes, when they were scanned last

	mu      sync.Mutex
	known   map[store.Lane]float64    // lanes whose consumers exist, with how many events a pack of theirs lately held
	answers map[store.Lane]lastAnswer // of lanes that have had some lately

	closeLimit time.Duration
}

func queueConfig(n int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               "BERTH_EVENTS_" + strconv.Itoa(n),
		Subjects:           []string{queueSubject + strconv.Itoa(n) + ".>"},
		Retention:          jetstream.WorkQueuePolicy,
		Storage:            jetstream.FileStorage,
		AllowAtomicPublish: true,
		Duplicates:         store.DuplicateWindow,
		DenyPurge:          true,
	}
}

func openQueue(ctx context.Context, e *Engine) (*queue, error) {
	background, stop := context.WithCancel(context.Background())
	q := &queue{engine: e, background: background, inFlight: semaphore.NewWeighted(maxBytesInFlight),
		known: map[store.Lane]float64{}, answers: map[store.Lane]lastAnswer{}, closeLimit: closeLimit}
	for n := range partitions {
		q.partitions[n] = &partition{queue: q, number: n}
	}
	e.onClose(func() { q.close(stop) })
	all, ctx := errgroup.WithContext(ctx)
	for n := range partitions {
		all.Go(func() error {
			s, err := e.stream(ctx, queueConfig(n))
			q.partitions[n].stream = s
			return err
		})
	}
	return q, all.Wait()
}

// partition returns the one that a lane is in.
func (q *queue) partition(l store.Lane) *partition {
	h := fnv.New32a()
	_, _ = h.Write([]byte(l)) // never fails
	return q.partitions[h.Sum32()%partitions]
}

func (p *partition) subject(l store.Lane) string {
	return queueSubject + strconv.Itoa(p.number) + "." + strings.Replace(string(l), "/", ".", 1)
}

// laneOf tells the lane of a pack's subject, which is the lane's with the number of events.
func laneOf(subject string) (store.Lane, bool) {
	parts := strings.Split(strings.TrimPrefix(subject, queueSubject), ".")
	if len(parts) != 4 {
		return "", false
	}
	l := store.Lane(parts[1] + "/" + parts[2])
	return l, store.CheckLane(l) == nil
}

func consumerName(l store.Lane) string { return strings.Replace(string(l), "/", "_", 1) }

// Watch implements store.Queue.
func (q *queue) Watch(ctx context.Context, each func(store.Lane)) error {
	woken := make(chan *nats.Msg, 8192) // when it is full notices are lost: the next scan makes up for them
	sub, err := q.engine.conn.ChanSubscribe(wakeSubject, woken)
	if err != nil {
		return fmt.Errorf("listening for events: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails when the connection is closed, which does the same
	tick := time.NewTicker(scanInterval)
	defer tick.Stop()
	q.scan(ctx, each)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			q.scan(ctx, each)
		case m := <-woken:
			if l := store.Lane(m.Data); store.CheckLane(l) == nil {
				each(l)
			}
		}
	}
}

// scan names the lanes that hold messages. What it cannot find out now, the next one will.
func (q *queue) scan(ctx context.Context, each func(store.Lane)) {
	held, whole := 0, true
	for _, p := range q.partitions {
		subjects, err := p.subjects(ctx, queueSubject+strconv.Itoa(p.number)+".>")
		if err != nil && ctx.Err() == nil {
			q.engine.log.Warn("looking for waiting events failed; trying again", "partition", p.number, "err", err)
		}
		whole = whole && err == nil
		for s, n := range subjects {
			if l, ok := laneOf(s); ok {
				each(l)
				held += packSize(s) * int(n)
			}
		}
	}
	if whole {
		q.held.Store(int64(held))
	}
}

// packSize is how many events a pack of a subject holds.
func packSize(subject string) int {
	n, err := strconv.Atoi(subject[strings.LastIndexByte(subject, '.')+1:])
	if err != nil || n < 1 || n > maxPack {
		return 0
	}
	return n
}

// subjects counts the packs of each subject that a filter matches.
func (p *partition) subjects(ctx context.Context, filter string) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	info, err := p.stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, err
	}
	return info.State.Subjects, nil
}

// Depth implements store.Queue.
func (q *queue) Depth(ctx context.Context, l store.Lane) (store.Depth, error) {
	if err := store.CheckLane(l); err != nil {
		return store.Depth{}, err
	}
	p := q.partition(l)
	subjects, err := p.subjects(ctx, p.filter(l))
	if err != nil {
		return store.Depth{}, fmt.Errorf("counting the events of %s: %w", l, err)
	}
	d, packs := store.Depth{}, 0
	for s, n := range subjects {
		if size := packSize(s); size > 0 {
			d.Held += size * int(n)
			packs += int(n)
		}
	}
	if packs == 0 {
		return d, nil
	}
	c, err := p.stream.Consumer(ctx, consumerName(l))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return d, nil
	}
	if err != nil {
		return d, fmt.Errorf("counting the events of %s: %w", l, err)
	}
	d.Delivered = min(c.CachedInfo().NumAckPending*d.Held/packs, d.Held)
	return d, nil
}

// filter matches all packs of a lane.
func (p *partition) filter(l store.Lane) string { return p.subject(l) + ".*" }

// ensure makes a lane's consumer if it is not known to exist.
func (q *queue) ensure(ctx context.Context, l store.Lane) error {
	q.mu.Lock()
	_, known := q.known[l]
	q.mu.Unlock()
	if known {
		return nil
	}
	p := q.partition(l)
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	_, err := p.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:           consumerName(l),
		FilterSubject:     p.filter(l),
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           store.PullLease,
		MaxDeliver:        -1, // attempts and ages are counted by who receives
		MaxAckPending:     maxDelivered,
		InactiveThreshold: idleConsumer,
	})
	if err != nil {
		return fmt.Errorf("making the consumer of %s: %w", l, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.known) >= keepLanes {
		clear(q.known)
	}
	q.known[l] = maxPack
	return nil
}
