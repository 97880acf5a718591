// Package control is the role for background work: one process of the cluster at a time runs a list of tasks, among them the
// one that makes ring versions.
//
// Which process that is, is decided by a lease in the catalog's store: a record that its holder writes anew, and that
// another takes over by compare-and-set once it is stale. Two may believe to be elected for a moment (a process that was
// stopped for longer than its lease), so every act of a task must be harmless when two do it: a compare-and-set, or a
// step that can be repeated.
package control

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"berth/sleep"
	"berth/store"
)

// Task is background work that one process of the cluster does at a time.
type Task struct {
	Name string
	// Run works until ctx ends. It is started again, with a pause, when it returns earlier.
	Run func(ctx context.Context) error
}

// Config of a Control.
type Config struct {
	ID string // of this start of this process: no two are ever equal
	// Store holds the lease; nil where this process is the whole cluster.
	Store store.Catalog
	// Alive reports whether the heartbeats of a holder's process are heard. What is silent loses its lease sooner. nil: only
	// time counts.
	Alive func(holder string) bool
	Tasks []Task
	Log   *slog.Logger
}

// Control is the role in one process.
type Control struct {
	cfg     Config
	elected atomic.Bool
}

// New makes a Control that does nothing before Run.
func New(cfg Config) *Control { return &Control{cfg: cfg} }

// Elected reports whether this process runs the tasks now.
func (c *Control) Elected() bool { return c.elected.Load() }

// Run takes part in the election until ctx ends, and runs the tasks while elected. It returns when all of them have.
func (c *Control) Run(ctx context.Context) error {
	if c.cfg.Store == nil {
		c.work(ctx)
		return nil
	}
	for ctx.Err() == nil {
		l, ok := c.campaign(ctx)
		if !ok {
			break
		}
		c.serve(ctx, l)
	}
	return nil
}

// serve runs the tasks for as long as the lease is held.
func (c *Control) serve(ctx context.Context, l *lease) {
	c.cfg.Log.Info("this process does the cluster's background work now", "term", l.record.Term)
	elected, stop := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { c.work(elected) })
	held := l.keep(ctx)
	stop()
	working.Wait()
	if held {
		l.release()
		return
	}
	c.cfg.Log.Warn("this process does the background work no longer: its lease is over", "term", l.record.Term)
}

// work runs all tasks until ctx ends.
func (c *Control) work(ctx context.Context) {
	c.elected.Store(true)
	defer c.elected.Store(false)
	var running sync.WaitGroup
	defer running.Wait()
	for _, t := range c.cfg.Tasks {
		running.Go(func() { c.repeat(ctx, t) })
	}
	<-ctx.Done()
}

// Pauses before a task that ended is started again; doubled each time, back to the first after a run of some length.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

func (c *Control) repeat(ctx context.Context, t Task) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := t.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		if err == nil {
			err = errors.New("it should run until told to stop")
		}
		c.cfg.Log.Warn("background work ended and is started again", "task", t.Name, "in", pause, "err", err)
		if !sleep.For(ctx, pause) {
			return
		}
	}
}
