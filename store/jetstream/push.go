package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"

	"berth/store"
)

// Limits of one write of the queue. A batch that is longer than 1,000 messages the server refuses.
const (
	maxFlush      = 1000 // events
	maxFlushBytes = 8 << 20
	maxAlone      = 6 // parcels without an atomic write, which costs about as many syncs
)

// duplicateCode says that a batch holds a message that the stream has already.
const duplicateCode = 10201

// partition is one stream of the queue, and the pushes that wait for its writer.
type partition struct {
	queue  *queue
	stream jetstream.Stream
	number int

	mu      sync.Mutex
	waiting []*push
	writing bool
	closed  bool
}

var errClosed = errors.New("the engine is closed")

// push is one waiting event.
type push struct {
	member
	lane  store.Lane
	fresh bool        // may share a pack
	done  func(error) // must not wait
}

// Push implements store.Queue.
func (q *queue) Push(ctx context.Context, m store.Message) error {
	if err := store.CheckMessage(m); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	size := int64(len(m.Data) + messageOverhead)
	if err := q.inFlight.Acquire(ctx, size); err != nil {
		return fmt.Errorf("waiting to push an event: %w", err)
	}
	defer q.inFlight.Release(size)
	p := q.partition(m.Lane)
	done := make(chan error, 1)
	w := &push{member: member{id: m.ID, data: m.Data}, lane: m.Lane, fresh: m.Fresh, done: func(err error) { done <- err }}
	if err := p.enqueue(w); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the event was not acknowledged in time, it may be stored all the same: %w", ctx.Err())
	}
}

// enqueue adds a push to those that wait, and sees to it that the partition has a writer.
func (p *partition) enqueue(w *push) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed { // no goroutine may start any more
		return errClosed
	}
	p.waiting = append(p.waiting, w)
	if !p.writing {
		p.writing = true
		p.queue.writers.Go(p.write)
	}
	return nil
}

// write stores what waits until nothing does.
func (p *partition) write() {
	for {
		batch := p.take()
		if batch == nil {
			return
		}
		p.flush(batch)
		p.wake(batch)
	}
}

// take takes what one write may hold; nil ends the writer.
func (p *partition) take() []*push {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, size := 0, 0
	for n < len(p.waiting) && n < maxFlush && (n == 0 || size+p.waiting[n].size() <= maxFlushBytes) {
		size += p.waiting[n].size()
		n++
	}
	if n == 0 {
		p.writing, p.waiting = false, nil
		return nil
	}
	batch := p.waiting[:n:n]
	p.waiting = p.waiting[n:]
	return batch
}

// flush stores pushes, and tells those who wait. A few parcels go side by side, each with a sync of its own; many as one atomic
// write, which costs some syncs whatever its size. A batch with a message that the stream has already is refused as a whole: then
// each goes alone, where a duplicate is a success.
func (p *partition) flush(batch []*push) {
	parcels := p.pack(batch)
	size := 0
	for _, one := range parcels {
		size += len(one.message.Data) + messageOverhead
	}
	err := p.queue.engine.room(size)
	if err == nil && len(parcels) > maxAlone {
		err = p.together(parcels)
	} else if err == nil {
		err = errDuplicate
	}
	if errors.Is(err, errDuplicate) {
		p.singly(parcels)
		return
	}
	for _, one := range parcels {
		one.answer(err)
	}
}

var errDuplicate = errors.New("the batch holds a message that is stored already")

// together publishes a batch until it is acknowledged. A try whose answer was lost may have been stored: the next one then
// finds duplicates.
func (p *partition) together(parcels []*parcel) error {
	ctx, cancel := context.WithTimeout(p.queue.background, writeTimeout)
	defer cancel()
	messages := make([]*nats.Msg, len(parcels))
	for i, one := range parcels {
		messages[i] = one.message
	}
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		setBatch(messages, nuid.Next())
		err := p.try(ctx, messages)
		if !errors.Is(err, errRetry) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("the events were not acknowledged in time (%w): %w", ctx.Err(), err)
		}
	}
}

func (p *partition) try(ctx context.Context, messages []*nats.Msg) error {
	conn := p.queue.engine.conn
	last := len(messages) - 1
	for _, m := range messages[:last] {
		if err := conn.PublishMsg(m); err != nil {
			return fmt.Errorf("%w: %w", errRetry, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	answer, err := conn.RequestMsgWithContext(ctx, messages[last])
	if err != nil {
		return fmt.Errorf("%w: %w", errRetry, err)
	}
	if isDuplicate(answer.Data) {
		return errDuplicate
	}
	_, err = parseAck(answer.Data)
	return err
}

func isDuplicate(answer []byte) bool {
	var ack struct {
		Error *apiError `json:"error"`
	}
	return json.Unmarshal(answer, &ack) == nil && ack.Error != nil && ack.Error.ErrCode == duplicateCode
}

// singly publishes messages for themselves, a few at one time.
func (p *partition) singly(parcels []*parcel) {
	var all errgroup.Group
	all.SetLimit(maxAlone)
	for _, one := range parcels {
		for _, name := range []string{headerBatch, headerIndex, headerCommit} {
			delete(one.message.Header, name)
		}
		all.Go(func() error {
			_, err := p.queue.engine.publish(p.queue.background, one.message)
			one.answer(err)
			return nil
		})
	}
	_ = all.Wait() // each has had its answer
}

// wake tells receivers which lanes have new messages. Who misses it hears of them by a scan.
func (p *partition) wake(batch []*push) {
	var last store.Lane
	told := map[store.Lane]bool{}
	for _, w := range batch {
		if w.lane == last || told[w.lane] {
			continue
		}
		last = w.lane
		told[w.lane] = true
		_ = p.queue.engine.conn.Publish(wakeSubject, []byte(w.lane))
	}
}
