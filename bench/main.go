// Command bench measures a real Berth server against the floor: a bare net/http hello server, asked by the same load
// generator in the same run. It prints JSON lines on standard output and a table on standard error.
//
// How it measures. Warm: closed loop, persistent connections, each request signed (Signature Version 4). The signature is
// made once per slice of a few seconds and sent again with every request of the slice: the server verifies each of them in
// full, and the generator leaves the processor to the server. Slices of floor and target alternate, and each figure is
// the sum over the slices, so that noise of the machine hits both. Cold: an environment variable of the function is
// changed before every call; no environment of the old configuration may serve the new one, so that each call needs a new
// environment. Functions have 1,769 MB, which is one core, or as much as lets all environments of a figure fit into half of
// the machine's memory: a function's memory limits its processor time, which is not what is to be measured. Cold starts
// are measured with 128 MB, too, which is what a new function has.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	binary     string
	slice      time.Duration
	rounds     int
	colds      int
	functions  int
	sustain    int
	sustainFor time.Duration // 0: each function is called once
	only       string
	languages  []string      // those measured warm; empty is all
	clients    []int         // numbers of clients in warm figures
	serve      []string      // more flags of the server
	length     time.Duration // of the soak
	megabytes  int           // MB of functions in warm figures; 0 is memoryFor
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == floorCommand {
		if err := serveFloor(ctx, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binary, "binary", "bin/berth", "the berth executable")
	flags.DurationVar(&o.slice, "slice", 2*time.Second, "length of each slice of load")
	flags.IntVar(&o.rounds, "rounds", 3, "slices of floor and of target for each figure")
	flags.IntVar(&o.colds, "colds", 60, "cold starts of each language")
	flags.IntVar(&o.functions, "functions", 100_000, "functions in the catalog benchmark")
	flags.IntVar(&o.sustain, "sustain", 200, "cold calls of each language, one after the other from four callers; for a soak ask for many")
	flags.DurationVar(&o.sustainFor, "sustain-for", 0, "go on with sustained cold calls for so long, round the functions (more than the worker has room for: --sustain 400 --serve \"--memory 16384\"), and compare end with beginning")
	flags.StringVar(&o.only, "only", "", "comma-separated parts of: warm, cold, sustained, events, memory, sandbox, catalog, soak (default: all but soak)")
	languages := flags.String("languages", "", "comma-separated: measure warm and sustained cold calls of these only (python, node, go)")
	clients := flags.String("clients", "1,16,64", "comma-separated numbers of clients that call warm functions at the same time")
	serve := flags.String("serve", "", "more flags of berth serve, separated by spaces: \"--pprof 127.0.0.1:6060\"")
	flags.DurationVar(&o.length, "soak", 5*time.Minute, "length of the soak, which is measured with --only soak only")
	flags.IntVar(&o.megabytes, "memory", 0, "MB of functions in warm figures (default: as the machine has; more needs --serve \"--memory MB\")")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.serve = strings.Fields(*serve)
	o.languages = strings.FieldsFunc(*languages, func(r rune) bool { return r == ',' })
	for text := range strings.SplitSeq(*clients, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxClients {
			return o, fmt.Errorf("--clients %q: expected numbers from 1 to %d", *clients, maxClients)
		}
		o.clients = append(o.clients, n)
	}
	if flags.NArg() > 0 || o.slice <= 0 || o.length <= 0 || o.rounds < 1 || o.colds < 1 || o.sustain < 1 || o.functions < madeByAPI {
		return o, fmt.Errorf("slices, rounds, colds and sustain must be positive, functions at least %d; no arguments are expected", madeByAPI)
	}
	return o, nil
}

// run runs the chosen parts in turn.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b := &bench{options: o, report: newReport(stdout), log: stderr}
	if err := b.startFloor(ctx); err != nil {
		return err
	}
	defer b.stopFloor()
	parts := []struct {
		name string
		run  func(context.Context) error
	}{
		{"warm", b.withServer(b.warm)},
		{"cold", b.withServer(b.cold)},
		{"events", b.withServer(b.events)},
		{"sustained", b.withServer(b.sustained)},
		{"memory", b.withServer(b.memory)},
		{"sandbox", b.sandboxes},
		{"catalog", b.catalog},
		{"soak", b.withServer(b.soak)},
	}
	ran := 0
	for _, part := range parts {
		if o.only == "" && part.name == "soak" || o.only != "" && !strings.Contains(","+o.only+",", ","+part.name+",") {
			continue
		}
		ran++
		fmt.Fprintf(stderr, "measuring: %s\n", part.name)
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if ran == 0 {
		return fmt.Errorf("--only %q names none of the parts", o.only)
	}
	b.report.table(stderr)
	return nil
}
