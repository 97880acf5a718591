package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultAddr is where a server listens unless told otherwise: this machine only.
const defaultAddr = "127.0.0.1:9000"

// defaultIssuer is who signs tenant tokens unless the operator says otherwise.
const defaultIssuer = "urn:berth"

// Defaults of a process that is one of several.
const (
	defaultInternal = "127.0.0.1:0"
	defaultQuota    = 100 // most functions then live on one manager, where each idle environment is found at once
)

// maxImageMB is Lambda's bound of a container image: 10 GB.
const maxImageMB = 10 << 10

// maxMemory bounds --memory, in MB: a petabyte.
const maxMemory = 1 << 30

// maxDrain bounds --drain-limit: above the longest invocation.
const maxDrain = time.Hour

// maxPace and maxCalls bound --rollout-pace and --rollout-calls; rolloutStages is how many stages need calls.
const (
	maxPace       = 30 * 24 * time.Hour
	maxCalls      = 1_000_000
	rolloutStages = 3
)

const serveLong = `Start a server: all of Berth in this process, until Ctrl-C.

It prints "berth ready on URL" when it takes calls. Its first start makes an account and an access key; they are kept
in the data directory, where only its owner can read them, and "berth env" prints them for AWS clients.

Asynchronous calls may tell queues, topics and buckets how they ended, and event source mappings feed functions from
queues: --aws-endpoint says where such a service is (the same for all frontend and control processes). The requests
are signed with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this process, or not at all without them.

Several processes, on one machine or many, make one server when each runs some of the roles:

  frontend   the public API; any number of them
  manager    decides which environment runs a call, and holds the limits
  worker     runs functions (as root); their logs stay on its disk
  engine     keeps what all share; the others find it by --engine
  control    makes the ring of managers, one of them at a time; runs asynchronous calls and schedules, all of them

Each process has a data directory of its own. The process with the engine makes a secret, DIR/cluster-token: copy it to
the others (mode 0600). They find one another through the engine. An existing NATS server with JetStream can take the
engine's place; its authorization token is the secret then. Give --tls-cert, --tls-key and --tls-ca to every process
when they are on different machines. Three engines that know one another by --engine-cluster and --engine-routes make a
cluster that survives the loss of one; "berth cluster up --local 3" shows it on one machine.

A process that is told to stop (SIGTERM, Ctrl-C) finishes what it has: a frontend its calls, a manager hands over to the
others, a worker lets its calls end. A second signal ends it at once.`

const serveExample = `  berth serve
  berth serve --addr 127.0.0.1:0 --data /tmp/try   # any free port, throwaway data
  berth serve --dev-credentials                    # accept every signature (loopback only)

  berth serve --role engine,control --engine nats://127.0.0.1:4222 --data /var/lib/berth/engine
  T="--engine nats://127.0.0.1:4222 --cluster-token-file /var/lib/berth/engine/cluster-token"
  berth serve --role manager  $T --data /var/lib/berth/manager
  berth serve --role worker   $T --data /var/lib/berth/worker
  berth serve --role frontend,control $T --data /var/lib/berth/frontend --addr 127.0.0.1:9000`

// serveFlags is what `berth serve` was told.
type serveFlags struct {
	options         ServeOptions
	memory, imageMB int64
	level, format   string // of the log
}

func (a *app) serveCommand() *cobra.Command {
	f := serveFlags{level: "info", format: "text"}
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Start a server",
		Long:    serveLong,
		Example: serveExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLog(a.Stderr, f.level, f.format)
			if err != nil {
				return err
			}
			if err := f.check(); err != nil {
				return err
			}
			options := f.options
			options.Log, options.MemoryBytes, options.ImageBytes = log, f.memory<<20, f.imageMB<<20
			options.Ready = func(url string) { a.out.Printf("berth ready on %s\n", url) }
			if options.DataDir, err = a.dataDir(); err != nil {
				return err
			}
			if err := os.MkdirAll(options.DataDir, 0o700); err != nil {
				return fmt.Errorf("making the data directory: %w", err)
			}
			return a.serve(cmd, options)
		},
	}
	f.define(cmd)
	return cmd
}

func (f *serveFlags) define(cmd *cobra.Command) {
	options, flags := &f.options, cmd.Flags()
	flags.StringVar(&options.Addr, "addr", defaultAddr, "address to listen on; port 0 takes a free port")
	flags.StringVar(&options.Region, "region", defaultRegion, "the region that names (ARNs) show")
	flags.BoolVar(&options.DevCredentials, "dev-credentials", false, "accept any signature; a 12-digit access key is the account")
	flags.Int64Var(&f.memory, "memory", 0, "MB that functions together may use (default: 80 % of the machine's)")
	flags.StringSliceVar(&options.Roles, "role", nil, "what this process does: frontend, manager, worker, engine, control (default: all of it)")
	flags.StringVar(&options.Engine, "engine", "", "nats://HOST:PORT where the engine listens, or is found (then several, with commas)")
	flags.StringVar(&options.EngineCluster, "engine-cluster", "", "HOST:PORT where this engine takes the other engines of its cluster")
	flags.StringSliceVar(&options.EngineRoutes, "engine-routes", nil, "HOST:PORT of the other engines' --engine-cluster; two at least")
	flags.DurationVar(&options.DrainLimit, "drain-limit", 0, "how long a process that is told to stop may finish and hand over (default 10s alone, 1m as one of several)")
	flags.StringVar(&options.ListenInternal, "listen-internal", defaultInternal, "address for calls of other processes; they are told it")
	flags.StringVar(&options.TokenFile, "cluster-token-file", "", "the secret of the cluster, mode 0600 (default DIR/cluster-token)")
	flags.StringVar(&options.ID, "id", "", "name of this process, unlike any other's of its role (default: a random one)")
	flags.IntVar(&options.PoolQuota, "pool-quota", defaultQuota, "calls of one pool that a manager runs before the next one is used: for the first ring; see berth ring deploy")
	flags.DurationVar(&options.RolloutPace, "rollout-pace", 0, "how long each stage of a rollout of a runtime version takes at least; for the role control (default 2m)")
	flags.IntSliceVar(&options.RolloutCalls, "rollout-calls", nil, "how many calls of a function its stages of 1, 10 and 50 % need in the new version; with fewer, rarer failures are missed (default 20,50,200)")
	flags.StringVar(&options.TLSCert, "tls-cert", "", "certificate of this process for the others (PEM), for both ends of a connection")
	flags.StringVar(&options.TLSKey, "tls-key", "", "its key (PEM)")
	flags.StringVar(&options.TLSCA, "tls-ca", "", "authority that signed the certificates of all processes (PEM)")
	flags.StringToStringVar(&options.AWSEndpoints, "aws-endpoint", nil, "SERVICE=URL of sqs, sns or s3, for destinations, dead-letter queues and event source mappings; repeat for each")
	flags.StringSliceVar(&options.ImageDirs, "image-dir", nil, "directory of this machine from which container images may be read by whoever may make functions; repeat for each (default: none)")
	flags.StringSliceVar(&options.PlainRegistries, "plain-registry", nil, "HOST:PORT of a registry that is asked without TLS; repeat for each (on loopback addresses it always is)")
	flags.Int64Var(&f.imageMB, "image-size", maxImageMB, "MB that a container image may have, uncompressed; the same for all processes")
	flags.StringVar(&options.TokenIssuer, "token-issuer", defaultIssuer, `who signs tenant tokens (the claim "iss"): a URL or name of your own, the same for all frontends`)
	flags.StringVar(&options.Pprof, "pprof", "", "serve Go's profiles of this process on this address (loopback only), for go tool pprof; default: off")
	flags.StringVar(&options.Metrics, "metrics", "", "serve GET /metrics for Prometheus on this address (loopback only); default: off")
	flags.StringVar(&f.level, "log-level", f.level, "least serious level that is logged: debug, info, warn, error")
	flags.StringVar(&f.format, "log-format", f.format, "how log lines look: text or json")
}

// check refuses what no server can be started with.
func (f *serveFlags) check() error {
	options := &f.options
	if options.DevCredentials && !loopback(options.Addr) {
		return usagef("--dev-credentials accepts every signature, so it needs an address that only this machine can reach, like %s; got %s",
			defaultAddr, options.Addr)
	}
	if options.Region == "" || strings.Trim(options.Region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return usagef("--region %q is not the name of a region, like us-east-1: small letters, digits and -", options.Region)
	}
	if f.memory < 0 || f.memory > maxMemory {
		return usagef("--memory %d is not a number of MB from 0 to %d", f.memory, int64(maxMemory))
	}
	if options.DrainLimit < 0 || options.DrainLimit > maxDrain {
		return usagef("--drain-limit %s is not a time from 0 to %s", options.DrainLimit, maxDrain)
	}
	if options.PoolQuota < 1 {
		return usagef("--pool-quota %d is not a number above 0", options.PoolQuota)
	}
	if options.RolloutPace < 0 || options.RolloutPace > maxPace {
		return usagef("--rollout-pace %s is not a time from 0 to %s", options.RolloutPace, maxPace)
	}
	if n := len(options.RolloutCalls); n != 0 && n != rolloutStages || slices.ContainsFunc(options.RolloutCalls, func(n int) bool { return n < 1 || n > maxCalls }) {
		return usagef("--rollout-calls %v: expected %d numbers from 1 to %d with commas, for the stages of 1, 10 and 50 %%", options.RolloutCalls, rolloutStages, maxCalls)
	}
	if options.Pprof != "" && !loopback(options.Pprof) {
		return usagef("--pprof shows what every account's functions do, so it needs an address that only this machine can reach, like 127.0.0.1:6060; got %s",
			options.Pprof)
	}
	if options.Metrics != "" && !loopback(options.Metrics) {
		return usagef("--metrics tells of every account's calls, so it needs an address that only this machine can reach, like 127.0.0.1:9100; got %s",
			options.Metrics)
	}
	if f.imageMB < 1 || f.imageMB > maxImageMB {
		return usagef("--image-size %d is not a number of MB from 1 to %d", f.imageMB, maxImageMB)
	}
	return nil
}

// serve runs the server. A server that was told to stop has done its work: Ctrl-C is no failure here.
func (a *app) serve(cmd *cobra.Command, options ServeOptions) error {
	err := a.Serve(cmd.Context(), options)
	if cmd.Context().Err() == nil {
		if err == nil {
			err = errors.New("the server ended by itself")
		}
		return err
	}
	if err != nil && !errors.Is(err, cmd.Context().Err()) {
		options.Log.Error("the server did not stop in good order", "error", err)
		return &reportedError{err}
	}
	return nil
}

func newLog(out io.Writer, level, format string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log-level %q is not one of debug, info, warn, error", level)
	}
	options.Level = least
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(out, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, &options)), nil
	}
	return nil, usagef("--log-format %q is not text or json", format)
}

// loopback reports whether only this machine can reach an address to listen on.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
