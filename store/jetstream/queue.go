package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
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
	inFlight   *semaphore.Weighted

	mu    sync.Mutex
	known map[store.Lane]bool // lanes whose consumers exist
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

func openQueue(ctx context.Context, background context.Context, e *Engine) (*queue, error) {
	q := &queue{engine: e, background: background, inFlight: semaphore.NewWeighted(maxBytesInFlight), known: map[store.Lane]bool{}}
	all, ctx := errgroup.WithContext(ctx)
	for n := range partitions {
		all.Go(func() error {
			s, err := e.stream(ctx, queueConfig(n))
			q.partitions[n] = &partition{queue: q, stream: s, number: n}
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

// laneOf is the inverse of subject.
func laneOf(subject string) (store.Lane, bool) {
	parts := strings.Split(strings.TrimPrefix(subject, queueSubject), ".")
	if len(parts) != 3 {
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
	for _, p := range q.partitions {
		subjects, err := p.subjects(ctx, queueSubject+strconv.Itoa(p.number)+".>")
		if err != nil && ctx.Err() == nil {
			q.engine.log.Warn("looking for waiting events failed; trying again", "partition", p.number, "err", err)
		}
		for s := range subjects {
			if l, ok := laneOf(s); ok {
				each(l)
			}
		}
	}
}

// subjects counts the messages of each subject that a filter matches.
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
	subjects, err := p.subjects(ctx, p.subject(l))
	if err != nil {
		return store.Depth{}, fmt.Errorf("counting the events of %s: %w", l, err)
	}
	d := store.Depth{Held: int(subjects[p.subject(l)])}
	if d.Held == 0 {
		return d, nil
	}
	c, err := p.stream.Consumer(ctx, consumerName(l))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return d, nil
	}
	if err != nil {
		return d, fmt.Errorf("counting the events of %s: %w", l, err)
	}
	d.Delivered = min(c.CachedInfo().NumAckPending, d.Held)
	return d, nil
}

// ensure makes a lane's consumer if it is not known to exist.
func (q *queue) ensure(ctx context.Context, l store.Lane) error {
	q.mu.Lock()
	known := q.known[l]
	q.mu.Unlock()
	if known {
		return nil
	}
	p := q.partition(l)
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	_, err := p.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:           consumerName(l),
		FilterSubject:     p.subject(l),
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
	q.known[l] = true
	return nil
}

// Pull implements store.Queue: one request, to which the server answers with what there is, or with the first that comes.
func (q *queue) Pull(ctx context.Context, l store.Lane, n int, wait time.Duration) ([]store.Delivery, error) {
	if err := store.CheckLane(l); err != nil {
		return nil, err
	}
	if n < 1 || n > store.MaxPull {
		return nil, fmt.Errorf("%w pull of %d messages: expected 1 to %d", store.ErrInvalid, n, store.MaxPull)
	}
	for try := 0; ; try++ {
		if err := q.ensure(ctx, l); err != nil {
			return nil, err
		}
		out, err := q.pull(ctx, l, n, wait)
		if !errors.Is(err, errNoConsumer) || try > 0 {
			return out, err
		}
		q.mu.Lock()
		delete(q.known, l) // the server has forgotten it
		q.mu.Unlock()
	}
}

var errNoConsumer = errors.New("the lane has no consumer")

func (q *queue) pull(ctx context.Context, l store.Lane, n int, wait time.Duration) ([]store.Delivery, error) {
	p := q.partition(l)
	ctx, cancel := context.WithTimeout(ctx, wait+pullGrace)
	defer cancel()
	request, err := json.Marshal(struct {
		Batch   int           `json:"batch"`
		Expires time.Duration `json:"expires"`
		NoWait  bool          `json:"no_wait"` // with Expires: as soon as there is any
	}{n, max(wait, time.Millisecond), true})
	if err != nil {
		return nil, err
	}
	answers, err := q.engine.conn.SubscribeSync(q.engine.conn.NewInbox())
	if err != nil {
		return nil, fmt.Errorf("pulling from %s: %w", l, err)
	}
	defer func() { _ = answers.Unsubscribe() }() // it fails when the connection is closed, which does the same
	next := "$JS.API.CONSUMER.MSG.NEXT." + p.stream.CachedInfo().Config.Name + "." + consumerName(l)
	if err := q.engine.conn.PublishRequest(next, answers.Subject, request); err != nil {
		return nil, fmt.Errorf("pulling from %s: %w", l, err)
	}
	var out []store.Delivery
	for len(out) < n {
		m, err := answers.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return out, errNoConsumer
		case errors.Is(err, context.DeadlineExceeded):
			return out, nil // the answer was lost; what was delivered to nobody comes again
		case err != nil:
			return out, err
		case m.Header.Get("Status") != "":
			if m.Header.Get("Status") == "503" || m.Header.Get("Description") == "Consumer Deleted" {
				return out, errNoConsumer
			}
			return out, nil // that was all
		}
		if d, ok := q.delivery(l, m); ok {
			out = append(out, d)
		}
	}
	return out, nil
}

// delivery reads a message.
func (q *queue) delivery(l store.Lane, m *nats.Msg) (store.Delivery, bool) {
	t := ticket{q.engine.conn, m.Reply}
	meta, err := m.Metadata()
	if err != nil {
		q.engine.log.Error("a message of the queue has no number", "lane", l, "err", err)
		return store.Delivery{}, false
	}
	data, err := decodeRecord(m.Subject, m.Data)
	if err != nil {
		q.engine.log.Error("a damaged event is left out", "lane", l, "sequence", meta.Sequence.Stream, "err", err)
		_ = t.Later(damagedDelay) // if it fails it comes again sooner
		return store.Delivery{}, false
	}
	return store.Delivery{
		Message: store.Message{ID: m.Header.Get(nats.MsgIdHdr), Lane: l, Data: data},
		Count:   int(meta.NumDelivered), Ticket: t,
	}, true
}

// ticket acknowledges one delivery.
type ticket struct {
	conn  *nats.Conn
	reply string
}

func (t ticket) Done() error    { return t.conn.Publish(t.reply, []byte("+ACK")) }
func (t ticket) Working() error { return t.conn.Publish(t.reply, []byte("+WPI")) }

func (t ticket) Later(d time.Duration) error {
	return t.conn.Publish(t.reply, fmt.Appendf(nil, `-NAK {"delay": %d}`, max(d, time.Millisecond).Nanoseconds()))
}
