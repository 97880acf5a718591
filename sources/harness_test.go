package sources

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"berth/catalog"
	"berth/lambda"
	"berth/queues"
	"berth/store/memory"
)

const (
	account    = lambda.AccountID("000000000001")
	region     = "us-east-1"
	queueARN   = "arn:aws:sqs:us-east-1:000000000001:jobs"
	visibility = 30 * time.Second
)

// queue is a double: an SQS queue in memory and in virtual time.
type queue struct {
	mu       sync.Mutex
	messages []*stored
	missing  bool
}

type stored struct {
	queues.Message
	hidden   time.Time // until then
	received int
}

func (q *queue) put(bodies ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, body := range bodies {
		q.messages = append(q.messages, &stored{Message: queues.Message{ID: fmt.Sprintf("m%d", len(q.messages)), Body: body}})
	}
}

func (q *queue) Visibility(context.Context, string) (time.Duration, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.missing {
		return 0, queues.ErrNoQueue
	}
	return visibility, nil
}

func (q *queue) Receive(ctx context.Context, _ string, n int, wait time.Duration) ([]queues.Message, error) {
	for until := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		if got := q.take(min(n, queues.MaxReceive)); len(got) > 0 || !time.Now().Before(until) || ctx.Err() != nil {
			return got, ctx.Err()
		}
	}
}

func (q *queue) take(n int) (got []queues.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		if len(got) < n && !time.Now().Before(m.hidden) {
			m.hidden = time.Now().Add(visibility)
			m.received++
			m.Receipt = fmt.Sprintf("%s#%d", m.ID, m.received)
			m.System = map[string]string{"ApproximateReceiveCount": fmt.Sprint(m.received)}
			got = append(got, m.Message)
		}
	}
	return got
}

func (q *queue) Delete(_ context.Context, _ string, receipts []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range receipts {
		for i, m := range q.messages {
			if m.Receipt == r {
				q.messages = append(q.messages[:i:i], q.messages[i+1:]...)
				break
			}
		}
	}
	return nil
}

func (q *queue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.messages)
}

// world is a Runner with a catalog in memory, in virtual time.
type world struct {
	*testing.T
	catalog *catalog.Catalog
	queue   *queue
	elected bool
	mapping string

	mu      sync.Mutex
	batches [][]string // bodies, as the function got them
	at      []time.Duration
	running int
	most    int // that ran at once
	answer  func(n int, ids []string) (*lambda.Outcome, error)
	takes   time.Duration
	began   time.Time
}

func (w *world) Invoke(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error) {
	if _, err := w.catalog.Resolve(ref); err != nil {
		return nil, err
	}
	var event struct {
		Records []struct{ Body, MessageID string }
	}
	if err := json.Unmarshal(in.Payload, &event); err != nil || len(in.Payload) > lambda.MaxPayload || uuid.Validate(in.RequestID) != nil {
		w.Errorf("an event of %d bytes for %s: %v", len(in.Payload), in.RequestID, err)
	}
	var bodies, ids []string
	for _, r := range event.Records {
		bodies, ids = append(bodies, r.Body), append(ids, r.MessageID)
	}
	w.mu.Lock()
	w.batches, w.at = append(w.batches, bodies), append(w.at, time.Since(w.began))
	n, answer, takes := len(w.batches), w.answer, w.takes
	w.running++
	w.most = max(w.most, w.running)
	w.mu.Unlock()
	time.Sleep(takes)
	w.mu.Lock()
	w.running--
	w.mu.Unlock()
	if answer == nil {
		return &lambda.Outcome{Payload: []byte("null"), Class: lambda.OK}, ctx.Err()
	}
	return answer(n, ids)
}

func (w *world) seen() [][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([][]string(nil), w.batches...)
}

// in runs a test with a mapping of the settings, in virtual time.
func in(t *testing.T, settings string, test func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, catalog: catalog.New(memory.NewCatalog(), region), queue: &queue{}, elected: true, began: time.Now(), mapping: uuid.NewString()}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		all.Go(func() { _ = w.catalog.Run(ctx) })
		<-w.catalog.Ready()
		f, _, err := w.catalog.Create(ctx, catalog.Version{Version: lambda.Version{Account: account, Function: "f", Runtime: "python3.11", MemoryMB: 128}}, nil, false)
		if err == nil {
			err = w.catalog.Finish(ctx, catalog.Work{ID: f.ID(), Number: lambda.Latest}, f.Latest.ConfigID, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.catalog.CreateMapping(ctx, account, catalog.Mapping{UUID: w.mapping, Function: "arn:aws:lambda:us-east-1:000000000001:function:f", Sources: []string{queueARN},
			Enabled: true, Settings: json.RawMessage(settings)}, nil); err != nil {
			t.Fatal(err)
		}
		r := New(Config{Catalog: w.catalog, Invoker: w, Queues: w.queue, Log: slog.New(slog.DiscardHandler), Elected: func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.elected
		}})
		all.Go(func() { _ = r.Run(ctx) })
		test(w)
	})
}

func (w *world) change(edit func(*catalog.Mapping)) {
	w.Helper()
	if _, err := w.catalog.UpdateMapping(w.Context(), account, w.mapping, lambda.Errorf(lambda.ResourceNotFound, ""), func(m *catalog.Mapping) error {
		edit(m)
		m.Modified = time.Now()
		return nil
	}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) problem() string {
	m, ok := w.catalog.Mapping(account, w.mapping)
	if !ok {
		return "no mapping"
	}
	return m.Problem
}
