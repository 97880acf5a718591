// Command sim runs simulated clusters, and replays recorded days of calls.
//
//	go run ./sim -seeds 1000              1,000 clusters under faults; says which seeds violate an invariant
//	go run ./sim -seed 7 -seeds 1 -v      one of them, with its history
//	go run ./sim -trace DIR -plot out.svg keep-alive policies on a day of 1,250 functions
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

// options of the command.
type options struct {
	seed, seeds uint64
	verbose     bool
	trace       string
	sample      string
	plot        string
}

func run(args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("sim", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Uint64Var(&o.seed, "seed", 0, "the first seed")
	flags.Uint64Var(&o.seeds, "seeds", 100, "how many seeds")
	flags.BoolVar(&o.verbose, "v", false, "print the history of each run")
	flags.StringVar(&o.trace, "trace", "", "replay the traces in this `folder` instead")
	flags.StringVar(&o.sample, "sample", "azure2019_1250", "the `name` of the trace: NAME_inv.csv.gz, NAME_run.csv.gz, NAME_mem.csv.gz")
	flags.StringVar(&o.plot, "plot", "keepalive.svg", "where the replay's plot goes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see -help", flags.Arg(0))
	}
	if o.trace != "" {
		return compare(o, out)
	}
	return simulate(o, out)
}
