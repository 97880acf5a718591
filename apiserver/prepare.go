package apiserver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// Limits of preparations.
const (
	maxPreparations = 4                // at a time: unpacking is bound by disk and CPU
	prepareLimit    = 5 * time.Minute  // of one, the upload's largest tree on a slow disk
	imageLimit      = 30 * time.Minute // of one that fetches a container image
	sweepPause      = 5 * time.Second  // between looks for work that failed or that another process left
	giveUpAfter     = time.Minute      // of a preparation that fails for reasons of the server's own
	sweepBatch      = 10000
)

// preparation is the pool that makes versions ready. The work stands in the catalog, so none is forgotten in a crash; the
// pool is told what this server adds, and looks there every now and then.
type preparation struct {
	woken chan struct{}

	mu      sync.Mutex
	told    []catalog.Work // not looked at yet
	running map[catalog.Work]bool
	failing map[catalog.Work]time.Time // since when the server itself fails at it
}

func newPreparation() preparation {
	return preparation{woken: make(chan struct{}, 1), running: make(map[catalog.Work]bool), failing: make(map[catalog.Work]time.Time)}
}

// wake tells the pool of work. Of too much it forgets the rest: that is found in the catalog.
func (p *preparation) wake(work ...catalog.Work) {
	p.mu.Lock()
	if len(p.told) < sweepBatch {
		p.told = append(p.told, work...)
	}
	p.mu.Unlock()
	select {
	case p.woken <- struct{}{}:
	default: // it will look anyway
	}
}

// take returns what the pool was told.
func (p *preparation) take() []catalog.Work {
	p.mu.Lock()
	defer p.mu.Unlock()
	work := p.told
	p.told = nil
	return work
}

// claim marks work as running; false if it is already.
func (p *preparation) claim(w catalog.Work) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[w] {
		return false
	}
	p.running[w] = true
	return true
}

func (p *preparation) release(w catalog.Work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, w)
}

// hopeless notes whether the server itself failed at work, and reports true when it has for giveUpAfter.
func (p *preparation) hopeless(w catalog.Work, failed bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, known := p.failing[w]
	switch {
	case !failed:
		delete(p.failing, w)
		return false
	case !known:
		p.failing[w] = time.Now()
		return false
	case time.Since(since) < giveUpAfter:
		return false
	}
	delete(p.failing, w)
	return true
}

// runPreparations works until ctx ends and nothing runs any more.
func (s *Server) runPreparations(ctx context.Context) {
	var pool sync.WaitGroup
	defer pool.Wait()
	slots := make(chan struct{}, maxPreparations)
	ticker := time.NewTicker(sweepPause)
	defer ticker.Stop()
	work := s.cfg.Catalog.Pending(sweepBatch)
	for {
		for _, w := range work {
			if !s.prepare.claim(w) {
				continue
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				s.prepare.release(w)
				return
			}
			pool.Go(func() {
				defer func() { <-slots }()
				s.work(ctx, w)
			})
		}
		select {
		case <-s.prepare.woken:
			work = s.prepare.take()
		case <-ticker.C:
			work = s.cfg.Catalog.Pending(sweepBatch)
		case <-ctx.Done():
			return
		}
	}
}

// work does one piece of work. What fails is left in the catalog, for the next look.
func (s *Server) work(ctx context.Context, w catalog.Work) {
	var again bool
	var err error
	if w.Number == "" {
		err = s.cfg.Catalog.Remove(ctx, w.ID)
	} else {
		again, err = s.prepareVersion(ctx, w)
	}
	s.prepare.release(w)
	if again {
		s.prepare.wake(w)
	}
	if err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "background work failed; it will be tried again", "account", w.Account, "function", w.Name,
			"version", w.Number, "err", err)
	}
}

// prepareVersion makes a version ready and records the result. again tells that the version is another one by now: its
// own preparation could not be claimed while this ran.
func (s *Server) prepareVersion(ctx context.Context, w catalog.Work) (again bool, err error) {
	v, ok := s.cfg.Catalog.Version(w.ID, w.Number)
	if !ok {
		return false, nil // deleted meanwhile
	}
	limit := prepareLimit
	if v.Image != nil {
		limit = imageLimit
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = s.callPreparer(limited, &v.Version)
	if err != nil && ctx.Err() != nil {
		return false, err // the server is shutting down: whatever the error says, the next start tries again
	}
	var refused *lambda.Error
	own := err != nil && !errors.As(err, &refused)
	if s.prepare.hopeless(w, own) {
		refused = lambda.Errorf(lambda.ServiceFailure, "The server could not make the code ready: an internal error occurred. "+
			"Update the function to try again; the server's log has details.")
	} else if own {
		return false, fmt.Errorf("prepare: %w", err)
	}
	var failure *catalog.Failure
	if refused != nil {
		failure = &catalog.Failure{Reason: refused.Message, Code: string(reasonCode(refused.Code))}
		if v.Image != nil && refused.Code == lambda.InvalidParameterValue {
			failure.Code = string(types.StateReasonCodeInvalidImage)
		}
		s.log.WarnContext(ctx, "function cannot run", "account", w.Account, "function", w.Name, "version", w.Number, "reason", refused.Message, "err", err)
	}
	if err := s.cfg.Catalog.Finish(ctx, w, v.ConfigID, failure); err != nil {
		return false, fmt.Errorf("record the end of a preparation: %w", err)
	}
	now, ok := s.cfg.Catalog.Version(w.ID, w.Number)
	return ok && now.ConfigID != v.ConfigID, nil
}

// callPreparer turns a panic into an error: one bad upload must not end the server.
func (s *Server) callPreparer(ctx context.Context, v *lambda.Version) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "preparer panicked", "function", v.Function, "panic", p, "stack", string(debug.Stack()))
			err = lambda.Errorf(lambda.ServiceFailure, "The server could not prepare this function. Its log has details.")
		}
	}()
	return s.cfg.Preparer.Prepare(ctx, v)
}

// reasonCode is the StateReasonCode of an error.
func reasonCode(c lambda.Code) types.StateReasonCode {
	switch c {
	case lambda.InvalidRuntime:
		return types.StateReasonCodeInvalidRuntime
	case lambda.InvalidZipFile:
		return types.StateReasonCodeInvalidZipFileException
	case lambda.InvalidParameterValue:
		return types.StateReasonCodeInvalidConfiguration
	}
	return types.StateReasonCodeInternalError
}

// wakeFor has a function's $LATEST prepared, and the version that was published of it, if any.
func (s *Server) wakeFor(f *catalog.Function, published *catalog.Version) {
	work := []catalog.Work{{ID: f.ID(), Number: lambda.Latest}}
	if published != nil {
		work = append(work, catalog.Work{ID: f.ID(), Number: published.Number})
	}
	s.prepare.wake(work...)
}
