package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"berth/store"
)

const (
	lockName = "lock"
	modeName = "mode"
	dataName = "standalone"

	// mode is the content of the mode file. A cluster member's directory will say so and be laid out apart: the server
	// deletes the streams of a standalone directory that is started as a member.
	mode = "berth engine, standalone server, format 1\n"
)

// directory is a locked engine directory.
type directory struct {
	path    string
	minFree int64
	lock    *os.File
}

// openDirectory makes or opens an engine directory, locks it, and checks that it is a standalone server's.
func openDirectory(path string, minFree int64) (*directory, error) {
	if path == "" {
		return nil, errors.New("the engine needs a directory")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("the engine's directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the engine's directory: %w", err)
	}
	d := &directory{path: path, minFree: minFree, lock: lock}
	if err := tryLock(lock); err != nil {
		return nil, errors.Join(fmt.Errorf("the engine's directory %s is open in another process: stop that one, or choose another directory: %w",
			path, err), d.close())
	}
	if err := d.checkMode(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *directory) checkMode() error {
	have, err := os.ReadFile(filepath.Join(d.path, modeName))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return d.initialize()
	case err != nil:
		return fmt.Errorf("the engine's directory: %w", err)
	case string(have) != mode:
		return fmt.Errorf("the engine's directory %s is for %q, but this is %q: choose another directory, and move the data by snapshot and restore",
			d.path, bytes.TrimSpace(have), mode[:len(mode)-1])
	}
	return nil
}

// initialize marks a new directory. One that holds anything else is refused: it may be another server's.
func (d *directory) initialize() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("the engine's directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockName && e.Name() != modeName+".new" {
			return fmt.Errorf("the engine's directory %s has no file %q but holds %q: it is not an engine's, choose an empty one",
				d.path, modeName, e.Name())
		}
	}
	if err := os.Mkdir(filepath.Join(d.path, dataName), 0o700); err != nil {
		return fmt.Errorf("the engine's directory: %w", err)
	}
	if err := writeSynced(d.path, modeName, mode); err != nil {
		return fmt.Errorf("the engine's directory: %w", err)
	}
	return nil
}

// writeSynced makes a whole file appear, or none, whenever the power goes.
func writeSynced(dir, name, content string) (err error) {
	temporary := filepath.Join(dir, name+".new")
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

func (d *directory) data() string { return filepath.Join(d.path, dataName) }

// room refuses a write of so many bytes that would reach into the reserve.
func (d *directory) room(size int) error {
	free, err := freeBytes(d.path)
	if err != nil {
		return fmt.Errorf("looking for free space in %s: %w", d.path, err)
	}
	if free-int64(size) < d.minFree {
		return fmt.Errorf("%w: the file system of %s has %d MiB free, writes stop at %d MiB: make room there",
			store.ErrFull, d.path, free>>20, d.minFree>>20)
	}
	return nil
}

func (d *directory) close() error { return d.lock.Close() } // which also unlocks
