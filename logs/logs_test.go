package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/lambda"
)

const (
	account = lambda.AccountID("000000000001")
	group   = "/aws/lambda/hello"
)

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.files.closeAll)
	return s
}

func at(ms int64) time.Time { return time.UnixMilli(1_800_000_000_000 + ms) }

func event(ms int64, stream, message string) Event { return Event{stream, at(ms), message} }

func read(t testing.TB, s *Store, q Query) Page {
	t.Helper()
	p, err := s.Read(t.Context(), account, group, q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func messages(p Page) (out []string) {
	for _, r := range p.Records {
		out = append(out, r.Message)
	}
	return out
}

func TestReadBackWhatWasAppended(t *testing.T) {
	s := open(t, Config{})
	events := []Event{
		event(1, "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef", "START RequestId: x Version: $LATEST\n"),
		event(2, "s", ""), event(3, "s", "a\tb\\n\\\\c\nd\x00e\r\n\n"), event(4, "s", "\xff invalid \u2028 ä"), event(5, "", "x\\"),
	}
	s.Append(account, group, events...)
	s.Append(account, group, event(6, "a\tb\nc\x00", strings.Repeat("ä", MaxMessage)))
	p := read(t, s, Query{})
	if len(p.Records) != 6 || p.Next != "" {
		t.Fatalf("%d records, next %q", len(p.Records), p.Next)
	}
	for i, e := range events {
		if r := p.Records[i]; r.Stream != e.Stream || r.Message != e.Message || !r.Time.Equal(e.Time) || time.Since(r.Ingested) > time.Minute {
			t.Errorf("record %d = %+v; want %+v", i, r, e)
		}
	}
	if r := p.Records[5]; r.Stream != "a_b_c_" || len(r.Message) != MaxMessage {
		t.Errorf("stream %q, message of %d bytes", r.Stream, len(r.Message))
	}
}

// Buffers are used again: nothing of one flush may show in the next one's.
func TestBuffersAreUsedAgain(t *testing.T) {
	s := open(t, Config{})
	for i := range 20 {
		other := fmt.Sprint(group, i)
		want := strings.Repeat(fmt.Sprint(i%10), 1+(20-i)*50) + "\n"
		s.Append(account, other, event(1, "s", want))
		p, err := s.Read(t.Context(), account, other, Query{})
		if got := messages(p); err != nil || len(got) != 1 || got[0] != want {
			t.Fatalf("round %d: %d records of %d bytes, %v; want one of %d", i, len(got), len(strings.Join(got, "")), err, len(want))
		}
	}
}

func TestQueries(t *testing.T) {
	s := open(t, Config{})
	s.Append(account, group, event(30, "b/1", "three"), event(10, "a/1", "one"), event(20, "a/2", "two"), event(20, "b/1", "two again"))
	for name, tt := range map[string]struct {
		q    Query
		want string
	}{
		"all, by time":   {Query{}, "one|two|two again|three"},
		"start is in":    {Query{Start: at(20)}, "two|two again|three"},
		"end is not":     {Query{End: at(20)}, "one"},
		"streams":        {Query{Streams: []string{"a/2", "b/1"}}, "two|two again|three"},
		"prefix":         {Query{StreamPrefix: "a/"}, "one|two"},
		"match":          {Query{Match: func(m string) bool { return strings.Contains(m, "two") }}, "two|two again"},
		"limit":          {Query{Limit: 2}, "one|two"},
		"arrival":        {Query{Arrival: true}, "three|one|two|two again"},
		"arrival, limit": {Query{Arrival: true, Limit: 2}, "three|one"},
		"last":           {Query{Arrival: true, Last: true, Limit: 3}, "one|two|two again"},
		"nothing":        {Query{Start: at(31)}, ""},
	} {
		if got := strings.Join(messages(read(t, s, tt.q)), "|"); got != tt.want {
			t.Errorf("%s: %s; want %s", name, got, tt.want)
		}
	}
	for _, other := range []struct {
		account lambda.AccountID
		group   string
	}{{"000000000002", group}, {account, "other"}, {account, "bad group"}, {"../x", group}, {account, ""}} {
		if _, err := s.Read(t.Context(), other.account, other.group, Query{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v: %v", other, err)
		}
	}
	for _, cursor := range []string{"x", "1-2", "1-2-3-4", "-1-2-3", "9999999999999999999-1-1"} {
		if _, err := s.Read(t.Context(), account, group, Query{Cursor: cursor}); !errors.Is(err, ErrCursor) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

// fill appends n numbered events of about 100 bytes, out of order within ten.
func fill(s *Store, n int) (want []string) {
	for i := range n {
		m := fmt.Sprintf("%06d %090d", i, 0)
		want = append(want, m)
		s.Append(account, group, event(int64(i/10*10+9-i%10), fmt.Sprint("s", i%3), m))
	}
	return want
}

// TestPages: pages in either order, over many segments, have every event once; so do pages backwards.
func TestPages(t *testing.T) {
	s := open(t, Config{SegmentBytes: 10_000})
	want := fill(s, 1000)
	for _, arrival := range []bool{false, true} {
		var got []string
		ids := map[string]bool{}
		q := Query{Limit: 37, Arrival: arrival}
		for {
			p := read(t, s, q)
			for _, r := range p.Records {
				got = append(got, r.Message)
				ids[r.ID] = true
			}
			if p.Next == "" || len(p.Records) == 0 {
				break
			}
			q.Cursor = p.Next
		}
		if !arrival {
			for i := 0; i < len(got); i += 10 {
				slices.Reverse(got[i : i+10])
			}
		}
		if !slices.Equal(got, want) || len(ids) != len(want) {
			t.Errorf("arrival %v: got %d events, %d ids; want %d", arrival, len(got), len(ids), len(want))
		}
	}
	var got []string
	q := Query{Limit: 37, Arrival: true, Last: true}
	for {
		p := read(t, s, q)
		if len(p.Records) == 0 {
			break
		}
		got = append(messages(p), got...)
		q.Cursor = p.Previous
	}
	if !slices.Equal(got, want) {
		t.Errorf("backwards: got %d events", len(got))
	}
}

func TestPageIsBoundedInBytes(t *testing.T) {
	s := open(t, Config{})
	for i := range 8 {
		s.Append(account, group, event(int64(8-i), "s", strings.Repeat(fmt.Sprint(8-i), 200<<10)))
	}
	var got string
	q := Query{}
	for pages := 1; ; pages++ {
		p := read(t, s, q)
		for _, r := range p.Records {
			got += r.Message[:1]
		}
		if q.Cursor = p.Next; q.Cursor == "" {
			if pages != 2 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if got != "12345678" {
		t.Errorf("got %s", got)
	}
}

// TestFollow: a reader with a cursor of arrival sees late events, and sees each once.
func TestFollow(t *testing.T) {
	s := open(t, Config{SegmentBytes: 50})
	s.Append(account, group, event(10, "s", "first"))
	p := read(t, s, Query{Arrival: true})
	if again := read(t, s, Query{Arrival: true, Cursor: p.Next}); len(again.Records) != 0 || again.Next != p.Next {
		t.Errorf("nothing new: %+v", again)
	}
	s.Append(account, group, event(5, "s", "late"), event(20, "s", "next"))
	if p = read(t, s, Query{Arrival: true, Cursor: p.Next}); strings.Join(messages(p), "|") != "late|next" {
		t.Errorf("followed: %q", messages(p))
	}
}

func TestRotation(t *testing.T) {
	s := open(t, Config{SegmentBytes: 10_000, MaxBytes: 40_000})
	want := fill(s, 2000) // 240 KB at once
	dir := groupDir(s.cfg.Dir, groupKey{account, group})
	for range 3 {
		p := read(t, s, Query{Arrival: true})
		got := messages(p)
		if len(got) < 200 || !slices.Equal(got, want[len(want)-len(got):]) {
			t.Fatalf("%d events are left, not the newest ones", len(got))
		}
		segments, err := listSegments(dir)
		if err != nil || total(segments) > 40_000 || len(segments) != 4 {
			t.Fatalf("%v, %v", segments, err)
		}
		want = append(want, fill(s, 500)...)
	}
	for path, mode := range map[string]fs.FileMode{s.cfg.Dir + "/" + string(account): 0o700, dir: 0o700, filepath.Join(dir, createdFile): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %v", path, st.Mode(), err, mode)
		}
	}
}

// TestTornLine: what a crash cut short, or a power loss filled with zeros, is skipped; all around it is read.
func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	s.Append(account, group, event(1, "s", "whole"))
	read(t, s, Query{})
	s.files.closeAll()
	path := segmentPath(groupDir(dir, groupKey{account, group}), 1)
	for _, rest := range []string{"1800000000002\t1800000000002\ts\tcut sho", "\x00\x00\x00\x00", "1800000000002\t18", "\n\n\tx\n", "999999999999999999999\t1\ts\tm\n"} {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(rest); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		s = open(t, Config{Dir: dir})
		before := len(read(t, s, Query{}).Records)
		s.Append(account, group, event(3, "s", "after"))
		if p := read(t, s, Query{}); len(p.Records) != before+1 || p.Records[0].Message != "whole" || p.Records[before].Message != "after" {
			t.Errorf("%q: %q", rest, messages(p))
		}
		s.files.closeAll()
	}
}

// TestKill: a process killed while it writes leaves a readable log of a run of lines without a gap.
func TestKill(t *testing.T) {
	if dir := os.Getenv("LOGS_TEST_WRITE_TO"); dir != "" {
		s := open(t, Config{Dir: dir, SegmentBytes: 100_000})
		go func() { _ = s.Run(t.Context()) }()
		for i := 0; ; i++ {
			s.Append(account, group, event(int64(i), "s", fmt.Sprintf("%d %0200d", i, i)))
			if i%100 == 0 {
				_ = s.flush(t.Context())
			}
		}
	}
	dir := t.TempDir()
	for range 3 {
		c := exec.Command(os.Args[0], "-test.run=^TestKill$")
		c.Env = append(os.Environ(), "LOGS_TEST_WRITE_TO="+dir)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		third := segmentPath(groupDir(dir, groupKey{account, group}), 3)
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if _, err := os.Stat(third); err == nil {
				break // it is well under way
			}
		}
		_ = c.Process.Signal(syscall.SIGKILL)
		_ = c.Wait()
		s := open(t, Config{Dir: dir})
		p := read(t, s, Query{Arrival: true, Last: true, Limit: 100})
		if len(p.Records) != 100 {
			t.Fatalf("%d lines were written", len(p.Records))
		}
		var first int
		if _, err := fmt.Sscan(p.Records[0].Message, &first); err != nil {
			t.Fatal(err)
		}
		for i, r := range p.Records {
			if want := fmt.Sprintf("%d %0200d", first+i, first+i); r.Message != want {
				t.Fatalf("line %d is %.40q, want %.40q", i, r.Message, want)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestQueueIsBounded: while the disk is stuck, Append neither waits nor keeps everything, and one group cannot take all.
func TestQueueIsBounded(t *testing.T) {
	s := open(t, Config{QueueBytes: 400_000})
	s.disk <- struct{}{} // the disk is stuck
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	fill(s, 10_000)
	if len(s.pending[groupKey{account, group}].lines) > 101_000 {
		t.Errorf("one group has %d bytes waiting", s.bytes)
	}
	for i := range 100 {
		s.Append(account, fmt.Sprint("g", i), event(1, "s", strings.Repeat("x", 10_000)))
	}
	if s.bytes > 401_000 {
		t.Errorf("%d bytes are waiting", s.bytes)
	}
	if _, err := s.Read(ctx, account, group, Query{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reading: %v", err)
	}
	<-s.disk
	p := read(t, s, Query{Arrival: true})
	var dropped int
	last := p.Records[len(p.Records)-1]
	if _, err := fmt.Sscanf(last.Message, "[berth] %d log lines were dropped", &dropped); err != nil || dropped+len(p.Records)-1 != 10_000 {
		t.Errorf("%d lines kept, notice %q", len(p.Records)-1, last.Message)
	}
	if s.bytes != 0 || len(s.pending) != 0 {
		t.Errorf("%d bytes still waiting", s.bytes)
	}
}

func TestRunDrains(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	want := fill(s, 500)
	cancel()
	if err := <-ran; err != nil || s.files.used.Len() != 0 || s.bytes != 0 {
		t.Errorf("Run: %v; %d files are open, %d bytes wait", err, s.files.used.Len(), s.bytes)
	}
	if got := messages(read(t, open(t, Config{Dir: dir}), Query{Arrival: true})); !slices.Equal(got, want) {
		t.Errorf("%d of %d lines reached the disk", len(got), len(want))
	}
}

func TestConcurrentUse(t *testing.T) {
	s := open(t, Config{SegmentBytes: 5_000, MaxBytes: 1 << 20, OpenFiles: 3})
	ctx, cancel := context.WithCancel(t.Context())
	var run, wg sync.WaitGroup
	run.Go(func() { _ = s.Run(ctx) })
	const groups, lines = 8, 300
	for g := range groups {
		name := fmt.Sprint("/g/", g)
		wg.Go(func() {
			for i := range lines {
				s.Append(account, name, event(int64(i), "s", fmt.Sprintf("%d %0100d", i, 0)))
			}
		})
		wg.Go(func() {
			q, n := Query{Arrival: true, Limit: 50}, 0
			for n < lines {
				p, err := s.Read(ctx, account, name, q)
				if errors.Is(err, ErrNotFound) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range p.Records {
					if !strings.HasPrefix(r.Message, fmt.Sprint(n, " ")) {
						t.Errorf("%s: line %d is %.20q", name, n, r.Message)
						return
					}
					n++
				}
				q.Cursor = p.Next
			}
		})
		wg.Go(func() {
			for i := range 10 {
				s.Append(account, "deleted", event(int64(i), "s", "x"))
				if err := s.DeleteLogGroup(ctx, account, "deleted"); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	cancel()
	run.Wait()
	if n := s.files.used.Len(); n != 0 {
		t.Errorf("%d files are open", n)
	}
}

func TestGroups(t *testing.T) {
	s := open(t, Config{})
	long := "/" + strings.Repeat("a/b.#-", 80) + "z"
	names := []string{".", "..", "/", "//", "a", "a/b", "/aws/lambda/x", "/aws/lambda/xy", "~", long, long[:chunk], long[:chunk+1], strings.Repeat("x", 512)}
	names = slices.DeleteFunc(names, func(n string) bool { return !ValidGroup(n) })
	for _, n := range names {
		s.Append(account, n, event(1, "s", n))
	}
	s.Append(account, "no/../ way", event(1, "s", "x"))
	s.Append("evil/../id00", "a", event(1, "s", "x"))
	if err := s.CreateGroup(account, "empty"); err != nil {
		t.Error(err)
	}
	if err := s.CreateGroup(account, "a"); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	names = append(names, "empty")
	slices.Sort(names)
	var got []string
	for after := ""; ; {
		page, err := s.Groups(t.Context(), account, "", after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, g := range page {
			got = append(got, g.Name)
			if time.Since(g.Created) > time.Minute || (g.Bytes == 0) != (g.Name == "empty") {
				t.Errorf("%+v", g)
			}
		}
		after = got[len(got)-1]
	}
	if !slices.Equal(got, names) {
		t.Errorf("got  %q\nwant %q", got, names)
	}
	for _, n := range names {
		p, err := s.Read(t.Context(), account, n, Query{})
		if err != nil || n != "empty" && (len(p.Records) != 1 || p.Records[0].Message != n) {
			t.Errorf("%.20s: %v, %v", n, messages(p), err)
		}
	}
	if page, err := s.Groups(t.Context(), account, "/aws/lambda/x", "", 50); err != nil || len(page) != 2 {
		t.Errorf("by prefix: %v, %v", page, err)
	}
	if err := s.DeleteLogGroup(t.Context(), account, "a"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteLogGroup(t.Context(), account, "a"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	s.Append(account, "a", event(1, "s", "anew"))
	if p, err := s.Read(t.Context(), account, "a", Query{}); err != nil || len(p.Records) != 1 {
		t.Errorf("after deletion: %v, %v", messages(p), err)
	}
}

func FuzzLine(f *testing.F) {
	f.Add("stream", "a\\n\nb\x00", int64(5), []byte("1\t2\ts\tm"))
	f.Add("\t\n", "\\", int64(-5), []byte("\t\t\t"))
	f.Fuzz(func(t *testing.T, stream, message string, ms int64, hostile []byte) {
		ms %= 1 << 50
		b := appendLine(nil, &Event{stream, time.UnixMilli(ms), message}, 7)
		if bytes.Count(b, []byte{'\n'}) != 1 {
			t.Fatalf("not one line: %q", b)
		}
		l, ok := parseLine(b[:len(b)-1])
		if !ok || l.time != ms || l.ingested != 7 || unescape(l.message) != message[:min(len(message), MaxMessage)] || len(l.stream) != min(len(stream), maxStream) {
			t.Fatalf("%q became %q: %+v", message, b, l)
		}
		if l, ok := parseLine(hostile); ok {
			unescape(l.message)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, Config{})
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	e := event(1, "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef", "END RequestId: 5f2a1c3e-0000-4000-8000-000000000000\n")
	b.ReportAllocs()
	for b.Loop() {
		s.Append(account, group, e, e, e)
	}
	cancel()
	wg.Wait()
}

func BenchmarkReadLastPage(b *testing.B) {
	s := open(b, Config{})
	for range 20 {
		fill(s, 10_000)
		_ = s.flush(b.Context())
	}
	for name, q := range map[string]Query{"time": {Start: at(9900)}, "all, 100": {Limit: 100}, "last 100": {Arrival: true, Last: true, Limit: 100}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				read(b, s, q)
			}
		})
	}
}
