package jetstream

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/store"
)

// stored is a message as a consumer delivers it.
type stored struct {
	jetstream.Msg
	sequence uint64
	subject  string
	header   nats.Header
	data     []byte
}

func (m stored) Subject() string      { return m.subject }
func (m stored) Headers() nats.Header { return m.header }
func (m stored) Data() []byte         { return m.data }
func (m stored) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: m.sequence}}, nil
}

// model is a stream that keeps one message of each subject, and remembers the catalog's state after each batch.
type model struct {
	last   map[string]stored
	end    uint64
	state  map[store.Key]string
	states []map[store.Key]string
}

func (s *model) apply(keys []int) {
	id := fmt.Sprint("batch-", s.end)
	for i, k := range keys {
		s.end++
		m := stored{sequence: s.end, subject: subject(store.Key(fmt.Sprint("k/", k))), header: nats.Header{}}
		value := []byte(strconv.FormatUint(s.end, 10))
		if s.end%7 == 0 {
			value = nil
		}
		m.data = encodeRecord(m.subject, value)
		if len(keys) > 1 {
			m.header.Set(headerBatch, id)
		}
		if len(keys) > 1 && i == len(keys)-1 {
			m.header.Set(headerCommit, "1")
		}
		s.last[m.subject] = m
		if value == nil {
			delete(s.state, keyOf(m.subject))
		} else {
			s.state[keyOf(m.subject)] = string(value)
		}
	}
	s.states = append(s.states, maps.Clone(s.state))
}

// next is the first message after a sequence, as a consumer finds it.
func (s *model) next(after uint64) (found stored, ok bool) {
	for _, m := range s.last {
		if m.sequence > after && (!ok || m.sequence < found.sequence) {
			found, ok = m, true
		}
	}
	return found, ok
}

// TestPumpIsWhole lets the pump lag behind a writer in every way: what it publishes must always be the catalog's state after
// some whole batch, never an older one than before, and the newest once the writer rests.
func TestPumpIsWhole(t *testing.T) {
	const keys = 5
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := &model{last: map[string]stored{}, state: map[store.Key]string{}, states: []map[store.Key]string{{}}}
		write := func() { s.apply(random.Perm(keys)[:1+random.IntN(3)]) }
		for range random.IntN(8) {
			write()
		}
		feed := store.NewFeed()
		p := &pump{feed: feed, log: slog.New(slog.DiscardHandler), end: func(context.Context) (uint64, error) { return s.end, nil }}
		if err := p.hold(t.Context()); err != nil {
			t.Fatal(err)
		}
		at := 0 // the state that the feed has reached
		check := func() {
			got := map[store.Key]string{}
			for k := range keys {
				if e, ok := feed.Get(store.Key(fmt.Sprint("k/", k))); ok {
					got[e.Key] = string(e.Value)
				}
			}
			for i := at; i < len(s.states); i++ {
				if maps.Equal(got, s.states[i]) {
					at = i
					return
				}
			}
			t.Fatalf("seed %d: the feed has %v at %d, which the catalog never was since state %d; its states: %v", seed, got, p.reached, at, s.states)
		}
		lag := 1 + random.IntN(6)
		for range 200 {
			if random.IntN(lag+1) > 0 {
				write()
			} else if m, ok := s.next(p.reached); ok {
				if err := p.take(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			check()
		}
		for m, ok := s.next(p.reached); ok; m, ok = s.next(p.reached) {
			if err := p.take(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			check()
		}
		if !maps.Equal(s.states[at], s.state) || p.holding {
			t.Fatalf("seed %d: in the end the feed has state %d of %d, holding %v", seed, at, len(s.states)-1, p.holding)
		}
	}
}
