package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/internal/procfs"
	"berth/internal/serverproc"
)

// goneWithin is how soon after a server's end all that it made must be gone.
const goneWithin = 20 * time.Second

// traces is what a running server has made on this machine: processes, and the cgroups that they are in.
type traces struct {
	processes map[string]bool // "pid start-time command"
	cgroups   map[string]bool // directories
}

// tracesOf looks at all processes below a server. The server's own cgroups are not its work: it was started in them.
func tracesOf(t *testing.T, s *serverproc.Server) traces {
	t.Helper()
	found := traces{map[string]bool{}, map[string]bool{}}
	below, err := procfs.Descendants(s.PID())
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range below {
		if process := describe(pid); process != "" {
			found.processes[process] = true
		}
		maps.Copy(found.cgroups, cgroupsOf(t, pid))
	}
	for dir := range cgroupsOf(t, s.PID()) {
		delete(found.cgroups, dir)
	}
	for dir := range cgroupsOf(t, os.Getpid()) {
		delete(found.cgroups, dir)
	}
	return found
}

// describe names a process so that another one with the same number has another name; "" when it is gone.
func describe(pid int) string {
	stat, err := procfs.ReadStat(pid)
	if err != nil || stat.State == 'Z' {
		return ""
	}
	return fmt.Sprintf("%d %d %s", pid, stat.StartTicks, stat.Command)
}

// cgroupsOf returns the directories of a process's cgroups, in all hierarchies that are mounted.
func cgroupsOf(t *testing.T, pid int) map[string]bool {
	t.Helper()
	dirs := map[string]bool{}
	file, err := os.Open(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return dirs // the process has ended
	}
	defer file.Close()
	mounts := cgroupMounts(t)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		parts := strings.SplitN(lines.Text(), ":", 3) // number:controllers:path
		if len(parts) != 3 {
			continue
		}
		controller, _, _ := strings.Cut(parts[1], ",")
		if mount, ok := mounts[controller]; ok && parts[2] != "/" {
			dirs[filepath.Join(mount, parts[2])] = true
		}
	}
	return dirs
}

// cgroupMounts maps each v1 controller (or name=…) to its mount point, and "" to that of v2.
func cgroupMounts(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	mounts := map[string]string{}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		switch fields[2] {
		case "cgroup2":
			mounts[""] = fields[1]
		case "cgroup":
			for option := range strings.SplitSeq(fields[3], ",") {
				mounts[option] = fields[1]
			}
		}
	}
	return mounts
}

// left returns which of the traces are still there.
func (tr traces) left() []string {
	var left []string
	for process := range tr.processes {
		number, _, _ := strings.Cut(process, " ")
		if pid, err := strconv.Atoi(number); err == nil && describe(pid) == process {
			left = append(left, "process "+process)
		}
	}
	for dir := range tr.cgroups {
		if _, err := os.Stat(dir); err == nil {
			left = append(left, "cgroup "+dir)
		}
	}
	return left
}

// wantGone fails the test unless all traces vanish, and all mounts that were not there before.
func (tr traces) wantGone(t *testing.T, mountsBefore map[string]bool) {
	t.Helper()
	// Other tests on this machine mount things, too, but none of theirs stays: what was there at every look is left over.
	mountsLeft := mounts(t)
	var left []string
	for deadline := time.Now().Add(goneWithin); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		now := mounts(t)
		left = tr.left()
		for line := range mountsLeft {
			switch {
			case mountsBefore[line] || !now[line]:
				delete(mountsLeft, line)
			default:
				left = append(left, "mount "+line)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	slices.Sort(left)
	t.Errorf("%d things are left behind %s after the server's end:\n%s", len(left), goneWithin, strings.Join(left, "\n"))
}

func mounts(t *testing.T) map[string]bool {
	t.Helper()
	content, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(content)) {
		found[strings.TrimSpace(line)] = true
	}
	return found
}
