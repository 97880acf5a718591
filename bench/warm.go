package main

import (
	"context"
	"fmt"
	"slices"

	"berth/internal/procfs"
)

// maxClients bounds the numbers of clients that call at the same time.
const maxClients = 1000

// The first bar: warm calls at 16 clients reach this part of the floor's throughput.
const (
	barClients = 16
	barWarm    = 0.08
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
			into *sample
		}{{b.floor.addr, floor}, {t.addr, target}} {
			measured, err := load(ctx, side.addr, request, clients, b.slice)
			if err != nil {
				return nil, nil, err
			}
			if round > 0 {
				side.into.merge(measured)
			}
		}
	}
	return floor, target, nil
}

func (b *bench) reportWarm(language string, clients int, floor, target *sample) error {
	name := fmt.Sprintf("warm.%s.%d.", language, clients)
	throughput := row{Metric: name + "throughput", Value: target.throughput(), Unit: "1/s", Floor: floor.throughput()}
	if clients == barClients {
		throughput = bar(throughput, fmt.Sprintf("≥ %.2f × floor", barWarm), func(r row) bool { return r.Ratio >= barWarm })
	}
	if err := b.report.add(throughput); err != nil {
		return err
	}
	for _, percent := range []float64{50, 99} {
		line := row{Metric: fmt.Sprintf("%sp%.0f", name, percent), Value: microseconds(target.quantile(percent)), Unit: "µs",
			Floor: microseconds(floor.quantile(percent))}
		if err := b.report.add(line); err != nil {
			return err
		}
	}
	return nil
}
