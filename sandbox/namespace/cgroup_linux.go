package namespace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// Processor shares are enforced per period. The kernel's usual 100 ms would let a function with a 0.07-core share run 7 ms and
// then stand still for 93; with 20 ms the longest stop is 20 ms. Unused time of one period may be used in the next
// (burst), at most one quota.
const (
	cpuPeriod = 20 * time.Millisecond
	cpuQuota  = time.Millisecond // the smallest the kernel takes
	cpuLimit  = time.Second      // the longest period the kernel takes
)

// group is the cgroups of one sandbox at a time: a directory of the same name in each hierarchy.
type group struct {
	c      *cgroups
	name   string
	max    int64   // the memory limit
	cores  float64 // the processor share set last; 0: none
	period string  // of it
	v2     int     // descriptor of the v2 directory, for clone-into; -1 without v2

	limits sandbox.Limits // as written last, but for the processor share
	extra  int64          // on top of the memory limit, as written last
	lifted bool           // the processor share was, for the end
	once   bool           // not for another sandbox: in a state that is not known well enough
	before int64          // processor time in microseconds that others used in it
}

func (g *group) dir(root string) string { return filepath.Join(root, g.c.name, g.name) }

// file names a control file of v2 or of a v1 hierarchy; "" when this machine has neither.
func (g *group) file(v1root, v1, v2 string) string {
	switch {
	case g.c.unified:
		return filepath.Join(g.dir(g.c.v2), v2)
	case v1root != "":
		return filepath.Join(g.dir(v1root), v1)
	}
	return ""
}

// create makes the groups and sets the limits. extra is added to the memory limit.
func (c *cgroups) create(name string, limits sandbox.Limits, extra int64) (*group, error) {
	g := &group{c: c, name: name, max: limits.MemoryBytes + extra, v2: -1, limits: limits, extra: extra}
	for i, root := range c.roots() {
		if _, err := again(func() (int, error) { return 0, unix.Mkdir(g.dir(root), 0o755) }); err != nil {
			if i > 0 {
				g.remove(context.Background())
			}
			return nil, fmt.Errorf("cgroup %s: %w", g.dir(root), err)
		}
	}
	err := g.limit(limits, extra)
	if err == nil && c.v2 != "" {
		g.v2, err = unix.Open(g.dir(c.v2), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		g.remove(context.Background())
		return nil, err
	}
	return g, nil
}

func (g *group) limit(l sandbox.Limits, extra int64) error {
	memory := strconv.FormatInt(l.MemoryBytes+extra, 10)
	pids := strconv.Itoa(l.PIDs + 1) // the init is one more
	var w limitWriter
	if g.c.unified {
		dir := g.dir(g.c.v2)
		w.set(dir+"/memory.max", memory)
		w.setIfThere(dir+"/memory.swap.max", "0")
		w.set(dir+"/pids.max", pids)
	}
	if g.c.memory != "" {
		w.set(g.dir(g.c.memory)+"/memory.limit_in_bytes", memory)
		w.setIfThere(g.dir(g.c.memory)+"/memory.memsw.limit_in_bytes", memory)
	}
	if g.c.pids != "" {
		w.set(g.dir(g.c.pids)+"/pids.max", pids)
	}
	if w.err != nil {
		return w.err
	}
	return g.setCPUs(l.CPUs)
}

// change sets the limits that differ. The kernel refuses memory alone above memory with swap, so the order depends.
func (g *group) change(to sandbox.Limits, extra int64) error {
	var w limitWriter
	from := g.limits
	from.MemoryBytes += g.extra - extra
	if from.MemoryBytes != to.MemoryBytes {
		memory := strconv.FormatInt(to.MemoryBytes+extra, 10)
		if g.c.unified {
			w.set(g.dir(g.c.v2)+"/memory.max", memory)
		}
		if dir := g.c.memory; dir != "" && to.MemoryBytes > from.MemoryBytes {
			w.setIfThere(g.dir(dir)+"/memory.memsw.limit_in_bytes", memory)
			w.set(g.dir(dir)+"/memory.limit_in_bytes", memory)
		} else if dir != "" {
			w.set(g.dir(dir)+"/memory.limit_in_bytes", memory)
			w.setIfThere(g.dir(dir)+"/memory.memsw.limit_in_bytes", memory)
		}
		g.max = to.MemoryBytes + extra
	}
	if name := g.file(g.c.pids, "pids.max", "pids.max"); name != "" && from.PIDs != to.PIDs {
		w.set(name, strconv.Itoa(to.PIDs+1))
	}
	if w.err != nil {
		g.once = true
		return w.err
	}
	g.limits, g.extra = to, extra
	if g.cores == to.CPUs && !g.lifted {
		return nil
	}
	return g.setCPUs(to.CPUs)
}

// setCPUs sets the processor share with as few writes as that takes: each costs 40 µs. The kernel refuses a burst above the
// quota, so it goes first when the share falls, and last when it rises.
func (g *group) setCPUs(cores float64) error {
	period, quota := cpuBandwidth(cores)
	falls := (g.cores > cores || g.lifted) && period == g.period
	var w limitWriter
	burst := func(name, value string) {
		if name != "" {
			w.setIfThere(name, value)
		}
	}
	name, limit := g.file(g.c.cpu, "cpu.cfs_burst_us", "cpu.max.burst"), g.file(g.c.cpu, "cpu.cfs_quota_us", "cpu.max")
	if limit == "" {
		return nil
	}
	switch {
	case falls && g.cores == cores: // it is that
	case falls:
		burst(name, quota)
	case g.cores != 0:
		burst(name, "0")
	}
	if g.c.unified {
		w.set(limit, quota+" "+period)
	} else {
		if period != g.period {
			w.set(g.dir(g.c.cpu)+"/cpu.cfs_period_us", period)
		}
		w.set(limit, quota)
	}
	if !falls {
		burst(name, quota)
	}
	g.cores, g.period, g.lifted = cores, period, false
	if w.err != nil {
		g.period, g.once = "", true // unknown
	}
	return w.err
}

// unleash lifts the limit of the processor share, for the end of processes: a killed process needs the processor to end, and
// a thousand of them with a fourteenth of a core need half a minute. The limit stays a number, since the kernel patches its code
// when the last limit of the machine goes. Who has all processors needs no more.
func (g *group) unleash() error {
	if g.cores >= float64(runtime.NumCPU()) {
		return nil
	}
	g.lifted = true
	quota := strconv.FormatInt(int64(runtime.NumCPU())*cpuLimit.Microseconds(), 10) // no period is longer than cpuLimit
	if name := g.file(g.c.cpu, "cpu.cfs_quota_us", "cpu.max"); name != "" {
		return writeFile(name, quota)
	}
	return nil
}

// limitWriter writes control files until one fails.
type limitWriter struct{ err error }

func (w *limitWriter) set(name, value string) {
	if w.err == nil {
		w.err = writeFile(name, value)
	}
}

// setIfThere is for files that older kernels do not have.
func (w *limitWriter) setIfThere(name, value string) {
	if w.err == nil {
		if err := writeFile(name, value); !errors.Is(err, unix.ENOENT) {
			w.err = err
		}
	}
}

// cpuBandwidth returns period and quota in microseconds for a share of cores.
func cpuBandwidth(cores float64) (period, quota string) {
	p := cpuPeriod
	q := time.Duration(cores * float64(p))
	if q < cpuQuota {
		q = cpuQuota
		p = min(time.Duration(float64(q)/cores), cpuLimit)
	}
	return strconv.FormatInt(p.Microseconds(), 10), strconv.FormatInt(q.Microseconds(), 10)
}

// join moves a process into the v1 groups; v2 is entered by the clone.
func (g *group) join(pid int) error {
	for _, root := range g.c.roots() {
		if root == g.c.v2 {
			continue
		}
		if err := writeFile(g.dir(root)+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// freeze stops or continues all processes and waits until they are stopped.
func (g *group) freeze(ctx context.Context, frozen bool) error {
	g.once = true
	if g.c.v2 == "" {
		return g.freezeV1(ctx, frozen)
	}
	value := "0"
	if frozen {
		value = "1"
	}
	if err := writeFile(g.dir(g.c.v2)+"/cgroup.freeze", value); err != nil || !frozen {
		return err
	}
	events, err := unix.Open(g.dir(g.c.v2)+"/cgroup.events", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	defer unix.Close(events)
	var buf [128]byte
	for {
		n, err := unix.Pread(events, buf[:], 0)
		if err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
		if value, ok := keyed(buf[:n], "frozen"); ok && value == 1 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
		// The kernel reports a change of the file; the time limit is for ctx.
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(events), Events: unix.POLLPRI}}, 20); err != nil && err != unix.EINTR {
			return fmt.Errorf("freeze: %w", err)
		}
	}
}

func (g *group) freezeV1(ctx context.Context, frozen bool) error {
	if g.c.freezer == "" {
		return fmt.Errorf("freeze: %w: this machine has neither cgroup v2 nor the v1 freezer", sandbox.ErrUnsupported)
	}
	want := "THAWED"
	if frozen {
		want = "FROZEN"
	}
	name := g.dir(g.c.freezer) + "/freezer.state"
	var buf [32]byte
	for {
		if err := writeFile(name, want); err != nil { // again each time: FREEZING retries only when written to
			return err
		}
		state, err := readFile(name, buf[:])
		if err != nil {
			return err
		}
		if string(bytes.TrimSpace(state)) == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("freeze: %w", ctx.Err())
		case <-time.After(time.Millisecond): // v1 has no event for this
		}
	}
}

// kill ends every process at once, frozen or not. False: this machine cannot, kill the init instead.
func (g *group) kill() bool {
	g.once = true
	if g.c.v2 == "" {
		if g.c.freezer != "" {
			writeFile(g.dir(g.c.freezer)+"/freezer.state", "THAWED") // SIGKILL does not reach a process the v1 freezer holds
		}
		return false
	}
	return writeFile(g.dir(g.c.v2)+"/cgroup.kill", "1") == nil
}

// remove takes the groups away. All processes have ended; for a moment the kernel may still count them (EBUSY).
func (g *group) remove(ctx context.Context) error {
	if g.v2 >= 0 {
		unix.Close(g.v2)
		g.v2 = -1
	}
	var all error
	for _, root := range g.c.roots() {
		all = errors.Join(all, removeDir(ctx, g.dir(root)))
	}
	return all
}

// removeLimit is how long a group may be busy: a killed process needs the processor to end, which others may have.
const removeLimit = 20 * time.Second

func removeDir(ctx context.Context, dir string) error {
	wait := 100 * time.Microsecond
	for end := time.Now().Add(removeLimit); ; {
		_, err := again(func() (int, error) { return 0, unix.Rmdir(dir) })
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("rmdir %s: %w", dir, ctx.Err())
		case <-time.After(wait):
		}
		wait = min(2*wait, 50*time.Millisecond)
	}
}
