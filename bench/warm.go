package main

import (
	"context"
	"fmt"
	"slices"

	"berth/internal/procfs"
)

// maxClients bounds the numbers of clients that call at the same time.
const maxClients = 1000

// Targets of warm calls, as multiples of the floor's figures.
const (
	targetThroughput = 0.30 // own runtimes, 16 and 64 clients
	targetP50        = 3.0  // one client
	targetP99        = 1.0  // 16 clients
	targetCPU        = 3.0  // processor time of the server for each call
	targetStub       = 0.9  // Go, of what it reaches against an empty stub
)

// warm measures throughput and times of calls that find an idle environment.
func (b *bench) warm(ctx context.Context, t *target) error {
	for _, language := range t.languages {
		if len(b.languages) > 0 && !slices.Contains(b.languages, language) {
			continue
		}
		for _, clients := range b.clients {
			size := memoryFor(clients)
			if b.megabytes > 0 {
				size = int32(b.megabytes)
			}
			if err := setMemory(ctx, t, language, size); err != nil {
				return err
			}
			floor, target, err := b.alternate(ctx, t, language, clients)
			if err != nil {
				return fmt.Errorf("%s, %d clients: %w", language, clients, err)
			}
			if err := b.reportWarm(language, clients, floor, target); err != nil {
				return err
			}
			if language == "go" && clients == stubClients {
				if err := b.besideStub(ctx, target); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// memoryFor returns the memory of a function, in MB, of which a number of environments are to fit into half of the
// machine: one core each if possible, and together always more cores than this machine has.
func memoryFor(clients int) int32 {
	machine, err := procfs.MemoryTotal()
	if err != nil {
		return least
	}
	return int32(min(max(machine/2/int64(clients)>>20, least), oneCore))
}

// alternate loads floor and target in turns, after a slice that makes all environments and is not counted.
func (b *bench) alternate(ctx context.Context, t *target, function string, clients int) (floor, target *sample, err error) {
	floor, target = newSample(), newSample()
	for round := range b.rounds + 1 {
		request, err := signedInvoke(ctx, t, function, "{}")
		if err != nil {
			return nil, nil, err
		}
		for _, side := range []struct {
			addr string
			pid  int
			into *sample
		}{{b.floor.addr, b.floor.cmd.Process.Pid, floor}, {t.addr, t.server.PID(), target}} {
			before, err := procfs.CPUTime(side.pid)
			if err != nil {
				return nil, nil, err
			}
			measured, err := load(ctx, side.addr, request, clients, b.slice)
			if err != nil {
				return nil, nil, err
			}
			after, err := procfs.CPUTime(side.pid)
			if err != nil {
				return nil, nil, err
			}
			measured.cpu = after - before
			if round > 0 {
				side.into.merge(measured)
			}
		}
	}
	return floor, target, nil
}

func (b *bench) reportWarm(language string, clients int, floor, target *sample) error {
	name := fmt.Sprintf("warm.%s.%d.", language, clients)
	rows := []row{
		{Metric: name + "throughput", Value: target.throughput(), Unit: "1/s", Floor: floor.throughput()},
		{Metric: name + "p50", Value: microseconds(target.quantile(50)), Unit: "µs", Floor: microseconds(floor.quantile(50))},
		{Metric: name + "p99", Value: microseconds(target.quantile(99)), Unit: "µs", Floor: microseconds(floor.quantile(99))},
		{Metric: name + "cpu", Value: microseconds(target.cpuEach()), Unit: "µs", Floor: microseconds(floor.cpuEach())},
	}
	for i, line := range rows {
		if err := b.report.add(warmTarget(line, i, language, clients)); err != nil {
			return err
		}
	}
	return nil
}

// warmTarget gives the i-th row of a warm measurement its target, if it has one.
func warmTarget(line row, i int, language string, clients int) row {
	switch {
	case i == 0 && language != "go" && clients >= 16:
		return bar(line, fmt.Sprintf("≥ %.2f × floor", targetThroughput), func(r row) bool { return r.Ratio >= targetThroughput })
	case i == 1 && clients == 1:
		return atMost(line, targetP50)
	case i == 2 && clients == 16:
		return atMost(line, targetP99)
	case i == 3 && clients == 16:
		return atMost(line, targetCPU)
	}
	return line
}

// atMost gives a row a multiple of the floor that it must not exceed.
func atMost(line row, multiple float64) row {
	return bar(line, fmt.Sprintf("≤ %.3g × floor", multiple), func(r row) bool { return r.Ratio <= multiple })
}
