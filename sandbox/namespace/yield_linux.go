package namespace

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Yield implements sandbox.Sandbox. The kernel weighs groups against their siblings only, so being last among the sandboxes
// would not be being last on the machine. On cgroup v1 the processes go to one group beside the sandboxes' parent meanwhile,
// in the processor hierarchy only; the share's limit does not hold there, but nobody suffers. On v2 the group is the
// memory's as well, and only its weight among the sandboxes changes.
func (b *box) Yield(_ context.Context, yield bool) error {
	return b.share(func(g *group) error {
		b.yields = yield
		if g.c.unified {
			var w limitWriter
			value := "0"
			if yield {
				value = "1"
			}
			w.setIfThere(g.dir(g.c.v2)+"/cpu.idle", value)
			return w.err
		}
		if g.c.cpu == "" {
			return nil
		}
		to := g.dir(g.c.cpu)
		if yield {
			to = g.c.low()
		}
		return g.moveTo(to, b.pid)
	})
}

// moveTo puts all processes of the sandbox but its init into a group of the processor hierarchy.
func (g *group) moveTo(dir string, init int) error {
	members := g.c.pids // any hierarchy that they do not leave
	if members == "" {
		members = g.c.memory
	}
	if members == "" {
		return nil
	}
	text, err := os.ReadFile(g.dir(members) + "/cgroup.procs")
	if err != nil {
		return err
	}
	for _, pid := range bytes.Fields(text) {
		if string(pid) == strconv.Itoa(init) {
			continue
		}
		if err := writeFile(dir+"/cgroup.procs", string(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// yieldingSuffix ends the name of the group of those that yield.
const yieldingSuffix = "-yielding"

func (c *cgroups) low() string { return filepath.Join(c.cpu, c.name+yieldingSuffix) }

// makeLow makes it, on cgroup v1.
func (c *cgroups) makeLow() error {
	if c.unified || c.cpu == "" {
		return nil
	}
	if err := os.Mkdir(c.low(), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return c.setLow(true)
}

// setLow says whether that group yields: while those that an earlier daemon left are killed it does not.
func (c *cgroups) setLow(yields bool) error {
	if c.unified || c.cpu == "" {
		return nil
	}
	idle, shares := "0", "1024"
	if yields {
		idle, shares = "1", "2" // the least there is; kernels before 5.15
	}
	if err := writeFile(c.low()+"/cpu.idle", idle); err == nil {
		return nil
	}
	return writeFile(c.low()+"/cpu.shares", shares)
}

// hurry ends the yielding of a whole group on cgroup v2, where it is the group's own, so that its killed processes end soon.
func (g *group) hurry() {
	if g.c.unified {
		writeFile(g.dir(g.c.v2)+"/cpu.idle", "0") // in vain: it takes longer
	}
}
