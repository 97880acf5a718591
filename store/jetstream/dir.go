package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/nats-io/nuid"

	"berth/store"
)

const (
	lockName = "lock"
	modeName = "mode"

	// The content of the mode file, and the directory of the server's own files. They lie apart: the server deletes the
	// streams of a standalone directory that is started as a member of a cluster.
	modeAlone  = "berth engine, standalone server, format 1\n"
	modeMember = "berth engine, member %s of a cluster, format 1\n"
	dataAlone  = "standalone"
	dataMember = "cluster"
)

var memberMode = regexp.MustCompile(`^berth engine, member ([A-Za-z0-9_-]{1,64}) of a cluster, format 1\n$`)

// directory is a locked engine directory.
type directory struct {
	path    string
	minFree int64
	lock    *os.File
	member  string // the server's name in its cluster; "" of a standalone server
}

// openDirectory makes or opens an engine directory, locks it, and checks that it is a standalone server's, or that of the
// member of this name if there is a cluster. Without a name it keeps the one that it has, or takes a random one.
func openDirectory(path string, minFree int64, cluster *Cluster) (*directory, error) {
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
	if err := d.checkMode(cluster); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *directory) checkMode(cluster *Cluster) error {
	have, err := os.ReadFile(filepath.Join(d.path, modeName))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return d.initialize(cluster)
	case err != nil:
		return fmt.Errorf("the engine's directory: %w", err)
	}
	name := memberMode.FindStringSubmatch(string(have))
	switch {
	case string(have) == modeAlone && cluster == nil:
		return nil
	case string(have) == modeAlone:
		return fmt.Errorf("the engine's directory %s is a standalone server's, which would lose everything as a member of a cluster: "+
			"give each member an empty one, and move the data with `berth cluster export` and `berth cluster import`", d.path)
	case name == nil:
		return fmt.Errorf("the engine's directory %s is for %q, which this program does not know", d.path, bytes.TrimSpace(have))
	case cluster == nil:
		return fmt.Errorf("the engine's directory %s is that of member %s of a cluster: start it with --engine-cluster and --engine-routes", d.path, name[1])
	case cluster.Name != "" && cluster.Name != name[1]:
		return fmt.Errorf("the engine's directory %s is that of member %s, not of %s: each member keeps its name and its directory", d.path, name[1], cluster.Name)
	}
	d.member = name[1]
	return nil
}

// initialize marks a new directory. One that holds anything else is refused: it may be another server's.
func (d *directory) initialize(cluster *Cluster) error {
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
	mode := modeAlone
	if cluster != nil {
		if d.member = cluster.Name; d.member == "" {
			d.member = nuid.Next()
		}
		if mode = fmt.Sprintf(modeMember, d.member); !memberMode.MatchString(mode) {
			return fmt.Errorf("the engine's name %q: expected 1–64 letters, digits, - and _", d.member)
		}
	}
	if err := os.Mkdir(d.data(), 0o700); err != nil {
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

func (d *directory) data() string {
	if d.member != "" {
		return filepath.Join(d.path, dataMember)
	}
	return filepath.Join(d.path, dataAlone)
}

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
