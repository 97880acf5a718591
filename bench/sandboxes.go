package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// sandboxes runs the sandbox driver's own Go benchmarks, and reports what each operation takes.
func (b *bench) sandboxes(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchtime", "2s", "berth/sandbox/namespace")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("the driver's benchmarks: %w\n%s", err, out)
	}
	rows := parseBenchmarks(string(out))
	if len(rows) == 0 {
		return fmt.Errorf("the driver's benchmarks printed no figures:\n%s", out)
	}
	for _, line := range rows {
		if err := b.report.add(line); err != nil {
			return err
		}
	}
	return nil
}

// parseBenchmarks reads lines like "BenchmarkCreate-2  500  1800000 ns/op  546 sandboxes/s". An operation's time gives
// its rate; other metrics are taken as they are.
func parseBenchmarks(output string) []row {
	var rows []row
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(fields[0], "Benchmark"), "-")
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil || value == 0 {
				continue
			}
			switch unit := fields[i+1]; unit {
			case "ns/op":
				rows = append(rows, row{Metric: "sandbox." + name, Value: value / 1e6, Unit: "ms"},
					row{Metric: "sandbox." + name + ".rate", Value: 1e9 / value, Unit: "1/s"})
			case "B/op", "allocs/op":
			default:
				rows = append(rows, row{Metric: "sandbox." + name + "." + unit, Value: value})
			}
		}
	}
	return rows
}
