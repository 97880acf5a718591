// Package logs keeps the log lines of functions under the data directory, with rotation, and reads them back.
//
// Appending and reading meet only on disk. Append encodes into memory and returns; Run, and every reader before it reads,
// moves what is waiting to the files. So a slow disk delays readers and costs lines, which are counted, but never a function.
//
// On disk: Dir/ACCOUNT/GROUP (see groupDir) holds the segments 0000000001.log, 0000000002.log, …, each a text file of lines
// (see appendLine), and the file "group", whose time is the group's creation. The highest segment is being written; the
// lowest goes when the group is too large. Nothing is synced: the lines of the last seconds before a power loss may be lost.
package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"berth/lambda"
)

// Event is one log line of one stream of one group.
type Event struct {
	Stream  string    // "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef"; at most 512 bytes
	Time    time.Time // kept to the millisecond
	Message string    // any bytes, at most MaxMessage; the rest is cut off
}

// MaxMessage is how many bytes of one event are kept: CloudWatch's limit until 2025.
const MaxMessage = 256 << 10

// Defaults of Config.
const (
	DefaultSegmentBytes = 4 << 20
	DefaultMaxBytes     = 32 << 20
	DefaultQueueBytes   = 16 << 20
	DefaultOpenFiles    = 256
)

// flushEvery is how long a line may wait for others before Run writes them, so that busy functions share writes, and the disk's
// work does not take the processor from the call that wrote the line.
const flushEvery = 20 * time.Millisecond

var (
	// ErrNotFound is what reading or deleting an absent group gives.
	ErrNotFound = errors.New("log group not found")
	// ErrCursor is what Read gives for a cursor that is not one.
	ErrCursor = errors.New("the cursor is not one that an earlier read returned")
)

// Config configures a Store.
type Config struct {
	Dir          string       // owned by the store alone; made if absent
	SegmentBytes int64        // a group's file is closed at this size; 0 is DefaultSegmentBytes
	MaxBytes     int64        // of one group; the oldest segments are removed beyond it; 0 is DefaultMaxBytes
	QueueBytes   int64        // of lines waiting for the disk, of all groups, and of one group a quarter; beyond it lines are dropped and counted; 0 is DefaultQueueBytes
	OpenFiles    int          // at most so many segments are open for writing; 0 is DefaultOpenFiles
	Log          *slog.Logger // nil discards
}

// Store keeps logs. Safe for concurrent use.
type Store struct {
	cfg  Config
	wake chan struct{} // capacity 1: there is something to flush

	mu      sync.Mutex // never held during I/O
	pending map[groupKey]*batch
	bytes   int64     // of all pending lines
	spare   sync.Pool // of *batch, empty: lines would else be half of a busy server's garbage

	// disk is a lock of capacity 1 on files and what follows; waiting for it can be given up.
	disk   chan struct{}
	files  *writers
	ranges *ranges
}

// groupKey names a group of an account.
type groupKey struct {
	account lambda.AccountID
	group   string
}

// batch is what one group has waiting.
type batch struct {
	lines         []byte // encoded, whole lines
	dropped       int    // lines lost since the last notice
	droppedStream string // where the notice goes
}

// Open opens the store in cfg.Dir. It starts nothing.
func Open(cfg Config) (*Store, error) {
	setDefault(&cfg.SegmentBytes, DefaultSegmentBytes)
	setDefault(&cfg.MaxBytes, DefaultMaxBytes)
	setDefault(&cfg.QueueBytes, DefaultQueueBytes)
	setDefault(&cfg.OpenFiles, DefaultOpenFiles)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SegmentBytes > cfg.MaxBytes {
		return nil, fmt.Errorf("logs: a segment (%d bytes) cannot be larger than a group may be (%d bytes)", cfg.SegmentBytes, cfg.MaxBytes)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	cfg.Dir = dir
	return &Store{
		cfg: cfg, wake: make(chan struct{}, 1), pending: make(map[groupKey]*batch),
		disk: make(chan struct{}, 1), files: newWriters(cfg), ranges: newRanges(),
	}, nil
}

func setDefault[T int | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Run writes what was appended until ctx ends, then writes what is still waiting, closes all files and returns nil. Events
// appended later stay in memory.
func (s *Store) Run(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.wake:
			pause.Reset(flushEvery)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			_ = s.flush(context.Background())
		}
	}
	_ = s.flush(context.Background())
	s.disk <- struct{}{}
	s.files.closeAll()
	<-s.disk
	return nil
}

// maxGroups bounds how many groups have lines waiting.
const maxGroups = 100_000

// maxSpare is the largest buffer, in bytes, that is used again; the collector takes those that are not used for a while.
const maxSpare = 1 << 20

// Append takes events for a group, in order. It never waits for the disk: lines beyond the queue's bounds are dropped, and a
// notice in the log says how many. Group is the API's pattern [\.\-_/#A-Za-z0-9]{1,512}; events for another are dropped.
func (s *Store) Append(account lambda.AccountID, group string, events ...Event) {
	if len(events) == 0 || !validAccount(account) || !ValidGroup(group) {
		return
	}
	now := time.Now().UnixMilli()
	key := groupKey{account, group}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.pending[key]
	if b == nil {
		if len(s.pending) >= maxGroups {
			return
		}
		if b, _ = s.spare.Get().(*batch); b == nil {
			b = &batch{}
		}
		s.pending[key] = b
	}
	for i := range events {
		e := &events[i]
		size := int64(min(len(e.Message), MaxMessage) + len(e.Stream))
		if s.bytes+size > s.cfg.QueueBytes || int64(len(b.lines))+size > s.cfg.QueueBytes/4 {
			b.drop(1, e.Stream)
			continue
		}
		before := len(b.lines)
		b.lines = appendLine(b.lines, e, now)
		s.bytes += int64(len(b.lines) - before)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (b *batch) drop(n int, stream string) {
	b.dropped += n
	b.droppedStream = stream
}

// flush moves all that is waiting to the disk. Errors of the disk are logged and cost the lines; the error returned is ctx's.
func (s *Store) flush(ctx context.Context) error {
	select {
	case s.disk <- struct{}{}:
		defer func() { <-s.disk }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	taken := s.pending
	if len(taken) == 0 {
		s.mu.Unlock()
		return nil
	}
	s.pending = make(map[groupKey]*batch)
	s.bytes = 0
	s.mu.Unlock()
	lost := 0
	var cause error
	for key, b := range taken {
		if n, stream, err := s.write(key, b); err != nil {
			lost += n
			cause = err
			s.giveBack(key, n, stream)
		}
		if cap(b.lines) <= maxSpare {
			*b = batch{lines: b.lines[:0]}
			s.spare.Put(b)
		}
	}
	if lost > 0 {
		s.cfg.Log.Error("cannot write logs of functions", "lines lost", lost, "error", cause)
	}
	return nil
}

// write puts one batch on the disk. With an error it returns how many lines were lost, and the stream of one of them.
func (s *Store) write(key groupKey, b *batch) (lost int, stream string, err error) {
	if b.dropped > 0 {
		now := time.Now()
		notice := fmt.Sprintf("[berth] %d log lines were dropped here: they came faster than the disk takes them\n", b.dropped)
		b.lines = appendLine(b.lines, &Event{Stream: b.droppedStream, Time: now, Message: notice}, now.UnixMilli())
	}
	left, err := s.files.write(key, b.lines)
	if err == nil {
		return 0, "", nil
	}
	lost = countLines(left)
	if b.dropped > 0 {
		lost += b.dropped - 1 // the notice, being last, is among those left
	}
	first, _, _ := bytes.Cut(left, []byte{'\n'})
	l, _ := parseLine(first)
	return lost, string(l.stream), err
}

// giveBack remembers lines that the disk did not take, for the notice; the next Append brings it to the disk.
func (s *Store) giveBack(key groupKey, lost int, stream string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.pending[key]
	if b == nil {
		b = &batch{}
		s.pending[key] = b
	}
	b.drop(lost, stream)
}
