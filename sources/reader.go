package sources

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"berth/catalog"
	"berth/filter"
	"berth/lambda"
	"berth/queues"
)

// Limits and times of one mapping.
const (
	defaultConcurrency = 50                     // batches at once, where the mapping says nothing (the service begins with 5 and goes up to 1,250)
	defaultBatch       = 10                     // messages
	firstPause         = time.Second            // after a failure to read or to invoke; doubled each time
	lastPause          = 30 * time.Second       // of these
	fifoWait           = 2 * time.Second        // not every server notices, while it lets a reader wait, that a group has become free
	idlePause          = 200 * time.Millisecond // between tries, where a server does not wait for messages
	noteLimit          = 5 * time.Second        // to write a problem down
	maxProblem         = 400                    // bytes
	// retryShare is the part of the visibility timeout in which a batch that was throttled is tried again: the rest is for the
	// function to run before the messages show up again.
	retryShare = 0.5
)

// reader reads one mapping's queue.
type reader struct {
	cfg     *Config
	account lambda.AccountID
	mapping *catalog.Mapping
	arn     string
	batch   int
	window  time.Duration
	partial bool // the function reports which messages failed
	filters []*filter.Pattern
	broken  error // a filter that cannot be used
	slots   *semaphore.Weighted
	log     *slog.Logger
	problem string // as the catalog has it; of run's goroutine only
	hidden  time.Duration
}

func newReader(cfg *Config, account lambda.AccountID, m *catalog.Mapping, set *types.EventSourceMappingConfiguration, log *slog.Logger) *reader {
	r := &reader{cfg: cfg, account: account, mapping: m, arn: m.Sources[0], problem: m.Problem, log: log,
		batch: int(aws.ToInt32(set.BatchSize)), window: time.Duration(aws.ToInt32(set.MaximumBatchingWindowInSeconds)) * time.Second}
	if r.batch <= 0 {
		r.batch = defaultBatch
	}
	concurrency := int64(defaultConcurrency)
	if set.ScalingConfig != nil && set.ScalingConfig.MaximumConcurrency != nil {
		concurrency = int64(max(*set.ScalingConfig.MaximumConcurrency, 1))
	}
	r.slots = semaphore.NewWeighted(concurrency)
	for _, t := range set.FunctionResponseTypes {
		r.partial = r.partial || t == types.FunctionResponseTypeReportBatchItemFailures
	}
	if set.FilterCriteria != nil {
		for _, f := range set.FilterCriteria.Filters {
			p, err := filter.Parse(aws.ToString(f.Pattern))
			if err != nil {
				r.broken = fmt.Errorf("the filter %.200s: %w", aws.ToString(f.Pattern), err)
				continue
			}
			r.filters = append(r.filters, p)
		}
	}
	return r
}

// run reads until reading ends, and returns when what it has received is processed, or life has ended.
func (r *reader) run(reading, life context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	for pause := firstPause; r.slots.Acquire(reading, 1) == nil; {
		batch, err := r.receive(reading)
		if len(batch) > 0 {
			received := time.Now()
			working.Go(func() {
				defer r.slots.Release(1)
				r.process(life, batch, received)
			})
		} else {
			r.slots.Release(1)
		}
		if reading.Err() != nil {
			return
		}
		r.note(reading, err)
		if err == nil {
			pause = firstPause
			continue
		}
		pauseFor(reading, pause)
		pause = min(2*pause, lastPause)
	}
}

// receive takes a batch: what comes within the window, or what is there. It may return messages and an error.
func (r *reader) receive(ctx context.Context) ([]queues.Message, error) {
	if r.broken != nil {
		return nil, r.broken
	}
	if _, err := r.cfg.Catalog.Resolve(r.ref()); err != nil {
		return nil, fmt.Errorf("the function cannot be invoked: %w", err)
	}
	if r.hidden == 0 {
		hidden, err := r.cfg.Queues.Visibility(ctx, r.arn)
		if err != nil {
			return nil, err
		}
		r.hidden = max(hidden, time.Second)
	}
	asked := time.Now()
	wait := queues.MaxWait
	if strings.HasSuffix(r.arn, ".fifo") {
		wait = fifoWait
	}
	batch, err := r.cfg.Queues.Receive(ctx, r.arn, r.batch, wait)
	if err != nil || len(batch) == 0 {
		if errors.Is(err, queues.ErrNoQueue) {
			r.hidden = 0
		}
		if err == nil && time.Since(asked) < idlePause {
			pauseFor(ctx, idlePause)
		}
		return batch, err
	}
	for until := time.Now().Add(r.window); len(batch) < r.batch && size(batch) < lambda.MaxPayload && ctx.Err() == nil; {
		left := time.Until(until)
		if left <= 0 {
			break
		}
		if left < time.Second { // the protocol waits in whole seconds
			pauseFor(ctx, left)
		}
		more, err := r.cfg.Queues.Receive(ctx, r.arn, r.batch-len(batch), left)
		if err != nil {
			return batch, err
		}
		batch = append(batch, more...)
	}
	return batch, nil
}

func size(batch []queues.Message) (n int) {
	for i := range batch {
		n += len(batch[i].Body)
	}
	return n
}

// ref is the mapping's function. The ARN was parsed when the mapping was made.
func (r *reader) ref() lambda.Ref {
	ref, err := lambda.ParseRef(r.mapping.Function, "", r.account, r.cfg.Catalog.Region())
	if err != nil {
		r.log.Error("an event source mapping names no function", "err", err)
	}
	return ref
}

// note keeps in the catalog why nothing comes, for GetEventSourceMapping to show.
func (r *reader) note(ctx context.Context, problem error) {
	text := ""
	if problem != nil {
		text = fmt.Sprintf("%.*s", maxProblem, problem)
	}
	if text == r.problem {
		return
	}
	if problem != nil {
		r.log.Warn("an event source cannot be read; trying again", "err", problem)
	}
	ctx, cancel := context.WithTimeout(ctx, noteLimit)
	defer cancel()
	if err := r.cfg.Catalog.NoteMapping(ctx, r.account, r.mapping.UUID, text); err != nil {
		r.log.Warn("the state of an event source mapping cannot be noted", "err", err)
		return
	}
	r.problem = text
}

// process invokes the function with a batch and deletes what need not come again.
func (r *reader) process(ctx context.Context, batch []queues.Message, received time.Time) {
	batch, done := r.filtered(batch)
	for _, part := range r.payloads(batch) {
		out, err := r.invoke(ctx, part.payload, received)
		switch {
		case ctx.Err() != nil: // the process stops: they show up again
			return
		case err != nil:
			r.log.Warn("a batch could not be given to its function; its messages show up again", "messages", len(part.messages), "err", err)
		case out.FunctionError != "":
			r.log.Debug("a function failed for a batch; its messages show up again", "messages", len(part.messages))
		case r.partial:
			done = append(done, succeeded(part.messages, out.Payload)...)
		default:
			done = append(done, part.messages...)
		}
	}
	if len(done) == 0 {
		return
	}
	receipts := make([]string, len(done))
	for i := range done {
		receipts[i] = done[i].Receipt
	}
	if err := r.cfg.Queues.Delete(ctx, r.arn, receipts); err != nil && ctx.Err() == nil {
		r.log.Warn("processed messages could not be deleted; they show up again", "err", err)
	}
}

// filtered splits a batch into what the function gets, and what no filter matches: that is deleted.
func (r *reader) filtered(batch []queues.Message) (matched, not []queues.Message) {
	if len(r.filters) == 0 {
		return batch, nil
	}
	for i := range batch {
		record, ok := filterable(&batch[i]), false
		for _, p := range r.filters {
			ok = ok || p.Match(record)
		}
		if ok {
			matched = append(matched, batch[i])
		} else {
			not = append(not, batch[i])
		}
	}
	return matched, not
}

// invoke runs the function. Throttles and errors of the server's own are tried again for as long as the messages are hidden.
func (r *reader) invoke(ctx context.Context, payload []byte, received time.Time) (*lambda.Outcome, error) {
	until := received.Add(time.Duration(float64(r.hidden) * retryShare))
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		out, err := r.cfg.Invoker.Invoke(ctx, r.ref(), &lambda.Invocation{RequestID: uuid.NewString(), Payload: payload})
		if err == nil || !again(lambda.CodeOf(err)) || time.Now().Add(pause).After(until) {
			return out, err
		}
		pauseFor(ctx, pause)
	}
}

// pauseFor waits, or until ctx ends.
func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// again reports whether the same invocation may go well a little later.
func again(c lambda.Code) bool {
	return c == lambda.TooManyRequests || c == lambda.ServiceFailure || c == lambda.ResourceConflict
}
