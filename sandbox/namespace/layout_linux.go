package namespace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// layout is where this machine keeps its cgroup controllers. Three forms exist: pure v2 (v2 has the controllers), pure v1,
// and hybrid (controllers on v1, a v2 hierarchy without them beside it). In the hybrid form limits go on v1, and
// clone-into, freeze and kill on v2. "" is absent.
type layout struct {
	v2      string // mount point of cgroup v2
	unified bool   // v2 has memory, cpu and pids
	memory  string // mount points of v1 hierarchies
	cpu     string
	pids    string
	freezer string // v1's, used only without v2
}

// detectLayout reads a /proc/self/mountinfo. root is put before every mount point; tests set it to a fake tree.
func detectLayout(mountinfo io.Reader, root string) (layout, error) {
	var l layout
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		point := filepath.Join(root, left[4])
		switch right[0] {
		case "cgroup2":
			l.v2 = point
		case "cgroup":
			options := strings.Split(right[2], ",")
			for name, to := range map[string]*string{"memory": &l.memory, "cpu": &l.cpu, "pids": &l.pids, "freezer": &l.freezer} {
				if slices.Contains(options, name) {
					*to = point
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		return layout{}, fmt.Errorf("read the mount table: %w", err)
	}
	if l.v2 == "" {
		return l, nil
	}
	text, err := os.ReadFile(filepath.Join(l.v2, "cgroup.controllers"))
	if err != nil {
		return layout{}, fmt.Errorf("cgroup v2: %w", err)
	}
	have := strings.Fields(string(text))
	l.unified = slices.Contains(have, "memory") && slices.Contains(have, "cpu") && slices.Contains(have, "pids")
	return l, nil
}

// roots are the hierarchies in which every sandbox gets a directory.
func (l layout) roots() []string {
	all := []string{l.v2}
	if !l.unified {
		all = append(all, l.memory, l.cpu, l.pids)
	}
	if l.v2 == "" {
		all = append(all, l.freezer)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == "" })
}

// cgroups makes the groups of one driver, all below one parent per hierarchy so that a sweep finds them.
type cgroups struct {
	layout
	name string // of the parent

	mu     sync.Mutex
	made   int      // groups have this number as their name
	free   []*group // used and as good as new
	closed bool
}

// newCgroups makes the parents. A limit this machine cannot enforce is logged, not refused: the operator decides.
func newCgroups(l layout, name string, log *slog.Logger) (*cgroups, error) {
	c := &cgroups{layout: l, name: name}
	if l.unified {
		if err := delegate(l.v2); err != nil {
			return nil, err
		}
	}
	for _, root := range l.roots() {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cgroup parent: %w", err)
		}
	}
	if l.unified {
		return c, delegate(filepath.Join(l.v2, name))
	}
	if err := c.makeLow(); err != nil {
		return nil, fmt.Errorf("cgroup for what yields: %w", err)
	}
	for what, dir := range map[string]string{"memory": l.memory, "cpu": l.cpu, "pids": l.pids} {
		if dir == "" {
			log.Warn("sandbox limit is not enforced: no cgroup controller", "controller", what)
		}
	}
	return c, nil
}

// delegate hands the controllers on to the children of a v2 group.
func delegate(dir string) error {
	err := writeFile(filepath.Join(dir, "cgroup.subtree_control"), "+memory +cpu +pids")
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("cgroup %s holds processes, so it cannot have limited children: start the daemon in a child group: %w", dir, err)
	}
	return err
}

// close removes what is kept, and the parents.
func (c *cgroups) close() error {
	c.mu.Lock()
	free := c.free
	c.free, c.closed = nil, true
	c.mu.Unlock()
	var err error
	for _, g := range free {
		err = errors.Join(err, g.remove(context.Background()))
	}
	c.removeParents()
	return err
}

// removeParents takes the parents away again, if nobody else's groups are in them.
func (c *cgroups) removeParents() {
	for _, root := range c.roots() {
		os.Remove(filepath.Join(root, c.name)) // not empty: a sandbox leaked, and the next sweep has it
	}
	if !c.unified && c.cpu != "" {
		os.Remove(c.low())
	}
}

// again makes a system call until no signal interrupts it. Go's scheduler and garbage collector send signals to this process's threads
// at any time, and not every call is restarted by the kernel: the write of a v1 memory limit ends with EINTR when one is pending.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

// writeFile writes one value into a cgroup file. Unlike os.WriteFile it does not register the file with the poller.
func writeFile(name, value string) error {
	fd, err := again(func() (int, error) { return unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	if _, err := again(func() (int, error) { return unix.Write(fd, []byte(value)) }); err != nil {
		return fmt.Errorf("write %q to %s: %w", value, name, err)
	}
	return nil
}

// readFile reads one small cgroup file into buf and returns what it read.
func readFile(name string, buf []byte) ([]byte, error) {
	fd, err := again(func() (int, error) { return unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	n, err := again(func() (int, error) { return unix.Read(fd, buf) })
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return buf[:n], nil
}
