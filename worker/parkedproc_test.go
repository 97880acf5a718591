package worker_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"berth/internal/procfs"
)

// parkedProcesses finds the runtimes below this process that wait for a function.
func parkedProcesses(t testing.TB) []int {
	t.Helper()
	all, err := procfs.Descendants(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, pid := range all {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if err == nil && strings.Contains(string(text), "_BERTH_PARK=") {
			found = append(found, pid)
		}
	}
	return found
}
