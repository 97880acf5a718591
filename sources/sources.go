// Package sources reads event sources for functions: it receives from the SQS queues of enabled event source mappings, in
// batches, invokes the mappings' functions with them, and deletes what was processed. One process of a cluster does it at a
// time. Nothing is lost when two do for a moment, or none: a queue shows a message to one reader at a time, and shows it
// again when it was not deleted.
package sources

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
	"berth/queues"
)

// lookInterval is how late a change of a mapping may be noticed.
const lookInterval = 500 * time.Millisecond

// Invoker runs invocations to their end. Errors are *lambda.Error; a function's own failure is an Outcome.
type Invoker interface {
	Invoke(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error)
}

// Queues is what receives; queues.Client is one.
type Queues interface {
	Visibility(ctx context.Context, arn string) (time.Duration, error)
	Receive(ctx context.Context, arn string, n int, wait time.Duration) ([]queues.Message, error)
	Delete(ctx context.Context, arn string, receipts []string) error
}

// Config is what a Runner needs. All members are required.
type Config struct {
	Catalog *catalog.Catalog
	Invoker Invoker
	Queues  Queues
	// Elected reports whether this process is the one that reads.
	Elected func() bool
	Log     *slog.Logger
}

// Runner reads for all enabled mappings of queues.
type Runner struct {
	cfg     Config
	readers map[string]*running // by the mapping's UUID; of Run's goroutine only
}

// running is a mapping that is read.
type running struct {
	modified time.Time
	stop     context.CancelFunc
	done     chan struct{}
}

// New makes a Runner that does nothing before Run.
func New(cfg Config) *Runner { return &Runner{cfg: cfg, readers: map[string]*running{}} }

// Run reads until ctx ends, and returns when all invocations that it made have ended.
func (r *Runner) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		r.look(ctx, &all)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookInterval):
		}
	}
}

// look starts readers for mappings that are new or changed, and stops those of others. A changed mapping is read on when what
// was received under its old settings has been processed.
func (r *Runner) look(ctx context.Context, all *sync.WaitGroup) {
	wanted := map[string]bool{}
	if r.cfg.Elected() {
		r.cfg.Catalog.EveryMapping(func(account lambda.AccountID, m *catalog.Mapping) {
			if !m.Enabled || len(m.Sources) != 1 || !strings.HasPrefix(m.Sources[0], "arn:") || !strings.Contains(m.Sources[0], ":sqs:") {
				return
			}
			wanted[m.UUID] = true
			known := r.readers[m.UUID]
			if known != nil && known.modified.Equal(m.Modified) {
				return
			}
			if known != nil {
				known.stop()
				select {
				case <-known.done:
				default:
					return // the next look
				}
			}
			r.start(ctx, all, account, m)
		})
	}
	for id, known := range r.readers {
		if wanted[id] {
			continue
		}
		known.stop()
		select {
		case <-known.done:
			delete(r.readers, id)
		default:
		}
	}
}

func (r *Runner) start(ctx context.Context, all *sync.WaitGroup, account lambda.AccountID, m *catalog.Mapping) {
	log := r.cfg.Log.With("account", account, "mapping", m.UUID, "function", m.Function, "source", m.Sources[0])
	set := new(types.EventSourceMappingConfiguration)
	if err := json.Unmarshal(m.Settings, set); err != nil {
		log.Error("an event source mapping cannot be read", "err", err)
		set = &types.EventSourceMappingConfiguration{}
	}
	reading, stop := context.WithCancel(ctx)
	one := newReader(&r.cfg, account, m, set, log)
	known := &running{modified: m.Modified, stop: stop, done: make(chan struct{})}
	r.readers[m.UUID] = known
	all.Go(func() {
		defer close(known.done)
		defer stop()
		one.run(reading, ctx)
	})
}
