package logs

import (
	"bytes"
	"container/list"
	"errors"
	"fmt"
	"os"
)

// writers are the segments open for writing, at most cfg.OpenFiles of them. The caller has Store.disk.
type writers struct {
	cfg  Config
	open map[groupKey]*list.Element // of *writer
	used *list.List                 // the longest unused first
}

// writer appends to the newest segment of one group.
type writer struct {
	key    groupKey
	dir    string
	number int64
	file   *os.File
	bytes  int64
	torn   bool // the file may end within a line
}

func newWriters(cfg Config) *writers {
	return &writers{cfg: cfg, open: make(map[groupKey]*list.Element), used: list.New()}
}

// write appends whole lines to a group, over as many segments as it takes. On an error it returns what was not written.
func (ws *writers) write(key groupKey, lines []byte) (left []byte, err error) {
	w, err := ws.get(key)
	if err != nil {
		return lines, err
	}
	for len(lines) > 0 {
		n := cutLines(lines, ws.cfg.SegmentBytes-w.bytes)
		if n == 0 && w.bytes > 0 {
			if err := w.rotate(ws.cfg.MaxBytes - ws.cfg.SegmentBytes); err != nil {
				ws.close(key)
				return lines, err
			}
			continue
		}
		if n == 0 { // a line longer than a segment
			n = bytes.IndexByte(lines, '\n') + 1
		}
		if err := w.append(lines[:n]); err != nil {
			ws.close(key) // opened anew, the file shows where it ends
			return lines, err
		}
		lines = lines[n:]
	}
	return nil, nil
}

// cutLines returns the length of the whole lines in b that fit in room bytes.
func cutLines(b []byte, room int64) int {
	if int64(len(b)) <= room {
		return len(b)
	}
	return bytes.LastIndexByte(b[:max(room, 0)], '\n') + 1
}

func (ws *writers) get(key groupKey) (*writer, error) {
	if e := ws.open[key]; e != nil {
		ws.used.MoveToBack(e)
		return e.Value.(*writer), nil
	}
	for ws.used.Len() >= ws.cfg.OpenFiles {
		ws.close(ws.used.Front().Value.(*writer).key)
	}
	w := &writer{key: key, dir: groupDir(ws.cfg.Dir, key), number: 1}
	if err := w.find(); err != nil {
		return nil, fmt.Errorf("open log group %s: %w", key.group, err)
	}
	ws.open[key] = ws.used.PushBack(w)
	return w, nil
}

func (ws *writers) close(key groupKey) {
	e := ws.open[key]
	if e == nil {
		return
	}
	delete(ws.open, key)
	_ = ws.used.Remove(e).(*writer).file.Close() // nothing is buffered
}

func (ws *writers) closeAll() {
	for key := range ws.open {
		ws.close(key)
	}
}

// find opens the group's newest segment, making the group if need be.
func (w *writer) find() error {
	segments, err := listSegments(w.dir)
	if errors.Is(err, ErrNotFound) || err == nil && len(segments) == 0 {
		err = makeGroup(w.dir)
	}
	if err != nil {
		return err
	}
	if n := len(segments); n > 0 {
		w.number = segments[n-1].number
	}
	return w.openFile()
}

func (w *writer) openFile() error {
	f, err := os.OpenFile(segmentPath(w.dir, w.number), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		var last [1]byte
		_, err = f.ReadAt(last[:], info.Size()-1)
		w.torn = last[0] != '\n'
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	w.file, w.bytes = f, info.Size()
	return nil
}

// append writes whole lines, after ending a line that an earlier crash or failure cut short.
func (w *writer) append(lines []byte) error {
	if w.torn {
		if _, err := w.file.WriteString(torn); err != nil {
			return err
		}
		w.torn = false
		w.bytes += int64(len(torn))
	}
	if _, err := w.file.Write(lines); err != nil {
		_ = w.file.Truncate(w.bytes) // else the part of a line is ended as torn
		return err
	}
	w.bytes += int64(len(lines))
	return nil
}

// rotate begins the next segment and removes the oldest ones until at most keep bytes are in the others.
func (w *writer) rotate(keep int64) error {
	segments, err := listSegments(w.dir)
	if err != nil {
		return err
	}
	for left := total(segments); len(segments) > 0 && left > keep; segments = segments[1:] {
		if err := os.Remove(segments[0].path); err != nil {
			return err
		}
		left -= segments[0].bytes
	}
	old := w.file
	w.number++
	w.torn = false
	if err := w.openFile(); err != nil {
		w.number--
		return err
	}
	return old.Close()
}
