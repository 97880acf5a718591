package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"berth/lambda"
	"berth/store"
)

// Schedule invokes a function again and again, as an event. Either Cron or Rate is set.
type Schedule struct {
	Name     string           `json:"name"`
	Account  lambda.AccountID `json:"account"`
	Function string           `json:"function"` // what the user wrote: a name or ARN, with or without a qualifier
	Cron     string           `json:"cron,omitempty"`
	Rate     time.Duration    `json:"rate,omitempty"`
	Payload  json.RawMessage  `json:"payload,omitempty"`
	Created  time.Time        `json:"created"`
	// Last is the last tick that was fired or missed; ticks before it are settled.
	Last       time.Time `json:"last"`
	Fired      int       `json:"fired"`
	Missed     int       `json:"missed,omitempty"`    // ticks at which no server ran
	LastMissed time.Time `json:"lastMissed,omitzero"` // the newest of these
	Failure    string    `json:"failure,omitempty"`   // why the last tick could not be queued, "" when it was
}

func scheduleKey(a lambda.AccountID, name string) store.Key {
	return store.Key(schedulePrefix + string(a) + "/" + name)
}

func scheduleNotFound(name string) error {
	return lambda.Errorf(lambda.ResourceNotFound, "There is no schedule %q.", name)
}

// CreateSchedule stores a new schedule. Error: ResourceConflict when the name is taken.
func (c *Catalog) CreateSchedule(ctx context.Context, s Schedule) (*Schedule, error) {
	raw, err := encode(&s)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	err = c.apply(ctx, []store.Op{store.Create(scheduleKey(s.Account, s.Name), raw)})
	if errors.Is(err, store.ErrConflict) {
		return nil, lambda.Errorf(lambda.ResourceConflict, "There is a schedule %q already. Remove it first, or take another name.", s.Name)
	}
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// Schedule returns a schedule. Error: ResourceNotFound.
func (c *Catalog) Schedule(a lambda.AccountID, name string) (*Schedule, error) {
	s, ok := find[Schedule](c, scheduleKey(a, name))
	if !ok {
		return nil, scheduleNotFound(name)
	}
	return s, nil
}

// Schedules returns an account's schedules by name; with account "" those of all accounts.
func (c *Catalog) Schedules(a lambda.AccountID) []*Schedule {
	prefix := schedulePrefix
	if a != "" {
		prefix += string(a) + "/"
	}
	list, _ := page[Schedule](c, prefix, "", maxSchedules)
	return list
}

// maxSchedules bounds what Schedules returns.
const maxSchedules = 100_000

// DeleteSchedule removes a schedule. Error: ResourceNotFound.
func (c *Catalog) DeleteSchedule(ctx context.Context, a lambda.AccountID, name string) error {
	key := scheduleKey(a, name)
	return c.retry(ctx, func(ctx context.Context) error {
		_, revision, err := get[Schedule](c, key)
		if errors.Is(err, store.ErrNotFound) {
			return scheduleNotFound(name)
		}
		if err != nil {
			return err
		}
		return c.apply(ctx, []store.Op{store.Delete(key, revision)})
	}, key)
}

// SettleSchedule notes what became of ticks: edit changes a copy, or returns false when there is nothing to note. Error:
// ResourceNotFound.
func (c *Catalog) SettleSchedule(ctx context.Context, a lambda.AccountID, name string, edit func(*Schedule) bool) error {
	key := scheduleKey(a, name)
	return c.retry(ctx, func(ctx context.Context) error {
		s, revision, err := get[Schedule](c, key)
		if errors.Is(err, store.ErrNotFound) {
			return scheduleNotFound(name)
		}
		if err != nil {
			return err
		}
		next := *s
		if !edit(&next) {
			return nil
		}
		raw, err := encode(&next)
		if err != nil {
			return err
		}
		return c.apply(ctx, []store.Op{store.Update(key, raw, revision)})
	}, key)
}

// DeadLetter returns the ARN of a version's dead-letter queue, "" when it has none.
func (c *Catalog) DeadLetter(id ID, number string) string {
	f, ok := c.Function(id)
	if !ok {
		return ""
	}
	v := &f.Latest
	if number != lambda.Latest {
		if v, ok = find[Version](c, id.version(number)); !ok {
			return ""
		}
	}
	if v.DeadLetter == nil {
		return ""
	}
	return *v.DeadLetter
}
