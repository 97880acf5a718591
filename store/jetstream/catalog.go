package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/semaphore"

	"berth/store"
)

// Limits of writing.
const (
	writeTimeout = 20 * time.Second // a write in all; the loss of a leader stops writes for 4–12 s
	tryTimeout   = 6 * time.Second  // one try
	duplicates   = 30 * time.Second // how long the server knows a write by its id: longer than it is retried
	firstRetry   = 20 * time.Millisecond
	lastRetry    = time.Second

	// What may be on its way to the server at one time. The server's own queue refuses beyond 128 MiB or 100,000 messages.
	maxBytesInFlight = 64 << 20
	messageOverhead  = 4 << 10 // counted per message, so that many small ones are limited too

	maxResolves = 5 // rounds of finding out that a key which must be absent has a tombstone
)

// Headers that the server interprets (ADR-8, ADR-43, ADR-50 of NATS).
const (
	headerExpect = "Nats-Expected-Last-Subject-Sequence"
	headerTTL    = "Nats-TTL"
	headerBatch  = "Nats-Batch-Id"
	headerIndex  = "Nats-Batch-Sequence"
	headerCommit = "Nats-Batch-Commit"
)

// catalog implements store.Catalog on a stream that keeps the last message of each subject. A subject is a key, a stream
// sequence a revision, and a deletion a tombstone message, which expires.
type catalog struct {
	engine     *Engine
	stream     jetstream.Stream
	background context.Context // of the pump: ends with Close
	inFlight   *semaphore.Weighted

	mu   sync.Mutex
	feed *store.Feed // what all watches read; nil until the first
}

func catalogConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               "BERTH_CATALOG",
		Subjects:           []string{catalogSubject + ">"},
		Storage:            jetstream.FileStorage,
		MaxMsgsPerSubject:  1,
		AllowAtomicPublish: true,
		AllowMsgTTL:        true,
		Duplicates:         duplicates,
		DenyPurge:          true,
		// No direct get: a replica may answer it, and would not know a write that was just acknowledged.
	}
}

// Get implements store.Catalog.
func (c *catalog) Get(ctx context.Context, key store.Key) (store.Entry, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	m, err := c.engine.lastMessage(ctx, c.stream, subject(key))
	if err != nil {
		return store.Entry{}, fmt.Errorf("entry %q: %w", key, err)
	}
	value, err := decodeRecord(m.Subject, m.Data)
	if err != nil {
		return store.Entry{}, err
	}
	if value == nil {
		return store.Entry{}, fmt.Errorf("entry %q: %w", key, store.ErrNotFound)
	}
	return store.Entry{Key: key, Value: value, Revision: store.Revision(m.Sequence)}, nil
}

// Apply implements store.Catalog. Several callers' writes are not joined into one batch: one failed expectation would fail
// them all. The retries of a write whose answer is lost are told apart from somebody else's write by the id of the write.
func (c *catalog) Apply(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	if err := store.CheckOps(ops); err != nil {
		return 0, err
	}
	size := 0
	for _, op := range ops {
		size += len(op.Value) + messageOverhead
	}
	if err := c.engine.room(size); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := c.inFlight.Acquire(ctx, int64(size)); err != nil {
		return 0, fmt.Errorf("waiting to write %q: %w", ops[0].Key, err)
	}
	defer c.inFlight.Release(int64(size))

	var tombstones map[store.Key]store.Revision
	for range maxResolves {
		r, err := c.write(ctx, ops, tombstones)
		if !errors.Is(err, store.ErrConflict) {
			return r, err
		}
		found, err2 := c.tombstones(ctx, ops)
		if err2 != nil {
			return 0, err2
		}
		if len(found) == 0 {
			return 0, err
		}
		tombstones = found
	}
	return 0, fmt.Errorf("%q and its neighbours change too fast: %w", ops[0].Key, store.ErrConflict)
}

// tombstones finds which of the keys that must be absent have a tombstone: those are absent, but to the server the
// tombstone is their last message. It finds none if one of those keys is present, since then the conflict is a real one.
func (c *catalog) tombstones(ctx context.Context, ops []store.Op) (map[store.Key]store.Revision, error) {
	found := map[store.Key]store.Revision{}
	for _, op := range ops {
		if op.Expect != store.Absent {
			continue
		}
		m, err := c.engine.lastMessage(ctx, c.stream, subject(op.Key))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", op.Key, err)
		}
		value, err := decodeRecord(m.Subject, m.Data)
		if err != nil {
			return nil, err
		}
		if value != nil {
			return nil, nil
		}
		found[op.Key] = store.Revision(m.Sequence)
	}
	return found, nil
}

// write publishes a batch until the server has answered it.
func (c *catalog) write(ctx context.Context, ops []store.Op, tombstones map[store.Key]store.Revision) (store.Revision, error) {
	id := nuid.Next()
	messages := c.messages(ops, tombstones, id)
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		r, err := c.try(ctx, messages)
		if err == nil || !errors.Is(err, errRetry) && wait == firstRetry {
			return r, err
		}
		if !errors.Is(err, errRetry) { // an answer, but perhaps about an earlier try that went through
			return c.settle(ctx, messages[len(messages)-1], err)
		}
		if full := c.engine.room(0); full != nil { // what the server cannot write it does not answer
			return 0, fmt.Errorf("the write of %q was not acknowledged, start again after making room (%v): %w", ops[0].Key, full, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, fmt.Errorf("the write of %q was not acknowledged in time (%w), it may have been applied: %w", ops[0].Key, ctx.Err(), err)
		}
		if len(messages) > 1 { // a batch id is good for one try; the message ids stay
			setBatch(messages, nuid.Next())
		}
	}
}

func (c *catalog) messages(ops []store.Op, tombstones map[store.Key]store.Revision, id string) []*nats.Msg {
	messages := make([]*nats.Msg, len(ops))
	for i, op := range ops {
		m := nats.NewMsg(subject(op.Key))
		m.Data = encodeRecord(m.Subject, op.Value)
		if expect, dead := tombstones[op.Key]; dead {
			op.Expect = expect
		}
		if op.Expect != store.Any {
			m.Header[headerExpect] = []string{strconv.FormatUint(uint64(op.Expect), 10)}
		}
		if op.Value == nil {
			m.Header[headerTTL] = []string{c.engine.config.TombstoneAge.String()}
		}
		messages[i] = m
	}
	messages[len(messages)-1].Header[nats.MsgIdHdr] = []string{id}
	if len(messages) > 1 {
		setBatch(messages, id)
	}
	return messages
}

func setBatch(messages []*nats.Msg, id string) {
	for i, m := range messages {
		m.Header[headerBatch] = []string{id}
		m.Header[headerIndex] = []string{strconv.Itoa(i + 1)}
	}
	messages[len(messages)-1].Header[headerCommit] = []string{"1"}
}

// try sends a batch and waits for its answer: those before the last are staged by the server, the last commits all.
func (c *catalog) try(ctx context.Context, messages []*nats.Msg) (store.Revision, error) {
	last := len(messages) - 1
	for _, m := range messages[:last] {
		if err := c.engine.conn.PublishMsg(m); err != nil {
			return 0, fmt.Errorf("%w: %w", errRetry, err)
		}
	}
	sequence, err := c.engine.request(ctx, messages[last])
	return store.Revision(sequence), err
}

// settle decides what a retried write came to: if the last record is the one of this write, an earlier try was applied.
// If not, the records were refused, or applied and overwritten since, and nobody can tell.
func (c *catalog) settle(ctx context.Context, last *nats.Msg, answer error) (store.Revision, error) {
	m, err := c.engine.lastMessage(ctx, c.stream, last.Subject)
	if err == nil && m.Header.Get(nats.MsgIdHdr) == last.Header.Get(nats.MsgIdHdr) {
		return store.Revision(m.Sequence), nil
	}
	return 0, fmt.Errorf("the write of %q was retried, whether it was applied is not known: %s", keyOf(last.Subject), answer)
}
