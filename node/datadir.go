package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// dataDir is the directory that one server owns while it runs.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory (0700) and locks it. The lock is the kernel's: it ends with the process, however that ends.
func openDataDir(path string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the data directory's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another berth server%s uses %s: stop it, or choose another directory with --data", holder(lock), path)
		}
		return nil, fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	d := &dataDir{path: path, lock: lock}
	if err := d.writeHolder(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *dataDir) writeHolder() error {
	if err := d.lock.Truncate(0); err != nil {
		return fmt.Errorf("writing the lock: %w", err)
	}
	_, err := d.lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// holder names the process that holds the lock, for the message only.
func holder(lock *os.File) string {
	buf := make([]byte, 16)
	n, _ := lock.ReadAt(buf, 0)
	if pid := strings.TrimSpace(string(buf[:n])); pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}

func (d *dataDir) join(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) close() error { return d.lock.Close() }
