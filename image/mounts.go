package image

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"berth/sandbox"
)

// driversOwn are the directories that every sandbox has of its own.
var driversOwn = []string{"/dev", "/proc", "/sys", "/tmp"}

// Mounts shows the unpacked image in dir as the root of a sandbox: one mount for each entry of its root, so that what is the
// driver's own (/proc, /dev, /tmp) stays that. Links at the top become mounts of what they point to. The directories in
// open are left out, for other mounts: those above them are shown entry by entry.
func Mounts(dir string, open ...string) ([]sandbox.Mount, error) {
	root, err := os.OpenRoot(Root(dir))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	m := mounter{root: root, host: Root(dir), open: open}
	if err := m.below("/"); err != nil {
		return nil, err
	}
	if most := sandbox.MaxMounts - len(open); len(m.mounts) > most {
		return nil, refuse("its root directory has %d entries; at most %d can be shown.", len(m.mounts), most)
	}
	return m.mounts, nil
}

type mounter struct {
	root   *os.Root
	host   string
	open   []string
	mounts []sandbox.Mount
}

// below shows the entries of a directory.
func (m *mounter) below(dir string) error {
	real, info, err := follow(m.root, dir, true)
	if err != nil || info == nil || !info.IsDir() {
		return nil // nothing to show
	}
	entries, err := entriesOf(m.root, real)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		target := path.Join(dir, e.Name())
		switch {
		case slices.Contains(driversOwn, target) || slices.Contains(m.open, target):
		case slices.ContainsFunc(m.open, func(o string) bool { return strings.HasPrefix(o, target+"/") }):
			if err := m.below(target); err != nil {
				return err
			}
		default:
			m.show(target)
		}
	}
	return nil
}

// show mounts one entry, unless it is a link to nowhere or to what is the driver's own.
func (m *mounter) show(target string) {
	real, info, err := follow(m.root, target, true)
	if err != nil || info == nil || real == "" || !info.IsDir() && !info.Mode().IsRegular() {
		return
	}
	for _, own := range driversOwn {
		if "/"+real == own || strings.HasPrefix("/"+real, own+"/") {
			return
		}
	}
	m.mounts = append(m.mounts, sandbox.Mount{Source: path.Join(m.host, real), Target: target})
}
