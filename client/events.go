package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

const (
	eventsPath    = "/berth/v1/events/"
	tenantsPath   = "/berth/v1/tenants/"
	schedulesPath = "/berth/v1/schedules"
)

// EventStatus counts the asynchronous invocations of one function.
type EventStatus struct {
	Queued   int            `json:"queued"`
	InFlight int            `json:"inFlight"`
	Retrying int            `json:"retrying"`
	Dropped  map[string]int `json:"dropped"` // by reason
	Partial  bool           `json:"partial,omitempty"`
}

// Schedule is a schedule with what has become of it.
type Schedule struct {
	Name       string          `json:"name"`
	Function   string          `json:"function"`
	Cron       string          `json:"cron,omitempty"`
	Rate       string          `json:"rate,omitempty"`
	Payload    json.RawMessage `json:"payload,omitempty"`
	Created    time.Time       `json:"created,omitzero"`
	Next       time.Time       `json:"next,omitzero"`
	Last       time.Time       `json:"last,omitzero"`
	Fired      int             `json:"fired"`
	Missed     int             `json:"missed"`
	LastMissed time.Time       `json:"lastMissed,omitzero"`
	Failure    string          `json:"failure,omitempty"`
}

// Events counts a function's asynchronous invocations.
func (c *Client) Events(ctx context.Context, function string) (out EventStatus, err error) {
	err = c.own(ctx, http.MethodGet, eventsPath+url.PathEscape(function), nil, &out, maxOwnDocument)
	return out, err
}

// AddSchedule adds a schedule; of s only what a user chooses is sent.
func (c *Client) AddSchedule(ctx context.Context, s Schedule) (out Schedule, err error) {
	in := map[string]any{"function": s.Function, "cron": s.Cron, "rate": s.Rate}
	if len(s.Payload) > 0 { // null would be a payload: without one the function gets the schedule's name and tick
		in["payload"] = s.Payload
	}
	err = c.own(ctx, http.MethodPut, schedulesPath+"/"+url.PathEscape(s.Name), in, &out, maxOwnDocument)
	return out, err
}

// Schedules lists the account's schedules by name.
func (c *Client) Schedules(ctx context.Context) ([]Schedule, error) {
	var out struct{ Schedules []Schedule }
	err := c.own(ctx, http.MethodGet, schedulesPath, nil, &out, maxOwnDocument)
	return out.Schedules, err
}

// Schedule returns one schedule.
func (c *Client) Schedule(ctx context.Context, name string) (out Schedule, err error) {
	err = c.own(ctx, http.MethodGet, schedulesPath+"/"+url.PathEscape(name), nil, &out, maxOwnDocument)
	return out, err
}

// RemoveSchedule removes a schedule.
func (c *Client) RemoveSchedule(ctx context.Context, name string) error {
	return c.own(ctx, http.MethodDelete, schedulesPath+"/"+url.PathEscape(name), nil, nil, maxOwnDocument)
}
