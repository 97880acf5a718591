package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"berth/store"
)

// Limits of reading the stream.
const (
	pumpBytes     = 8 << 20     // asked for ahead
	pumpHeartbeat = time.Second // of a living consumer; after two without, it is made anew

	// pumpWait is for a message, before looking whether there is any. The client counts missing heartbeats within one wait.
	pumpWait = 3 * pumpHeartbeat

	laggardWait = 500 * time.Millisecond // for a message that is known to be there

	consumerTry  = 2 * time.Second  // to make a consumer
	consumerIdle = 30 * time.Second // the server forgets one that nobody reads
	pumpPause    = 200 * time.Millisecond

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
		feed.Fail(p.run(c.background, c.engine.js, c.stream.CachedInfo().Config.Name))
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

// run fills the feed until ctx ends. What cannot be read now, because the engine elects a leader or the server that delivers
// has died, is read later: the feed stays as it is until then.
func (p *pump) run(ctx context.Context, js jetstream.JetStream, stream string) error {
	told := false // that it does not get on from here
	for {
		began, before := time.Now(), p.reached
		err := p.read(ctx, js, stream)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.reached != before || !told {
			told = true
			p.log.Warn("reading the catalog broke off; trying again", "sequence", p.reached, "err", err)
		}
		select {
		case <-time.After(pumpPause - time.Since(began)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read reads on from where the pump is, from a consumer of its own, until that one fails. The library's ordered consumer
// asks for the same consumer again and again after a failure: if that was given to a server that cannot serve it, it waits
// for minutes. A new one may be given to another.
func (p *pump) read(ctx context.Context, js jetstream.JetStream, stream string) error {
	try, cancel := context.WithTimeout(ctx, consumerTry)
	defer cancel()
	consumer, err := js.CreateConsumer(try, stream, jetstream.ConsumerConfig{
		Name: nuid.Next(), DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: p.reached + 1,
		AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, InactiveThreshold: consumerIdle, Replicas: 1, MemoryStorage: true,
	})
	if err != nil {
		return fmt.Errorf("making a consumer: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(pumpBytes), jetstream.PullHeartbeat(pumpHeartbeat),
		jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	p.rounds = 0 // those of another read do not count
	if err := p.hold(ctx); err != nil {
		return err
	}
	wait := pumpWait
	for delivered := uint64(0); ; {
		m, err := messages.Next(jetstream.NextMaxWait(wait))
		switch {
		case errors.Is(err, nats.ErrTimeout):
			if wait, err = p.idle(ctx, wait); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if delivered++; meta.Sequence.Consumer != delivered {
			return fmt.Errorf("message %d was delivered where %d was expected", meta.Sequence.Consumer, delivered)
		}
		if err := p.take(ctx, m); err != nil {
			return err
		}
		wait = pumpWait
	}
}

// idle looks why no message came, and says how long to wait for the next. A server that has fallen behind its cluster sends
// heartbeats and no messages: that shows in the end that the leader knows.
func (p *pump) idle(ctx context.Context, waited time.Duration) (time.Duration, error) {
	if p.holding { // perhaps the end was a tombstone, and has expired
		if err := p.hold(ctx); err != nil {
			return 0, err
		}
	}
	end, err := p.end(ctx)
	switch {
	case err != nil:
		return 0, fmt.Errorf("looking for the catalog's end: %w", err)
	case end <= p.reached:
		return pumpWait, nil
	case waited == laggardWait:
		return 0, fmt.Errorf("the server that delivers is behind: it sent %d, the leader has %d", p.reached, end)
	}
	return laggardWait, nil
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
