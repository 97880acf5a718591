package namespace

import (
	"context"
	"errors"
	"io/fs"
	"strconv"

	"berth/sandbox"
)

const (
	groupsKept = 16      // used groups that wait for another sandbox
	groupRest  = 1 << 20 // bytes that may still be charged to one: what the kernel keeps of ended processes
)

// take finds groups that another sandbox had, or makes some, and sets the limits. To make and to remove them takes 0.4 ms of processor
// time, most of that for the memory controller's.
func (c *cgroups) take(limits sandbox.Limits, extra int64) (*group, error) {
	c.mu.Lock()
	var g *group
	if last := len(c.free) - 1; last >= 0 {
		g, c.free = c.free[last], c.free[:last]
	}
	c.mu.Unlock()
	if g != nil {
		if g.change(limits, extra) == nil {
			return g, nil
		}
		g.remove(context.Background()) // failing, the next daemon sweeps it
	}
	for {
		c.mu.Lock()
		c.made++
		name := strconv.Itoa(c.made)
		c.mu.Unlock()
		g, err := c.create(name, limits, extra)
		if !errors.Is(err, fs.ErrExist) { // nobody has swept
			return g, err
		}
	}
}

// give keeps groups whose processes have ended for another sandbox, or removes them.
func (g *group) give(ctx context.Context) error {
	if g.renew() {
		g.c.mu.Lock()
		keep := !g.c.closed && len(g.c.free) < groupsKept
		if keep {
			g.c.free = append(g.c.free, g)
		}
		g.c.mu.Unlock()
		if keep {
			return nil
		}
	}
	return g.remove(ctx)
}

// renew makes groups as good as new, if that can be: nobody is in them, next to nothing is charged to them, nothing
// unusual has happened in them, and the highest use of memory can be forgotten, which v2's cannot on most kernels.
func (g *group) renew() bool {
	if g.once || g.c.unified || g.c.v2 == "" || g.oomKills() != 0 {
		return false
	}
	var buf [256]byte
	text, err := readFile(g.dir(g.c.v2)+"/cgroup.events", buf[:])
	if populated, ok := keyed(text, "populated"); err != nil || !ok || populated != 0 {
		return false
	}
	if g.c.memory != "" {
		if g.number(g.dir(g.c.memory)+"/memory.usage_in_bytes") > groupRest {
			return false
		}
		if writeFile(g.dir(g.c.memory)+"/memory.max_usage_in_bytes", "0") != nil {
			return false
		}
	}
	g.before = g.cpuTime()
	return true
}
