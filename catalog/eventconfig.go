package catalog

import (
	"context"
	"time"

	"berth/lambda"
	"berth/store"
)

// EventConfig says what happens to the asynchronous invocations of a function ($LATEST), version or alias. Recorded in
// test_lambda_eventinvokeconfig_exceptions.
type EventConfig struct {
	Qualifier string    `json:"qualifier"` // Latest, a version number or an alias
	Retries   *int      `json:"retries,omitempty"`
	MaxAge    *int      `json:"maxAge,omitempty"` // seconds
	OnSuccess string    `json:"onSuccess,omitempty"`
	OnFailure string    `json:"onFailure,omitempty"`
	Modified  time.Time `json:"modified"`
}

// What holds where a configuration says nothing (developer guide, "How Lambda handles errors and retries").
const (
	DefaultRetries = 2
	DefaultMaxAge  = 6 * time.Hour
)

// Age is how old an event may become.
func (c *EventConfig) Age() time.Duration {
	if c.MaxAge == nil {
		return DefaultMaxAge
	}
	return time.Duration(*c.MaxAge) * time.Second
}

// Attempts is how often the function may fail before the event has failed.
func (c *EventConfig) Attempts() int {
	if c.Retries == nil {
		return 1 + DefaultRetries
	}
	return 1 + *c.Retries
}

// EventConfig returns what is configured for a qualifier; "" is $LATEST.
func (c *Catalog) EventConfig(id ID, qualifier string) (*EventConfig, bool) {
	return find[EventConfig](c, id.eventConfig(qualifier))
}

// EventConfigs returns up to n configurations of a function, $LATEST first, from the one after the qualifier after on. next is
// the value of after for the next page, "" at the end.
func (c *Catalog) EventConfigs(id ID, after string, n int) (list []*EventConfig, next string) {
	if after == lambda.Latest {
		after = latestFirst
	}
	list, more := page[EventConfig](c, id.eventConfigs(), after, n)
	if more && len(list) > 0 {
		next = list[len(list)-1].Qualifier
	}
	return list, next
}

// PutEventConfig replaces the configuration of a function, version or alias. Error: ResourceNotFound.
func (c *Catalog) PutEventConfig(ctx context.Context, id ID, config EventConfig) (*EventConfig, error) {
	return c.editEventConfig(ctx, id, config.Qualifier, func(*EventConfig) (*EventConfig, error) { return &config, nil })
}

// UpdateEventConfig changes the configuration of a function, version or alias; edit changes a copy. Errors: ResourceNotFound,
// also when there is none yet.
func (c *Catalog) UpdateEventConfig(ctx context.Context, id ID, qualifier string, edit func(*EventConfig)) (*EventConfig, error) {
	return c.editEventConfig(ctx, id, qualifier, func(old *EventConfig) (*EventConfig, error) {
		if old == nil {
			return nil, c.noEventConfig(id, qualifier)
		}
		next := *old
		edit(&next)
		return &next, nil
	})
}

func (c *Catalog) editEventConfig(ctx context.Context, id ID, qualifier string, edit func(*EventConfig) (*EventConfig, error)) (*EventConfig, error) {
	var written *EventConfig
	missing := lambda.Errorf(lambda.ResourceNotFound, "The function doesn't exist.")
	_, err := c.change(ctx, id, missing, func(ch *change) error {
		if !c.qualifierExists(id, qualifier) {
			return missing
		}
		old, _ := find[EventConfig](c, id.eventConfig(qualifier))
		next, err := edit(old)
		if err != nil {
			return err
		}
		next.Qualifier, next.Modified = orLatest(qualifier), time.Now()
		written = next
		return ch.put(id.eventConfig(qualifier), next)
	})
	if err != nil {
		return nil, err
	}
	return written, nil
}

func orLatest(qualifier string) string {
	if qualifier == "" {
		return lambda.Latest
	}
	return qualifier
}

func (c *Catalog) noEventConfig(id ID, qualifier string) error {
	return lambda.Errorf(lambda.ResourceNotFound, "The function %s doesn't have an EventInvokeConfig", c.arn(id, orLatest(qualifier)))
}

// GetEventConfig is EventConfig with the service's error.
func (c *Catalog) GetEventConfig(id ID, qualifier string) (*EventConfig, error) {
	if config, ok := c.EventConfig(id, qualifier); ok {
		return config, nil
	}
	return nil, c.noEventConfig(id, qualifier)
}

// DeleteEventConfig removes a configuration. Error: ResourceNotFound when there is none.
func (c *Catalog) DeleteEventConfig(ctx context.Context, id ID, qualifier string) error {
	missing := c.noEventConfig(id, qualifier)
	_, err := c.change(ctx, id, missing, func(ch *change) error {
		if _, ok := find[EventConfig](c, id.eventConfig(qualifier)); !ok {
			return missing
		}
		ch.stage(store.Delete(id.eventConfig(qualifier), store.Any))
		return nil
	})
	return err
}

// QualifierExists reports whether there is such a function, version or alias; "" is $LATEST.
func (c *Catalog) QualifierExists(id ID, qualifier string) bool {
	_, ok := c.Function(id)
	return ok && c.qualifierExists(id, qualifier)
}

func (c *Catalog) qualifierExists(id ID, qualifier string) bool {
	switch {
	case qualifier == "" || qualifier == lambda.Latest:
		return true
	case lambda.IsVersionNumber(qualifier):
		_, ok := find[Version](c, id.version(qualifier))
		return ok
	default:
		_, ok := find[Alias](c, id.alias(qualifier))
		return ok
	}
}

// SetRecursive allows or forbids a function to call itself without end. Error: ResourceNotFound.
func (c *Catalog) SetRecursive(ctx context.Context, id ID, allow bool) error {
	_, err := c.change(ctx, id, NotFound(c.arn(id, "")), func(ch *change) error {
		ch.Recursive = allow
		return nil
	})
	return err
}
