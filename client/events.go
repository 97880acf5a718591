package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/smithy-go"
)

const (
	eventsPath     = "/berth/v1/events/"
	tenantsPath    = "/berth/v1/tenants/"
	schedulesPath  = "/berth/v1/schedules"
	maxOwnDocument = 64 << 20 // bytes of an answer: 100,000 schedules
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
	err = c.own(ctx, http.MethodGet, eventsPath+url.PathEscape(function), nil, &out)
	return out, err
}

// AddSchedule adds a schedule; of s only what a user chooses is sent.
func (c *Client) AddSchedule(ctx context.Context, s Schedule) (out Schedule, err error) {
	body, err := json.Marshal(map[string]any{"function": s.Function, "cron": s.Cron, "rate": s.Rate, "payload": s.Payload})
	if err != nil {
		return out, err
	}
	err = c.own(ctx, http.MethodPut, schedulesPath+"/"+url.PathEscape(s.Name), body, &out)
	return out, err
}

// Schedules lists the account's schedules by name.
func (c *Client) Schedules(ctx context.Context) ([]Schedule, error) {
	var out struct{ Schedules []Schedule }
	err := c.own(ctx, http.MethodGet, schedulesPath, nil, &out)
	return out.Schedules, err
}

// Schedule returns one schedule.
func (c *Client) Schedule(ctx context.Context, name string) (out Schedule, err error) {
	err = c.own(ctx, http.MethodGet, schedulesPath+"/"+url.PathEscape(name), nil, &out)
	return out, err
}

// RemoveSchedule removes a schedule.
func (c *Client) RemoveSchedule(ctx context.Context, name string) error {
	return c.own(ctx, http.MethodDelete, schedulesPath+"/"+url.PathEscape(name), nil, nil)
}

// own makes a request to one of Berth's own paths, and reads its JSON into out unless that is nil.
func (c *Client) own(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.server.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	if err := c.sign(ctx, req, "lambda", body); err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxOwnDocument))
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		var wire struct{ Message string }
		if json.Unmarshal(answer, &wire) != nil || wire.Message == "" {
			wire.Message = "the server answered " + resp.Status
		}
		return &smithy.GenericAPIError{Code: resp.Header.Get("X-Amzn-Errortype"), Message: wire.Message}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the server's answer is not JSON: %w", err)
	}
	return nil
}
