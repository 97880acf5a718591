package node

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// functionShare is the part of the machine's memory that environments may be promised; the rest is for the server itself,
// the page cache and everybody else.
const functionShare = 0.8

// memoryForFunctions returns how many bytes environments may be promised on this machine.
func memoryForFunctions() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("reading this machine's memory size (set --memory to give it): %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading MemTotal: %w", err)
		}
		return int64(float64(kib*1024) * functionShare), nil
	}
	return 0, fmt.Errorf("/proc/meminfo has no MemTotal: set --memory")
}
