package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"berth/lambda"
)

// Stream describes what a group still has of one stream.
type Stream struct {
	Name         string
	First, Last  time.Time // of its events
	LastIngested time.Time
	Bytes        int64 // of its messages as stored
}

// Streams returns the streams of a group whose names begin with prefix, by name. It reads all of the group.
// Errors: ErrNotFound.
func (s *Store) Streams(ctx context.Context, account lambda.AccountID, group, prefix string) ([]Stream, error) {
	if !validAccount(account) || !ValidGroup(group) {
		return nil, ErrNotFound
	}
	if err := s.flush(ctx); err != nil {
		return nil, err
	}
	segments, err := listSegments(groupDir(s.cfg.Dir, groupKey{account, group}))
	if err != nil {
		return nil, err
	}
	found := make(map[string]*Stream)
	var buf bytes.Buffer
	for _, seg := range segments {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := eachLine(seg.path, &buf, func(l line, _ int64) {
			if !bytes.HasPrefix(l.stream, []byte(prefix)) {
				return
			}
			st := found[string(l.stream)]
			if st == nil {
				st = &Stream{Name: string(l.stream), First: time.UnixMilli(l.time)}
				found[st.Name] = st
			}
			st.add(l)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read logs: %w", err)
		}
	}
	streams := make([]Stream, 0, len(found))
	for _, st := range found {
		streams = append(streams, *st)
	}
	slices.SortFunc(streams, func(x, y Stream) int { return strings.Compare(x.Name, y.Name) })
	return streams, nil
}

func (st *Stream) add(l line) {
	if t := time.UnixMilli(l.time); t.Before(st.First) {
		st.First = t
	} else if t.After(st.Last) {
		st.Last = t
	}
	if st.Last.IsZero() {
		st.Last = st.First
	}
	if t := time.UnixMilli(l.ingested); t.After(st.LastIngested) {
		st.LastIngested = t
	}
	st.Bytes += int64(len(l.message))
}
