// Package logs keeps the log lines of functions under the data directory, with rotation, and reads them back.
package logs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"berth/lambda"
)

// Event is one log line of one stream of one group.
type Event struct {
	Stream  string // "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef"
	Time    time.Time
	Message string
}

// ErrNotFound is what reading or deleting an absent group or stream gives.
var ErrNotFound = errors.New("log group or stream not found")

// Config configures a Store.
type Config struct {
	Dir          string // owned by the store alone; made if absent
	SegmentBytes int64  // a group's file is closed at this size; 0 is DefaultSegmentBytes
	MaxBytes     int64  // of one group; the oldest segments are removed beyond it; 0 is DefaultMaxBytes
	QueueBytes   int64  // of events waiting for the disk, of all groups; beyond it events are dropped and counted; 0 is DefaultQueueBytes
	OpenFiles    int    // at most so many segments are open for writing; 0 is DefaultOpenFiles
	Log          *slog.Logger
}

// Store keeps logs.
type Store struct{}

// Open opens the store in cfg.Dir. It starts nothing: nothing reaches the disk before Run.
func Open(cfg Config) (*Store, error) { return nil, errors.New("not built yet") }

// Run writes what was appended until ctx ends, then writes what is still waiting, closes all files and returns.
func (s *Store) Run(ctx context.Context) error { return errors.New("not built yet") }

// Append hands events to the background writer. It never blocks on the disk.
func (s *Store) Append(account lambda.AccountID, group string, events ...Event) {}

// Query selects events. Zero values select everything.
type Query struct {
	Start, End   time.Time // Start ≤ event time < End
	Stream       string    // exactly this stream
	StreamPrefix string
	Limit        int    // events per Page, 1–10,000; 0 is 10,000
	Cursor       string // Page.Next of an earlier Read of the same Query
}

// Record is an Event as read back.
type Record struct {
	Event
	Ingested time.Time // when Append took it
	ID       string    // unique in its group, sorts by Ingested order
}

// Page is one answer of Read.
type Page struct {
	Records []Record // by time, equal times in the order of arrival
	Next    string   // "" at the end of what there is now
}

// Read returns the events of a group in time order across its streams. Errors: ErrNotFound.
func (s *Store) Read(ctx context.Context, account lambda.AccountID, group string, q Query) (Page, error) {
	return Page{}, errors.New("not built yet")
}

// DeleteLogGroup removes a group with all its events. Errors: ErrNotFound.
func (s *Store) DeleteLogGroup(account lambda.AccountID, group string) error {
	return errors.New("not built yet")
}
