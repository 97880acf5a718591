// Package procfs reads what Linux tells in /proc: of processes, who descends from whom and how much memory each takes; of processors,
// what is idle. The server reads the latter; the benchmark and the end-to-end tests look at a server with the rest.
package procfs

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Stat is a part of /proc/PID/stat, see proc(5).
type Stat struct {
	PID, Parent int
	Command     string
	State       byte   // 'R' runs, 'S' sleeps, 'Z' is a zombie, …
	StartTicks  uint64 // clock ticks from boot to its start
}

// ReadStat reads /proc/PID/stat. The error wraps fs.ErrNotExist when the process is gone.
func ReadStat(pid int) (Stat, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Stat{}, err
	}
	return parseStat(string(content))
}

// parseStat parses "PID (COMMAND) STATE PPID …"; the command may hold anything, parentheses included.
func parseStat(line string) (Stat, error) {
	before, after, ok := cutLast(line, ")")
	number, command, ok2 := strings.Cut(before, " (")
	fields := strings.Fields(after)
	const parent, start = 1, 19 // the fields 4 and 22 of proc(5), counted from the state
	if !ok || !ok2 || len(fields) <= start {
		return Stat{}, fmt.Errorf("a process's stat has an unknown form: %q", line)
	}
	s := Stat{Command: command, State: fields[0][0]}
	var err error
	if s.PID, err = strconv.Atoi(number); err != nil {
		return Stat{}, fmt.Errorf("a process's stat: %w", err)
	}
	if s.Parent, err = strconv.Atoi(fields[parent]); err != nil {
		return Stat{}, fmt.Errorf("a process's stat: %w", err)
	}
	if s.StartTicks, err = strconv.ParseUint(fields[start], 10, 64); err != nil {
		return Stat{}, fmt.Errorf("a process's stat: %w", err)
	}
	return s, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Descendants returns the processes below one, nearest first, without itself.
func Descendants(root int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if stat, err := ReadStat(pid); err == nil { // else it has just ended
			children[stat.Parent] = append(children[stat.Parent], pid)
		}
	}
	var below []int
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		below = append(below, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return below, nil
}

// PSS returns a process's proportional set size in bytes: its own memory, and its share of what it shares with others.
func PSS(pid int) (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
}

// MemoryTotal returns the machine's memory in bytes.
func MemoryTotal() (int64, error) { return kilobytes("/proc/meminfo", "MemTotal:") }

// kilobytes finds the line "NAME NUMBER kB" in a file, and returns its number in bytes.
func kilobytes(path, name string) (int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name); ok {
			number, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			return number << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no line %s: a zombie's, perhaps", path, name)
}

// ticksPerSecond is the unit of times in /proc (USER_HZ), which Linux has fixed at 100 for programs on all its common platforms.
const ticksPerSecond = 100

// CPUTime returns how much processor time a process has used by itself, without its children, in steps of 10 ms.
func CPUTime(pid int) (time.Duration, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := cutLast(string(content), ")")
	fields := strings.Fields(after)
	const user, system = 11, 12 // the fields 14 and 15 of proc(5), counted from the state
	if len(fields) <= system {
		return 0, fmt.Errorf("a process's stat has an unknown form: %q", content)
	}
	ticks := uint64(0)
	for _, field := range fields[user : system+1] {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("a process's stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}
