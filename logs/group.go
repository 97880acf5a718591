package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/lambda"
)

// Group describes a log group.
type Group struct {
	Name    string
	Created time.Time
	Bytes   int64 // on disk
}

// ValidGroup reports whether name has the API's form [\.\-_/#A-Za-z0-9]{1,512}.
func ValidGroup(name string) bool {
	for i := range len(name) {
		if c := name[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(".-_/#", c) >= 0) {
			return false
		}
	}
	return name != "" && len(name) <= 512
}

func validAccount(id lambda.AccountID) bool {
	return len(id) == 12 && strings.Trim(string(id), "0123456789") == ""
}

// chunk is how much of a group's name one directory's name holds; NAME_MAX is 255.
const chunk = 200

// groupDir is where a valid group lives: its name with '+' for '/', after '='; a longer name is cut, each piece but the last
// being a directory with '~' before it. So no name is special, all are reversible, and none is below another group's.
func groupDir(root string, key groupKey) string {
	path, rest := filepath.Join(root, string(key.account)), strings.ReplaceAll(key.group, "/", "+")
	for len(rest) > chunk {
		path, rest = filepath.Join(path, "~"+rest[:chunk]), rest[chunk:]
	}
	return filepath.Join(path, "="+rest)
}

const createdFile = "group"

// CreateGroup makes an empty group. Append does so too. Errors: fs.ErrExist.
func (s *Store) CreateGroup(account lambda.AccountID, group string) error {
	if !validAccount(account) || !ValidGroup(group) {
		return fmt.Errorf("log group %.80q of account %.20q: invalid name", group, account)
	}
	dir := groupDir(s.cfg.Dir, groupKey{account, group})
	if _, err := os.Stat(filepath.Join(dir, createdFile)); err == nil {
		return fs.ErrExist
	}
	if err := makeGroup(dir); err != nil {
		return fmt.Errorf("create log group: %w", err)
	}
	return nil
}

func makeGroup(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, createdFile), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Groups returns at most limit groups of an account whose names begin with prefix and come after the name after, by name.
func (s *Store) Groups(ctx context.Context, account lambda.AccountID, prefix, after string, limit int) ([]Group, error) {
	if !validAccount(account) {
		return nil, nil
	}
	if err := s.flush(ctx); err != nil {
		return nil, err
	}
	names, err := groupNames(filepath.Join(s.cfg.Dir, string(account)), "", 0)
	if err != nil {
		return nil, fmt.Errorf("list log groups: %w", err)
	}
	slices.Sort(names)
	var groups []Group
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) || name <= after {
			continue
		}
		if len(groups) == limit {
			break
		}
		dir := groupDir(s.cfg.Dir, groupKey{account, name})
		info, err := os.Stat(filepath.Join(dir, createdFile))
		if err != nil {
			continue // deleted meanwhile
		}
		segments, err := listSegments(dir)
		if err != nil {
			continue
		}
		groups = append(groups, Group{Name: name, Created: info.ModTime(), Bytes: total(segments)})
	}
	return groups, nil
}

// groupNames undoes groupDir for everything below a directory.
func groupNames(dir, before string, depth int) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		switch name := e.Name(); {
		case name[0] == '=':
			names = append(names, before+strings.ReplaceAll(name[1:], "+", "/"))
		case name[0] == '~' && depth < 4:
			longer, err := groupNames(filepath.Join(dir, name), before+strings.ReplaceAll(name[1:], "+", "/"), depth+1)
			if err != nil {
				return nil, err
			}
			names = append(names, longer...)
		}
	}
	return names, nil
}

// DeleteLogGroup removes a group with all its events, those still waiting included. Errors: ErrNotFound.
func (s *Store) DeleteLogGroup(ctx context.Context, account lambda.AccountID, group string) error {
	if !validAccount(account) || !ValidGroup(group) {
		return ErrNotFound
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	select {
	case s.disk <- struct{}{}:
		defer func() { <-s.disk }()
	case <-ctx.Done():
		return ctx.Err()
	}
	key := groupKey{account, group}
	dir := groupDir(s.cfg.Dir, key)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	s.files.close(key)
	s.ranges.clear() // segments of a group made anew have the same names
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("delete log group: %w", err)
	}
	return nil
}

// segment is one file of a group.
type segment struct {
	number int64
	path   string
	bytes  int64
}

const segmentSuffix = ".log"

func segmentPath(dir string, number int64) string {
	return filepath.Join(dir, fmt.Sprintf("%010d", number)+segmentSuffix)
}

// listSegments returns a group's files, the oldest first. Error: ErrNotFound.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	var found []segment
	for _, e := range entries { // by name, so by number
		digits, is := strings.CutSuffix(e.Name(), segmentSuffix)
		number, err := strconv.ParseInt(digits, 10, 64)
		if !is || err != nil || number < 1 {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // removed meanwhile
		}
		found = append(found, segment{number, filepath.Join(dir, e.Name()), info.Size()})
	}
	return found, nil
}

func total(segments []segment) (bytes int64) {
	for _, s := range segments {
		bytes += s.bytes
	}
	return bytes
}
