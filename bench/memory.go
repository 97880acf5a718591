package main

import (
	"context"
	"fmt"
	"time"

	"berth/internal/procfs"
)

// idleEnvironments is how many environments of each language are made to measure one.
const idleEnvironments = 16

// targetMemory is what an idle environment may take, in MB.
var targetMemory = map[string]float64{"python": 5, "node": 12}

// settle is how long after the last call memory is measured: environments are idle (frozen) then, and the server keeps no more
// sandboxes ready than it did before (it looks back ten seconds for how many it may need).
const settle = 13 * time.Second

// memory measures what an idle environment takes: the proportional set size of all processes below the server, before
// and after some environments were made. Booted runtimes that the server keeps ready are in both figures.
func (b *bench) memory(ctx context.Context, t *target) error {
	floorPSS, err := procfs.PSS(b.floor.cmd.Process.Pid)
	if err != nil {
		return err
	}
	for _, language := range t.languages {
		if err := setMemory(ctx, t, language, memoryFor(2*idleEnvironments)); err != nil {
			return err
		}
		if err := pause(ctx, settle); err != nil {
			return err
		}
		before, _, err := below(t.server.PID())
		if err != nil {
			return err
		}
		request, err := signedInvoke(ctx, t, language, `{"sleep":1}`)
		if err != nil {
			return err
		}
		// Each client waits for one call that sleeps, all at the same time: as many environments as clients.
		if _, err := load(ctx, t.addr, request, idleEnvironments, time.Millisecond); err != nil {
			return err
		}
		if err := pause(ctx, settle); err != nil {
			return err
		}
		after, processes, err := below(t.server.PID())
		if err != nil {
			return err
		}
		fmt.Fprintf(b.log, "%d processes below the server after %d environments of %s\n", processes, idleEnvironments, language)
		each := float64(after-before) / idleEnvironments
		line := row{Metric: "memory." + language + ".idle", Value: each / 1e6, Unit: "MB", Floor: float64(floorPSS) / 1e6}
		if want, ok := targetMemory[language]; ok {
			line = bar(line, fmt.Sprintf("≤ %.0f MB", want), func(r row) bool { return r.Value <= want })
		}
		if err := b.report.add(line); err != nil {
			return err
		}
	}
	server, err := procfs.PSS(t.server.PID())
	if err != nil {
		return err
	}
	return b.report.add(row{Metric: "memory.server", Value: float64(server) / 1e6, Unit: "MB", Floor: float64(floorPSS) / 1e6})
}

// below sums the proportional set sizes of the processes below one.
func below(root int) (bytes int64, processes int, err error) {
	pids, err := procfs.Descendants(root)
	if err != nil {
		return 0, 0, err
	}
	for _, pid := range pids {
		if pss, err := procfs.PSS(pid); err == nil { // else it has just ended
			bytes += pss
			processes++
		}
	}
	return bytes, processes, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
