package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/admin"
	"berth/client"
)

// StoredOptions says whose functions `berth cluster export` and `import` mean.
type StoredOptions struct {
	DataDir                string
	Engine                 string // nats://host:port; "" for the data directory of a server that is stopped
	TokenFile              string
	TLSCert, TLSKey, TLSCA string
	Overwrite              bool // import over functions that are there
	Log                    *slog.Logger
}

// Stored is what an archive holds.
type Stored struct {
	Records int   `json:"records"`
	Blobs   int   `json:"blobs"`
	Bytes   int64 `json:"bytes"`
}

func (a *app) clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Look at a cluster, try one, and move functions between servers",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(a.clusterStatus(), a.clusterUp(), a.clusterExport(), a.clusterImport())
	return cmd
}

func (a *app) clusterStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the processes, the ring, and what runs now",
		Args:  cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			s, err := c.Cluster(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s)
			}
			a.showCluster(s)
			return nil
		}),
	}
}

func (a *app) showCluster(s admin.Status) {
	rows := make([][]string, 0, len(s.Processes))
	for _, p := range s.Processes {
		rows = append(rows, []string{strings.Join(p.Roles, ","), p.ID, p.Address, doing(p)})
	}
	a.out.Table([]string{"ROLES", "ID", "ADDRESS", "NOW"}, rows)
	if s.Silent > 0 {
		a.out.Printf("%d of them did not answer in time\n", s.Silent)
	}
	a.out.Printf("\nring version %d, q %d: %s\n", s.Ring.Version, s.Ring.Quota, members(s.Ring))
	switch s.Earlier {
	case 0:
	case 1:
		a.out.Printf("1 earlier version is kept until its managers have handed over\n")
	default:
		a.out.Printf("%d earlier versions are kept until their managers have handed over\n", s.Earlier)
	}
	if len(s.Pools) == 0 {
		a.out.Printf("\nno calls run now\n")
		return
	}
	rows = rows[:0]
	for _, p := range s.Pools {
		name := "account " + p.Account
		if p.Function != "" {
			name = p.Account + ":" + p.Function
		}
		rows = append(rows, []string{name, fmt.Sprintf("%d of %d", p.Running, p.Limit), shares(p.Managers)})
	}
	a.out.Printf("\n")
	a.out.Table([]string{"POOL", "RUNNING", "ON"}, rows)
}

// doing tells in a few words what a process does now.
func doing(p admin.Process) string {
	var parts []string
	if p.Draining {
		parts = append(parts, "stopping")
	}
	if p.Elected {
		parts = append(parts, "elected")
	}
	if m := p.Manager; m != nil {
		parts = append(parts, fmt.Sprintf("manages %s, %d idle", environments(m.Environments), m.Idle))
	}
	if w := p.Worker; w != nil {
		sum := 0
		for _, n := range w.Environments {
			sum += n
		}
		parts = append(parts, fmt.Sprintf("%s, %d of %d MB", environments(sum), w.MemoryUsed>>20, w.MemoryLimit>>20))
	}
	return strings.Join(parts, "; ")
}

func environments(n int) string {
	if n == 1 {
		return "1 environment"
	}
	return fmt.Sprintf("%d environments", n)
}

func shares(managers map[string]int) string {
	var parts []string
	for id, n := range managers {
		parts = append(parts, fmt.Sprintf("%s %d", id, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// storedFlags are the flags that say where functions are kept.
func storedFlags(cmd *cobra.Command, o *StoredOptions) {
	flags := cmd.Flags()
	flags.StringVar(&o.Engine, "engine", "", "nats://HOST:PORT of a running cluster's engine (default: the data directory of a server that is stopped)")
	flags.StringVar(&o.TokenFile, "cluster-token-file", "", "the secret of that cluster (default DIR/cluster-token)")
	flags.StringVar(&o.TLSCert, "tls-cert", "", "certificate, as for berth serve")
	flags.StringVar(&o.TLSKey, "tls-key", "", "its key")
	flags.StringVar(&o.TLSCA, "tls-ca", "", "authority of the cluster's certificates")
}

func (a *app) complete(o *StoredOptions) (err error) {
	if o.Log, err = newLog(a.Stderr, "warn", "text"); err != nil {
		return err
	}
	o.DataDir, err = a.dataDir()
	return err
}

func (a *app) clusterExport() *cobra.Command {
	o := StoredOptions{}
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write all functions, with code, accounts and keys, to a file",
		Long: `Write all functions, with their code, versions, aliases, accounts and access keys, to a file.

The file holds secrets: it is made for its owner only (mode 0600), keep it like that. The server must be stopped, or be a
cluster that is named with --engine; what is changed meanwhile may be missing. Functions' logs, and events that wait to
be worked on, are not in it.`,
		Example: `  berth cluster export functions.tar --data /var/lib/berth     # of a server that is stopped
  berth cluster export functions.tar --engine nats://10.0.0.1:4222 --cluster-token-file token`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.complete(&o); err != nil {
				return err
			}
			var counts Stored
			err := writeWhole(args[0], func(w io.Writer) (err error) {
				counts, err = a.Export(cmd.Context(), o, w)
				return err
			})
			if err != nil {
				return err
			}
			return a.showStored("exported", counts)
		},
	}
	storedFlags(cmd, &o)
	return cmd
}

// writeWhole makes a file that is whole or not there.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".berth-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = write(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (a *app) clusterImport() *cobra.Command {
	o := StoredOptions{}
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Read functions from a file of berth cluster export",
		Long: `Read functions from a file of "berth cluster export" into a running cluster (--engine), or into the data directory of
a server that is stopped. Its processes need not be restarted. Access keys come along, so clients need not be changed.`,
		Example: `  berth cluster import functions.tar --engine nats://10.0.0.1:4222 --cluster-token-file token`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.complete(&o); err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			counts, err := a.Import(cmd.Context(), o, f)
			if err != nil {
				return err
			}
			return a.showStored("imported", counts)
		},
	}
	storedFlags(cmd, &o)
	cmd.Flags().BoolVar(&o.Overwrite, "overwrite", false, "also when there are functions already: those of the same name are replaced")
	return cmd
}

func (a *app) showStored(what string, s Stored) error {
	if a.json {
		return a.printJSON(s)
	}
	a.out.Printf("%s %d records and %d files of code (%d MB)\n", what, s.Records, s.Blobs, s.Bytes>>20)
	return nil
}

// upLimit bounds the start of all processes of `berth cluster up`.
const upLimit = 3 * time.Minute

func (a *app) clusterUp() *cobra.Command {
	up := localCluster{}
	cmd := &cobra.Command{
		Use:   "up --local N",
		Short: "Start a cluster on this machine, to try it: N managers, workers and frontends, each a process",
		Long: `Start a cluster of processes on this machine, until Ctrl-C (a second one ends everything at once): N managers, workers and frontends, and an engine with the
background work; from three on it is a cluster of three engines, one of which may be lost. Kill what you like: it is started again after 5 s.

The data stays in DIR/local-cluster; the same command starts it again.`,
		Example: `  sudo berth cluster up --local 3
  berth cluster status --data ~/.berth/local-cluster/frontend-1   # in another terminal`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if up.n < 1 || up.n > maxLocal {
				return usagef("say how many of each: --local N, from 1 to %d", maxLocal)
			}
			dir, err := a.dataDir()
			if err != nil {
				return err
			}
			up.app, up.dir = a, filepath.Join(dir, "local-cluster")
			return up.run(cmd.Context())
		},
	}
	cmd.Flags().IntVar(&up.n, "local", 0, "how many managers, workers and frontends")
	cmd.Flags().IntVar(&up.memory, "memory", 1024, "MB that functions may use on each worker")
	cmd.Flags().IntVar(&up.port, "port", 9000, "port of the first frontend; the others follow")
	return cmd
}
