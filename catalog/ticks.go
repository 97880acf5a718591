package catalog

import (
	"fmt"
	"slices"
	"strings"
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
	zone, when := cutZone(s.Cron)
	ticks, err := cron.ParseStandard(zone + when)
	if err != nil {
		return nil, fmt.Errorf("%s: the cron expression %q %s", notValid, s.Cron, whatIsWrong(zone, when))
	}
	return inUTC{ticks}, nil
}

// notValid is what EventBridge says, and all that it says.
const notValid = "Parameter ScheduleExpression is not valid"

// cutZone parts "CRON_TZ=ZONE " from the rest. The rest comes in small letters: the parser takes every H for a wish of another kind,
// that of THU too.
func cutZone(expression string) (zone, rest string) {
	if !strings.HasPrefix(expression, "CRON_TZ=") && !strings.HasPrefix(expression, "TZ=") {
		return "", strings.ToLower(expression)
	}
	zone, rest, _ = strings.Cut(expression, " ")
	return zone + " ", strings.ToLower(strings.TrimSpace(rest))
}

// cronFields are the fields of an expression in their order, with what is expected of each.
var cronFields = [...]struct{ name, values string }{
	{"minute", "0 to 59"}, {"hour", "0 to 23"}, {"day of month", "1 to 31"}, {"month", "1 to 12 or JAN to DEC"}, {"day of week", "0 to 6 or SUN to SAT"},
}

// whatIsWrong says what the parser did not like, in words of Berth's own: each part is tried alone.
func whatIsWrong(zone, when string) string {
	if zone != "" {
		if _, err := cron.ParseStandard(zone + "* * * * *"); err != nil {
			return fmt.Sprintf("begins with no known time zone: expected one like CRON_TZ=Europe/Berlin, not %q", strings.TrimSpace(zone))
		}
	}
	if strings.HasPrefix(when, "@") {
		return "is no name of a time: expected @hourly, @daily, @weekly, @monthly or @yearly"
	}
	fields := strings.Fields(when)
	if len(fields) != len(cronFields) {
		return fmt.Sprintf("has %d fields: expected 5, for minute, hour, day of month, month and day of week", len(fields))
	}
	for i, field := range fields {
		alone := slices.Repeat([]string{"*"}, len(cronFields))
		alone[i] = field
		if _, err := cron.ParseStandard(strings.Join(alone, " ")); err != nil {
			return fmt.Sprintf("has %q for the %s: expected %s, *, or lists, ranges and steps of them like 1,5 or 1-5 or */5", field, cronFields[i].name, cronFields[i].values)
		}
	}
	return "cannot be read"
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
