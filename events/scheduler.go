package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"berth/catalog"
	"berth/lambda"
	"berth/sleep"
	"berth/store"
)

// Limits of schedules.
const (
	lookInterval = 250 * time.Millisecond // how late a tick may be noticed
	// lateLimit is how late a tick may still fire, say after a restart. An older one counts as missed, and is reported.
	lateLimit = time.Minute
	// maxCaughtUp bounds how many ticks of one schedule are settled at one time.
	maxCaughtUp = 10_000
)

// Scheduler fires schedules. Any number of processes may run one: a tick's event has an id that follows from schedule and tick,
// so the queue stores it once, and what has been fired is noted in the catalog.
type Scheduler struct {
	inbox   *Inbox
	catalog *catalog.Catalog
	log     *slog.Logger
	known   map[string]plan // ACCOUNT/NAME → when it is due; of Run's goroutine only
}

// plan is when a schedule is due, valid while its Last and Created are.
type plan struct {
	last, created time.Time
	ticks         catalog.Ticks
	next          time.Time
}

// NewScheduler makes a Scheduler. It starts nothing.
func NewScheduler(q store.Queue, cat *catalog.Catalog, log *slog.Logger) *Scheduler {
	if log == nil {
		log = slog.Default()
	}
	return &Scheduler{inbox: NewInbox(q), catalog: cat, log: log, known: map[string]plan{}}
}

// Run fires schedules until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	for sleep.For(ctx, lookInterval) {
		all := s.catalog.Schedules("")
		if len(all) < len(s.known) {
			clear(s.known) // some were removed
		}
		now := time.Now()
		for _, one := range all {
			if err := s.look(ctx, one, now); err != nil && ctx.Err() == nil {
				s.log.Warn("a schedule cannot be fired; trying again", "account", one.Account, "schedule", one.Name, "err", err)
			}
		}
	}
	return nil
}

// look fires a schedule that is due.
func (s *Scheduler) look(ctx context.Context, one *catalog.Schedule, now time.Time) error {
	key := string(one.Account) + "/" + one.Name
	p, ok := s.known[key]
	if !ok || !p.last.Equal(one.Last) || !p.created.Equal(one.Created) {
		ticks, err := one.Ticks()
		if err != nil {
			return err
		}
		p = plan{one.Last, one.Created, ticks, ticks.Next(one.Last)}
		s.known[key] = p
	}
	if p.next.IsZero() || p.next.After(now) {
		return nil
	}
	return s.fire(ctx, one, p, now)
}

// fire settles the ticks up to now: those of the last minute are queued, older ones are missed.
func (s *Scheduler) fire(ctx context.Context, one *catalog.Schedule, p plan, now time.Time) error {
	last, fired, missed := one.Last, 0, 0
	var lastMissed time.Time
	var failure error
	for tick, n := p.next, 0; !tick.IsZero() && !tick.After(now) && n < maxCaughtUp; tick, n = p.ticks.Next(tick), n+1 {
		last = tick
		if now.Sub(tick) > lateLimit {
			missed, lastMissed = missed+1, tick
			continue
		}
		if failure = s.queue(ctx, one, tick); failure != nil && lambda.CodeOf(failure) == lambda.ServiceFailure {
			return failure // it is tried again, while it is not too late
		}
		if failure == nil {
			fired++
		}
	}
	ours := false
	err := s.catalog.SettleSchedule(ctx, one.Account, one.Name, func(now *catalog.Schedule) bool {
		ours = false
		if !now.Created.Equal(one.Created) || !now.Last.Before(last) {
			return false // another process has settled them, or it is another schedule of that name
		}
		now.Last, now.Fired, now.Missed = last, now.Fired+fired, now.Missed+missed
		if missed > 0 {
			now.LastMissed = lastMissed
		}
		if now.Failure = ""; failure != nil {
			now.Failure = failure.Error()
		}
		ours = true
		return true
	})
	if err == nil && ours && missed > 0 {
		s.log.Warn("ticks of a schedule were missed: no server ran", "account", one.Account, "schedule", one.Name, "missed", missed, "newest", lastMissed)
	}
	if lambda.CodeOf(err) == lambda.ResourceNotFound {
		return nil // it was removed meanwhile
	}
	return err
}

// queue makes the event of one tick.
func (s *Scheduler) queue(ctx context.Context, one *catalog.Schedule, tick time.Time) error {
	ref, err := lambda.ParseRef(one.Function, "", one.Account, s.catalog.Region())
	if err != nil {
		return err
	}
	if _, err := s.catalog.Resolve(ref); lambda.CodeOf(err) == lambda.ResourceNotFound {
		return err
	}
	payload := []byte(one.Payload)
	if len(payload) == 0 {
		if payload, err = json.Marshal(map[string]string{"schedule": one.Name, "time": tick.UTC().Format(time.RFC3339)}); err != nil {
			return err
		}
	}
	name := fmt.Sprintf("%s/%s@%s %s", one.Account, one.Name, tick.UTC().Format(time.RFC3339Nano), one.Created.UTC().Format(time.RFC3339Nano))
	err = s.inbox.push(ctx, &Event{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)).String(), Account: ref.Account, Region: ref.Region, Function: ref.Function,
		Qualifier: ref.Qualifier, Accepted: time.Now(), Payload: payload,
	})
	if errors.Is(err, store.ErrInvalid) {
		return lambda.Errorf(lambda.InvalidParameterValue, "%v", err)
	}
	return err
}
