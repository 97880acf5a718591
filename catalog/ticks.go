package catalog

import (
	"fmt"
	"time"

	cron "github.com/netresearch/go-cron"
)

// Limits of schedules.
const (
	MinRate = time.Second
	MaxRate = 366 * 24 * time.Hour
	maxCron = 256 // bytes of a cron expression
)

// Ticks tells when a schedule is to fire.
type Ticks interface {
	// Next returns the first tick after a time; the zero time when there is none.
	Next(after time.Time) time.Time
}

// Ticks reads the schedule's Cron or Rate. A cron expression has five fields (minute, hour, day of month, month, day of week)
// or is one of @hourly, @daily, @weekly, @monthly, @yearly; its times are UTC unless it begins with CRON_TZ=ZONE. The ticks of
// a rate count from the schedule's creation. The error says what is wrong, for the user.
func (s *Schedule) Ticks() (Ticks, error) {
	switch {
	case s.Cron != "" && s.Rate != 0:
		return nil, fmt.Errorf("a schedule has either a cron expression or a rate, not both")
	case s.Rate != 0:
		if s.Rate < MinRate || s.Rate > MaxRate {
			return nil, fmt.Errorf("the rate %v is not from %v to %v", s.Rate, MinRate, MaxRate)
		}
		return rate{s.Created, s.Rate}, nil
	case s.Cron == "":
		return nil, fmt.Errorf("a schedule needs a cron expression or a rate")
	case len(s.Cron) > maxCron:
		return nil, fmt.Errorf("the cron expression has %d bytes, at most %d are allowed", len(s.Cron), maxCron)
	}
	ticks, err := cron.ParseStandard(s.Cron)
	if err != nil {
		return nil, fmt.Errorf("the cron expression %q: %w", s.Cron, err)
	}
	return inUTC{ticks}, nil
}

// rate ticks at from + k·every, k ≥ 1.
type rate struct {
	from  time.Time
	every time.Duration
}

func (r rate) Next(after time.Time) time.Time {
	if after.Before(r.from) {
		return r.from.Add(r.every)
	}
	return r.from.Add((after.Sub(r.from)/r.every + 1) * r.every)
}

// inUTC reads an expression without a zone as UTC: the parser takes the zone of the time that it is given.
type inUTC struct{ ticks cron.Schedule }

func (u inUTC) Next(after time.Time) time.Time { return u.ticks.Next(after.UTC()) }
