package namespace

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A daemon that was killed and never started again with its state directory leaves empty groups for ever. They are not for
// free: to set one processor share the kernel looks at every group of the machine, so with 14,000 groups that killed tests had
// left a sandbox took 5 ms longer to make. So each parent bears the name of its state directory, and every daemon's first
// sweep removes what those leave that cannot come back for it.
const (
	ownerMark  = "trusted.berth.state" // of the parents: the mount namespace in which the path holds, a blank, and the path
	strayPause = time.Second           // after so long the rest is left to the next sweep
)

// mark says whose the parents are. Where the kernel or a lack of privileges refuses it, nobody will sweep them but a daemon
// with the same state directory.
func (c *cgroups) mark(stateDir string) {
	owner, err := ownerOf(stateDir)
	if err != nil {
		return
	}
	for _, root := range c.roots() {
		unix.Setxattr(filepath.Join(root, c.name), ownerMark, []byte(owner), 0)
	}
	if !c.unified && c.cpu != "" {
		unix.Setxattr(c.low(), ownerMark, []byte(owner), 0)
	}
}

func ownerOf(stateDir string) (string, error) {
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/mnt", &ns); err != nil {
		return "", err
	}
	return strconv.FormatUint(ns.Ino, 10) + " " + filepath.Clean(stateDir), nil
}

// sweepStrays removes the groups of daemons whose state directories are gone. Processes are never touched: a
// group that has any is not removed. It is done as far as it goes in strayPause.
func (c *cgroups) sweepStrays() (removed int) {
	end := time.Now().Add(strayPause)
	dead := map[string]bool{} // by mark
	for _, root := range c.roots() {
		parents, _ := filepath.Glob(filepath.Join(root, "berth-*"))
		for _, parent := range parents {
			if name := strings.TrimSuffix(filepath.Base(parent), yieldingSuffix); name == c.name {
				continue
			}
			var buf [4096]byte
			n, err := unix.Getxattr(parent, ownerMark, buf[:])
			if err != nil {
				continue // without a mark: nobody knows whose it is
			}
			mark := string(buf[:n])
			if _, known := dead[mark]; !known {
				dead[mark] = ownerDead(mark)
			}
			if !dead[mark] {
				continue
			}
			n, more := removeEmpty(parent, end)
			if removed += n; !more {
				return removed
			}
		}
	}
	return removed
}

// ownerDead reports whether the state directory that a mark names is gone. One that is there has its daemon, or will have one
// that sweeps; and who sees it from another mount namespace cannot know.
func ownerDead(mark string) bool {
	_, stateDir, _ := strings.Cut(mark, " ")
	if here, err := ownerOf(stateDir); err != nil || here != mark {
		return false
	}
	_, err := os.Lstat(stateDir)
	return errors.Is(err, os.ErrNotExist)
}

// removeEmpty removes a parent's groups, and then itself, as far as they are empty; false when the time is over.
func removeEmpty(parent string, end time.Time) (removed int, more bool) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return 0, true
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if time.Now().After(end) {
			return removed, false
		}
		if unix.Rmdir(filepath.Join(parent, e.Name())) == nil {
			removed++
		}
	}
	unix.Rmdir(parent) // fails if something lives in it
	return removed, true
}
