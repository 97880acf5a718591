package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/store"
)

// Limits of reading the stream.
const (
	pumpBytes     = 8 << 20     // asked for ahead
	pumpHeartbeat = time.Second // of a living consumer; after two without, it is made anew

	// pumpWait is for a message, before looking whether there is any. The client counts missing heartbeats within one wait.
	pumpWait = 5 * pumpHeartbeat

	// maxRounds ends a hold although records are still replaced faster than they are read: progress matters more then.
	maxRounds = 100

	keepChanges = 1024 // entries of a buffer that is used again
)

// Watch implements store.Catalog: all watches read one feed, which one pump fills from the stream.
func (c *catalog) Watch(ctx context.Context, prefix string, each func(store.Entry), ready func(store.Revision)) error {
	if err := store.CheckPrefix(prefix); err != nil {
		return err
	}
	end, err := c.end(ctx)
	if err != nil {
		return fmt.Errorf("watching %q: %w", prefix, err)
	}
	feed := c.liveFeed()
	if err := feed.WaitRevision(ctx, store.Revision(end)); err != nil {
		return err
	}
	return feed.Watch(ctx, prefix, each, ready)
}

// liveFeed returns the feed, and starts it if there is none or the last one broke.
func (c *catalog) liveFeed() *store.Feed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.feed != nil {
		select {
		case <-c.feed.Failed():
		default:
			return c.feed
		}
	}
	feed := store.NewFeed()
	c.feed = feed
	if err := c.background.Err(); err != nil { // closed: no goroutine may start any more
		feed.Fail(err)
		return feed
	}
	c.engine.work.Go(func() {
		p := pump{feed: feed, log: c.engine.log, end: c.end}
		feed.Fail(p.run(c.background, c.engine.js, c.stream))
	})
	return feed
}

// end returns the sequence of the last message, 0 if there is none.
func (c *catalog) end(ctx context.Context) (uint64, error) {
	last, err := c.engine.lastMessage(ctx, c.stream, catalogSubject+">")
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return last.Sequence, nil
}

// pump reads the stream in sequence order into a feed. A record that is replaced before it is read is never seen: a gap in
// the sequence shows that, and its successor follows. Until then the copy would be of no one moment, so the pump holds
// back what it reads. The first replacement of a record missed up to now is not later than the stream's present end;
// having read up to that end without another gap, the copy is whole again. The first pass over the stream is the same case.
type pump struct {
	feed *store.Feed
	log  *slog.Logger
	end  func(context.Context) (uint64, error) // the sequence of the stream's last message, whole batches only

	reached uint64        // sequence read last
	changes []store.Entry // read and not yet published

	batch string // id of the batch of the message read last, "" for none
	open  bool   // that batch goes on

	holding bool
	until   uint64 // the stream's end when the hold began
	gap     bool   // seen since
	rounds  int    // of one hold
}

func (p *pump) run(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream) error {
	consumer, err := js.OrderedConsumer(ctx, stream.CachedInfo().Config.Name,
		jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, MaxResetAttempts: 10})
	if err != nil {
		return fmt.Errorf("reading the catalog's stream: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(pumpBytes), jetstream.PullHeartbeat(pumpHeartbeat))
	if err != nil {
		return fmt.Errorf("reading the catalog's stream: %w", err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	if err := p.hold(ctx); err != nil {
		return err
	}
	for {
		m, err := messages.Next(jetstream.NextMaxWait(pumpWait))
		switch {
		case err == nil:
			err = p.take(ctx, m)
		case errors.Is(err, nats.ErrTimeout) && p.holding: // perhaps the end was a tombstone, and has expired
			err = p.hold(ctx)
		case errors.Is(err, nats.ErrTimeout):
			err = nil
		}
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// take reads one message. A batch is published whole.
func (p *pump) take(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("reading the catalog's stream: %w", err)
	}
	batch, sequence := m.Headers().Get(headerBatch), meta.Sequence.Stream
	if p.open && batch != p.batch { // its commit was replaced: it ended, and there is a gap
		p.open = false
	}
	if sequence != p.reached+1 {
		p.gap = true
	}
	if p.gap && !p.holding {
		if err := p.hold(ctx); err != nil {
			return err
		}
	}
	p.batch, p.reached = batch, sequence
	p.open = batch != "" && m.Headers().Get(headerCommit) == ""

	value, err := decodeRecord(m.Subject(), m.Data())
	if err != nil {
		p.log.Error("a damaged record is left out", "sequence", sequence, "err", err)
	} else {
		p.changes = append(p.changes, store.Entry{Key: keyOf(m.Subject()), Value: value, Revision: store.Revision(sequence)})
	}
	switch {
	case p.holding && sequence >= p.until && p.gap:
		return p.hold(ctx)
	case p.holding && sequence < p.until, p.open:
		return nil
	}
	p.release()
	return nil
}

// hold begins a hold, or another round of it. If there is nothing left to read it ends at once, also within a batch: the
// server does not answer while it stores one, so that batch has no more messages.
func (p *pump) hold(ctx context.Context) error {
	until, err := p.end(ctx)
	if err != nil {
		return fmt.Errorf("looking for the catalog's end: %w", err)
	}
	p.until = until
	p.holding, p.gap = true, false
	p.rounds++
	if p.reached >= p.until || p.rounds > maxRounds {
		p.release()
	}
	return nil
}

func (p *pump) release() {
	p.feed.Publish(store.Revision(p.reached), p.changes...)
	if p.holding {
		p.feed.Loaded(store.Revision(p.reached))
	}
	p.holding, p.gap, p.rounds, p.changes = false, false, 0, p.changes[:0]
	if cap(p.changes) > keepChanges {
		p.changes = nil // after the first pass
	}
}
