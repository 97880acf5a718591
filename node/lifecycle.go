package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// stopLimit bounds how long one part may take to stop. Whatever still runs then dies with the process, which is the usual
// way for it to die anyway.
const stopLimit = 20 * time.Second

// lifecycle is the ordered list of what was started, undone in reverse. A part that ends by itself with an error ends the
// whole node.
type lifecycle struct {
	log    *slog.Logger
	parts  []part
	drain  func(context.Context) error // of what is under way, when told to stop and before anything is; may be nil
	failed chan error                  // buffered: the first failure counts
}

type part struct {
	name string
	stop func(context.Context) error
}

func newLifecycle(log *slog.Logger) *lifecycle {
	return &lifecycle{log: log, failed: make(chan error, 1)}
}

// onStop adds a part that needs no goroutine.
func (l *lifecycle) onStop(name string, stop func(context.Context) error) {
	l.parts = append(l.parts, part{name, stop})
}

// run starts a part's Run and adds its stopping.
func (l *lifecycle) run(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			l.fail(fmt.Errorf("%s ended: %w", name, errors.Join(err, errStoppedByItself)))
		}
		done <- err
	}()
	l.onStop(name, func(limit context.Context) error {
		cancel()
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		case <-limit.Done():
			return limit.Err()
		}
	})
}

var errStoppedByItself = errors.New("it should run until told to stop")

func (l *lifecycle) fail(err error) {
	select {
	case l.failed <- err:
	default:
	}
}

// wait returns when ctx ends (nil) or a part has failed.
func (l *lifecycle) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.failed:
		return err
	}
}

// runDry waits until what is under way has ended, for so long at most. A part that fails meanwhile ends it.
func (l *lifecycle) runDry(limit time.Duration) error {
	if l.drain == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.drain(ctx) }()
	select {
	case err := <-done:
		return err
	case err := <-l.failed:
		cancel()
		<-done
		return err
	}
}

// stop undoes everything, last first, and returns what went wrong.
func (l *lifecycle) stop() error {
	var errs []error
	for i := len(l.parts) - 1; i >= 0; i-- {
		p := l.parts[i]
		ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
		began := time.Now()
		if err := p.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", p.name, err))
		}
		cancel()
		l.log.Debug("stopped", "part", p.name, "took", time.Since(began))
	}
	return errors.Join(errs...)
}
