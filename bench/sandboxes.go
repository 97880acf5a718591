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
	floor, err := b.floorAlone(ctx)
	if err != nil {
		return err
	}
	for _, line := range rows {
		switch line.Unit {
		case "µs":
			line.Floor = microseconds(floor.quantile(50))
		case "1/s":
			line.Floor = floor.throughput()
		}
		if err := b.report.add(sandboxBar(line)); err != nil {
			return err
		}
	}
	return nil
}

// The bars of making sandboxes on two cores.
const (
	barSandboxTime = 3000 // microseconds, alone
	barSandboxRate = 400  // a second, two at a time, teardown included
)

func sandboxBar(line row) row {
	switch line.Metric {
	case "sandbox.Sandbox/workers=1.create":
		return bar(line, fmt.Sprintf("≤ %d µs", barSandboxTime), func(r row) bool { return r.Value <= barSandboxTime })
	case "sandbox.Sandbox/workers=2.rate":
		return bar(line, fmt.Sprintf("≥ %d/s", barSandboxRate), func(r row) bool { return r.Value >= barSandboxRate })
	}
	return line
}

// parseBenchmarks reads lines like "BenchmarkSandbox/workers=2-2  500  2591 create-µs  390 per-s  1800000 ns/op": an
// operation's time, and metrics of the benchmark's own, whose unit stands at the end of their names.
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
			metric, micro := strings.CutSuffix(fields[i+1], "-µs")
			switch {
			case micro:
				rows = append(rows, row{Metric: "sandbox." + name + "." + metric, Value: value, Unit: "µs"})
			case metric == "per-s":
				rows = append(rows, row{Metric: "sandbox." + name + ".rate", Value: value, Unit: "1/s"})
			case metric == "ns/op":
				rows = append(rows, row{Metric: "sandbox." + name + ".operation", Value: value / 1e3, Unit: "µs"})
			}
		}
	}
	return rows
}
