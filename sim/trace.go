package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"berth/manager"
	"berth/sim/replay"
)

// replaySeed places the calls within their minutes. Any other gives nearly the same figures.
const replaySeed = 1

// compare replays a trace with fixed keep-alive times and with the manager's own policy, at several settings each, prints
// the figures and draws them.
func compare(o options, out io.Writer) error {
	functions, err := replay.Load(o.trace, o.sample)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d functions; a cold start adds %v to a call\n", len(functions), coldStart)
	fmt.Fprintf(out, "%-16s %9s %9s %7s %9s %9s %9s %12s %12s %10s\n", "policy", "calls", "cold", "share", "ahead", "idle GB·h", "all GB·h",
		"p99 added", "p99.9 added", "p75 cold/f")
	show := func(r *replay.Result) {
		fmt.Fprintf(out, "%-16s %9d %9d %6.3f%% %9d %9.0f %9.0f %12v %12v %9.1f%%\n", r.Name, r.Calls, r.Cold, 100*r.ColdShare(), r.Ahead,
			r.IdleGBh, r.GBh(), r.Added(0.99, coldStart), r.Added(0.999, coldStart), 100*r.FunctionShare(0.75))
	}
	var fixed, learned []*replay.Result
	for _, minutes := range []int{2, 5, 10, 20, 60} {
		r := replay.Run(fmt.Sprintf("fixed %d min", minutes), functions, manager.Fixed(time.Duration(minutes)*time.Minute), replaySeed)
		show(r)
		fixed = append(fixed, r)
	}
	for _, worth := range []float64{4, 8, manager.DefaultWorth, 32} {
		r := replay.Run(fmt.Sprintf("worth %g GB·min", worth), functions, manager.NewHistogram(worth), replaySeed)
		show(r)
		learned = append(learned, r)
	}
	base, ours := fixed[2], learned[2]
	fmt.Fprintf(out, "against %s: %.1f times fewer cold starts, with %.2f times its idle memory\n", base.Name,
		float64(base.Cold)/float64(max(1, ours.Cold)), ours.IdleGBh/base.IdleGBh)
	svg := replay.Plot([]replay.Line{{Name: "fixed keep-alive", Results: fixed}, {Name: "histogram of gaps", Results: learned}})
	if err := os.WriteFile(o.plot, svg, 0o644); err != nil {
		return err
	}
	fmt.Fprintln(out, "plot:", o.plot)
	return nil
}

// coldStart is what a cold start is taken to add to a call: the traces do not say. A quarter of a second is
// what a Python function with a few libraries takes.
const coldStart = 250 * time.Millisecond
