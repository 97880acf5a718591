// Package cli is Berth's command line: `berth serve` starts a server, all other commands are clients of its public API.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"berth/client"
	"berth/ui"
)

// The exit codes of all commands.
const (
	exitOK          = 0
	exitFailed      = 1   // also: the invoked function answered with an error
	exitUsage       = 2   // wrong flags or arguments
	exitInterrupted = 130 // Ctrl-C, as shells have it: 128 + SIGINT
)

// Config is everything that the command line gets from its process.
type Config struct {
	Args   []string // without the program's name
	Getenv func(string) string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer

	// Serve runs a server until ctx ends. It calls Ready once when the server takes calls.
	Serve func(ctx context.Context, options ServeOptions) error
	// Export and Import write all functions of a server to a file, and read them into another.
	Export func(ctx context.Context, options StoredOptions, w io.Writer) (Stored, error)
	Import func(ctx context.Context, options StoredOptions, r io.Reader) (Stored, error)
}

// ServeOptions is what `berth serve` was told by its flags.
type ServeOptions struct {
	Addr           string // host:port; port 0 takes a free one
	DataDir        string
	Region         string
	DevCredentials bool  // accept any signature
	MemoryBytes    int64 // for all environments together; 0 leaves it to the server
	Log            *slog.Logger
	Ready          func(url string) // "http://127.0.0.1:9000"

	// For a process that is one of several.
	Roles                  []string // empty: all
	Engine                 string   // nats://host:port, or several with commas
	EngineCluster          string   // host:port
	EngineRoutes           []string // host:port
	DrainLimit             time.Duration
	ListenInternal         string
	TokenFile              string
	ID                     string
	PoolQuota              int
	RolloutPace            time.Duration // 0: the server's default
	RolloutCalls           []int         // of each stage of a rollout but the last; nil: the server's default
	Pprof                  string        // loopback address on which Go's profiles are served; "" is nowhere
	Metrics                string        // loopback address on which metrics are served; "" is nowhere
	TLSCert, TLSKey, TLSCA string
	AWSEndpoints           map[string]string // service → URL
	TokenIssuer            string            // of tenant tokens

	ImageDirs       []string // from which container images may be read
	PlainRegistries []string // that may be asked without TLS
	ImageBytes      int64    // bound of one image, uncompressed; 0 leaves it to the server
}

// Run runs one command and returns the process's exit code. When ctx ends the command stops in good order.
func Run(ctx context.Context, cfg Config) int {
	a := &app{Config: cfg, out: ui.New(cfg.Stdout, cfg.Getenv), err: ui.New(cfg.Stderr, cfg.Getenv)}
	root := a.root()
	err := root.ExecuteContext(ctx)
	a.err.Progress("")
	var reported *reportedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &reported):
		return exitFailed
	case ctx.Err() != nil:
		a.err.Printf("%s\n", a.err.Paint(ui.Yellow, "interrupted"))
		return exitInterrupted
	case !a.started || errors.As(err, new(*usageError)):
		a.report(err, "usage", "see `berth --help`")
		return exitUsage
	}
	a.report(a.explain(err), codeOf(err), "")
	return exitFailed
}

// app is one run of the command line.
type app struct {
	Config
	out, err *ui.Screen
	data     string // --data; "" when not given
	json     bool   // --json
	started  bool   // flags and arguments were right
}

// usageError is a mistake in flags or arguments that only the command itself can see.
type usageError struct{ error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// reportedError ends a command that has already told what went wrong.
type reportedError struct{ error }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "berth",
		Short: "Run Lambda functions on your own machine",
		Long: `Berth runs functions on demand on your own machines, and speaks the AWS Lambda API.

Start a server (as root: it makes a sandbox for every function), then deploy and call functions with these commands,
the aws CLI, or any AWS SDK.`,
		Example: `  berth serve                          # in one terminal
  berth deploy ./examples/python-hello # in another
  berth invoke python-hello --payload '{"name":"Ada"}'

  eval "$(berth env)"                  # the same with the aws CLI
  aws lambda list-functions`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRun:  func(*cobra.Command, []string) { a.started = true },
	}
	root.SetArgs(a.Args)
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.PersistentFlags().StringVar(&a.data, "data", "", "the server's data directory (default ~/.berth)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON, for scripts")
	root.AddCommand(a.serveCommand(), a.envCommand(), a.deployCommand(), a.invokeCommand(), a.listCommand(),
		a.logsCommand(), a.eventsCommand(), a.tenantsCommand(), a.scheduleCommand(), a.runtimeCommand(), a.rolloutCommand(), a.deleteCommand(), a.layerCommand(), a.urlCommand(), a.accountCommand(), a.keyCommand(), a.ringCommand(), a.clusterCommand(),
		a.demoCommand(), a.versionCommand())
	return root
}

// withClient makes a command's body out of one that needs a server.
func (a *app) withClient(run func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		server, err := a.server()
		if err != nil {
			return err
		}
		c := client.New(server)
		defer c.Close()
		return run(cmd.Context(), c, args)
	}
}

// printJSON writes one value as one line of JSON on standard output.
func (a *app) printJSON(value any) error {
	encoder := json.NewEncoder(a.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// report tells the user of a failure, on standard error.
func (a *app) report(err error, code, hint string) {
	if a.json {
		line, _ := json.Marshal(map[string]string{"error": err.Error(), "code": code})
		a.err.Printf("%s\n", line)
		return
	}
	a.err.Printf("%s %s\n", a.err.Paint(ui.Red, "berth:"), a.err.Untrusted(err.Error()))
	if hint != "" {
		a.err.Printf("%s\n", a.err.Paint(ui.Dim, hint))
	}
}
