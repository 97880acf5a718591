package namespace

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// keyed finds "key value" lines, the form of memory.stat, cpu.stat and cgroup.events.
func keyed(text []byte, key string) (int64, bool) {
	for line := range bytes.Lines(text) {
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if ok && string(name) == key {
			n, err := strconv.ParseInt(string(value), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

func (g *group) number(name string) int64 {
	if name == "" {
		return 0
	}
	var buf [64]byte
	text, err := readFile(name, buf[:])
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (g *group) key(name, key string) int64 {
	if name == "" {
		return 0
	}
	var buf [8 << 10]byte // memory.stat is under 3 KiB
	text, err := readFile(name, buf[:])
	if err != nil {
		return 0
	}
	n, _ := keyed(text, key)
	return n
}

// sum reads a file once and adds the values of two keys: the kernel sums up memory.stat anew for each reader.
func (g *group) sum(name, first, second string) int64 {
	if name == "" {
		return 0
	}
	var buf [8 << 10]byte
	text, err := readFile(name, buf[:])
	if err != nil {
		return 0
	}
	a, _ := keyed(text, first)
	b, _ := keyed(text, second)
	return a + b
}

// oomKills counts the processes the kernel killed because the sandbox was out of memory.
func (g *group) oomKills() int {
	return int(g.key(g.file(g.c.memory, "memory.oom_control", "memory.events"), "oom_kill"))
}

// usage reads the counters. Memory leaves out file cache the kernel can drop at will, as Lambda's figures do; the peak has
// no such split, so the cache of now is taken off it, which is right unless cache was dropped under pressure.
func (g *group) usage() sandbox.Usage {
	var u sandbox.Usage
	now := g.number(g.file(g.c.memory, "memory.usage_in_bytes", "memory.current"))
	peak, cache := g.peak()
	u.MemoryBytes = max(0, now-cache)
	u.MaxMemoryBytes = max(u.MemoryBytes, peak-cache)
	if g.c.v2 != "" {
		// Processor time is accounted on every v2 group, with or without the cpu controller.
		u.CPUNanoseconds = 1000 * (g.cpuTime() - g.before)
	}
	u.PIDs = int(max(0, g.number(g.file(g.c.pids, "pids.current", "pids.current"))-1))
	u.OOMKills = g.oomKills()
	return u
}

// cpuTime is in microseconds, from the making of the group on.
func (g *group) cpuTime() int64 { return g.key(g.dir(g.c.v2)+"/cpu.stat", "usage_usec") }

// peak is the highest use of memory, and the file cache of now.
func (g *group) peak() (peak, cache int64) {
	// The kernel counts in batches, so that the peak can be a page or two past the limit.
	peak = min(g.max, g.number(g.file(g.c.memory, "memory.max_usage_in_bytes", "memory.peak")))
	stat, active, inactive := g.file(g.c.memory, "memory.stat", "memory.stat"), "active_file", "inactive_file"
	if !g.c.unified {
		active, inactive = "total_active_file", "total_inactive_file"
	}
	return peak, g.sum(stat, inactive, active)
}

// sweep ends and removes what an earlier daemon left in the groups, and returns how many sandboxes that were.
func (c *cgroups) sweep(each func(*group) error) (int, error) {
	names := map[string]bool{}
	for _, root := range c.roots() {
		entries, err := os.ReadDir(filepath.Join(root, c.name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		for _, e := range entries {
			if e.IsDir() {
				names[e.Name()] = true
			}
		}
	}
	var all error
	for name := range names {
		all = errors.Join(all, each(&group{c: c, name: name, v2: -1}))
	}
	return len(names), all
}

// killMembers sends SIGKILL to every process of the group: after a daemon's death there is no init to ask.
func (g *group) killMembers() {
	g.unleash()
	g.hurry()
	g.kill()
	for _, root := range g.c.roots() {
		text, err := os.ReadFile(g.dir(root) + "/cgroup.procs")
		if err != nil {
			continue
		}
		for _, field := range bytes.Fields(text) {
			if pid, err := strconv.Atoi(string(field)); err == nil && pid > 1 {
				unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}
