package logs

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth/lambda"
)

// Bounds of one Page: CloudWatch's.
const (
	maxPageEvents = 10_000
	maxPageBytes  = 1 << 20 // of messages, beyond the first
)

// Query selects events. Zero values select everything.
type Query struct {
	Start, End   time.Time // Start ≤ event time < End, to the millisecond
	Streams      []string  // exactly these streams
	StreamPrefix string
	Match        func(message string) bool
	Limit        int // events per Page, 1–10,000; 0 is 10,000

	// Arrival asks for the order of arrival instead of the order of time. Then Page.Next is never "", and reading again with
	// it gives what came since: that is how to follow a group without missing an event that came late.
	Arrival bool
	Last    bool   // with Arrival: the last events instead of the first
	Cursor  string // Page.Next (with Last, Page.Previous) of an earlier Read: only what is after (before) that page
}

// Record is an Event as read back.
type Record struct {
	Event
	Ingested time.Time // when Append took it
	ID       string    // 40 digits, unique in its group until the group is deleted; sorts as time order does
}

// Page is one answer of Read.
type Page struct {
	Records  []Record // by time, equal times in the order of arrival
	Next     string   // the cursor of the next page; "" at the end of what there is now
	Previous string   // with Arrival: the cursor of the page before
}

// position orders records: by time, then by place. Arrival order has time 0 throughout.
type position struct{ time, segment, offset int64 }

func (p position) compare(q position) int {
	for _, d := range [...]int64{p.time - q.time, p.segment - q.segment, p.offset - q.offset} {
		if d != 0 {
			return int(max(-1, min(1, d)))
		}
	}
	return 0
}

func (p position) cursor() string { return fmt.Sprintf("%d-%d-%d", p.time, p.segment, p.offset) }

func parseCursor(s string) (position, error) {
	var n [3]int64
	parts := strings.Split(s, "-")
	if len(parts) != len(n) {
		return position{}, ErrCursor
	}
	for i, part := range parts {
		v, err := strconv.ParseInt(part, 10, 62)
		if err != nil || v < 0 {
			return position{}, ErrCursor
		}
		n[i] = v
	}
	return position{n[0], n[1], n[2]}, nil
}

// Read returns events of a group, all that were appended before it was called included. Memory: the page and one segment.
// Errors: ErrNotFound, ErrCursor, ctx's.
func (s *Store) Read(ctx context.Context, account lambda.AccountID, group string, q Query) (Page, error) {
	if !validAccount(account) || !ValidGroup(group) {
		return Page{}, ErrNotFound
	}
	sel := selection{Query: q, limit: q.Limit, start: 0, end: 1<<62 - 1, after: position{-1, 0, 0}, forward: 1}
	if sel.Last = q.Arrival && q.Last; sel.Last {
		sel.after, sel.forward = position{1, 0, 0}, -1
	}
	if q.Limit <= 0 || q.Limit > maxPageEvents {
		sel.limit = maxPageEvents
	}
	if !q.Start.IsZero() {
		sel.start = q.Start.UnixMilli()
	}
	if !q.End.IsZero() {
		sel.end = q.End.UnixMilli()
	}
	if q.Cursor != "" {
		var err error
		if sel.after, err = parseCursor(q.Cursor); err != nil {
			return Page{}, err
		}
	}
	err := s.scan(ctx, groupKey{account, group}, &sel)
	if err != nil {
		return Page{}, err
	}
	return sel.page(), nil
}

// scan shows sel all the lines it might want.
func (s *Store) scan(ctx context.Context, key groupKey, sel *selection) error {
	if err := s.flush(ctx); err != nil {
		return err
	}
	segments, err := listSegments(groupDir(s.cfg.Dir, key))
	if err != nil {
		return err
	}
	newest := int64(0) // it still grows
	if n := len(segments); n > 0 {
		newest = segments[n-1].number
	}
	if sel.Last {
		slices.Reverse(segments)
	}
	var buf bytes.Buffer
	for _, seg := range segments {
		known, have := s.ranges.get(seg.path)
		if err := ctx.Err(); err != nil {
			return err
		}
		if sel.done(seg.number) || have && !sel.wants(known) {
			continue
		}
		var whole timeRange
		err := eachLine(seg.path, &buf, func(l line, offset int64) {
			whole.add(l.time)
			sel.add(l, seg.number, offset)
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated away meanwhile
		}
		if err != nil {
			return fmt.Errorf("read logs: %w", err)
		}
		if seg.number != newest {
			s.ranges.put(seg.path, whole)
		}
	}
	return nil
}

// eachLine calls each with the valid whole lines of a file and their offsets.
func eachLine(path string, buf *bytes.Buffer, each func(l line, offset int64)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	buf.Reset()
	if info, err := f.Stat(); err == nil && info.Size() < maxSegmentRead {
		buf.Grow(int(info.Size()) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(f, maxSegmentRead)); err != nil {
		return err
	}
	offset := int64(0)
	for rest := buf.Bytes(); ; {
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			return nil
		}
		if l, ok := parseLine(rest[:n]); ok {
			each(l, offset)
		}
		rest = rest[n+1:]
		offset += int64(n) + 1
	}
}

// maxSegmentRead bounds the memory of reading a file that somebody else made large.
const maxSegmentRead = 256 << 20

// selection collects a page: the first records after a position that a query selects, or the last before it. It is a heap
// with the record on top that goes when the page is full.
type selection struct {
	Query
	limit      int
	start, end int64 // Unix milliseconds
	after      position
	forward    int // 1: the records after that position; -1: those before it
	found      []found
	bytes      int
	bound      *position // records from here on do not fit the page
}

type found struct {
	at     position
	record Record
}

// done reports whether a segment lies before the cursor or after a full page, in order of arrival.
func (s *selection) done(segment int64) bool {
	beforeCursor := segment < s.after.segment
	if s.Last {
		beforeCursor = s.after.time == 0 && segment > s.after.segment
	}
	return s.Arrival && (beforeCursor || s.bound != nil)
}

// wants reports whether a segment with these times can hold a record of the page.
func (s *selection) wants(r timeRange) bool {
	return r.any && r.max >= s.start && r.min < s.end && (s.Arrival || r.max >= s.after.time && (s.bound == nil || r.min <= s.bound.time))
}

func (s *selection) add(l line, segment, offset int64) {
	at := position{l.time, segment, offset}
	if s.Arrival {
		at.time = 0
	}
	if l.time < s.start || l.time >= s.end || s.forward*at.compare(s.after) <= 0 || s.bound != nil && s.forward*at.compare(*s.bound) >= 0 {
		return
	}
	if s.StreamPrefix != "" && !bytes.HasPrefix(l.stream, []byte(s.StreamPrefix)) {
		return
	}
	if len(s.Streams) > 0 && !slices.Contains(s.Streams, string(l.stream)) {
		return
	}
	message := unescape(l.message)
	if s.Match != nil && !s.Match(message) {
		return
	}
	heap.Push(s, found{at, Record{
		Event:    Event{Stream: string(l.stream), Time: time.UnixMilli(l.time), Message: message},
		Ingested: time.UnixMilli(l.ingested),
	}})
	s.bytes += len(message)
	for len(s.found) > s.limit || s.bytes > maxPageBytes && len(s.found) > 1 {
		last := heap.Pop(s).(found)
		s.bytes -= len(last.record.Message)
		s.bound = &last.at
	}
}

func (s *selection) page() Page {
	slices.SortFunc(s.found, func(x, y found) int { return x.at.compare(y.at) })
	p := Page{Records: make([]Record, len(s.found))}
	for i := range s.found {
		f := &s.found[i]
		f.record.ID = fmt.Sprintf("%016d%012d%012d", f.record.Time.UnixMilli(), f.at.segment, f.at.offset)
		p.Records[i] = f.record
	}
	begin, end := s.after, s.after
	if n := len(s.found); n > 0 {
		begin, end = s.found[0].at, s.found[n-1].at
	} else if s.after.time != 0 { // nothing at all: what is to come is after the beginning
		begin, end = position{}, position{}
	}
	if s.bound != nil || s.Arrival {
		p.Next = end.cursor()
	}
	if s.Arrival {
		p.Previous = begin.cursor()
	}
	return p
}

// The methods of heap.Interface.
func (s *selection) Len() int           { return len(s.found) }
func (s *selection) Less(i, j int) bool { return s.forward*s.found[i].at.compare(s.found[j].at) > 0 }
func (s *selection) Swap(i, j int)      { s.found[i], s.found[j] = s.found[j], s.found[i] }
func (s *selection) Push(x any)         { s.found = append(s.found, x.(found)) }
func (s *selection) Pop() any {
	last := s.found[len(s.found)-1]
	s.found = s.found[:len(s.found)-1]
	return last
}

// timeRange is the span of a segment's event times.
type timeRange struct {
	min, max int64
	any      bool
}

func (r *timeRange) add(t int64) {
	if !r.any {
		*r = timeRange{t, t, true}
	}
	r.min, r.max = min(r.min, t), max(r.max, t)
}

// ranges remembers the time ranges of full segments, so that a page need not read all of a group.
type ranges struct {
	mu sync.Mutex
	of map[string]timeRange
}

// maxRanges bounds the memory of ranges; a full one is emptied.
const maxRanges = 16_384

func newRanges() *ranges { return &ranges{of: make(map[string]timeRange)} }

func (r *ranges) get(path string) (timeRange, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, have := r.of[path]
	return known, have
}

func (r *ranges) put(path string, known timeRange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.of) >= maxRanges {
		clear(r.of)
	}
	r.of[path] = known
}

func (r *ranges) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.of)
}
