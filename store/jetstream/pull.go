package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"berth/store"
)

// Limits of one request for packs.
const (
	maxPull      = 128     // packs
	maxPullBytes = 8 << 20 // the largest pack is one of 1 MiB
)

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
	q.mu.Lock()
	usual := max(q.known[l], 1)
	q.mu.Unlock()
	packs := max(1, min(int(float64(n)/usual), maxPull))
	request, err := json.Marshal(struct {
		Batch    int           `json:"batch"`
		MaxBytes int           `json:"max_bytes"`
		Expires  time.Duration `json:"expires"`
		NoWait   bool          `json:"no_wait"` // with Expires: as soon as there is any
	}{packs, maxPullBytes, max(wait, time.Millisecond), true})
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
	out, got := []store.Delivery(nil), 0
	defer func() { q.noteSize(l, len(out), got) }()
	for got < packs {
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
			undelivered, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
			if err != nil {
				return out, nil // that was all
			}
			packs -= undelivered // in a cluster those delivered may come after this: they are replicated first
			continue
		}
		got++
		out = append(out, p.deliveries(l, m)...)
	}
	return out, nil
}

// noteSize learns how many events a pack of a lane holds, from above: to ask for too few costs one more request, too many must
// wait at the receiver.
func (q *queue) noteSize(l store.Lane, events, packs int) {
	if packs == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if usual, known := q.known[l]; known {
		q.known[l] = max(float64(events)/float64(packs), usual/2)
	}
}

// deliveries reads a message.
func (p *partition) deliveries(l store.Lane, m *nats.Msg) []store.Delivery {
	log := p.queue.engine.log
	meta, err := m.Metadata()
	if err != nil {
		log.Error("a message of the queue has no number", "lane", l, "err", err)
		return nil
	}
	d := &delivered{partition: p, lane: l, reply: m.Reply}
	value, err := decodeRecord(m.Subject, m.Data)
	var members []member
	if err == nil {
		members, err = decodePack(value)
	}
	if err != nil {
		log.Error("damaged events are left out", "lane", l, "sequence", meta.Sequence.Stream, "err", err)
		_ = d.later(damagedDelay) // if it fails they come again sooner
		return nil
	}
	d.alone = len(members) == 1
	d.left.Store(int32(len(members)))
	times := int(meta.NumDelivered)
	if due := members[0].due; d.alone && !due.IsZero() {
		if wait := time.Until(due); wait > 0 {
			_ = d.later(wait) // if it fails it comes again sooner, and waits then
			return nil
		}
		times = max(times-1, 1) // it came once only to be told to wait
	}
	out := make([]store.Delivery, len(members))
	for i, one := range members {
		out[i] = store.Delivery{
			Message: store.Message{ID: one.id, Lane: l, Data: one.data},
			Count:   one.before + times, Ticket: &ticket{d, one, one.before + times},
		}
	}
	return out
}
