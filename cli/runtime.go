package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"berth/client"
	"berth/ui"
)

func (a *app) runtimeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "runtime",
		Aliases: []string{"runtimes"},
		Short:   "Show runtimes, and give them new versions",
		Long: `Show runtimes, and give them new versions.

Each runtime has the version that the workers have installed, called "host", and any number of versions that are images. A
version is immutable and named by its digest, as in arn:aws:lambda:REGION::runtime:DIGEST. Functions move to another version
as their runtime management says: Auto ones by trial when it is published, FunctionUpdate ones when they are updated after that,
Manual ones never (aws lambda put-runtime-management-config).

Versions are shared by all accounts; only the account that the server began with may add and publish them.`,
		Args: cobra.NoArgs,
	}
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the runtimes and the version that functions use", Args: cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Runtimes(ctx)
			if err != nil {
				return err
			}
			return a.showRuntimes(all)
		}),
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show the versions of a runtime", Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			one, err := c.Runtime(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showRuntime(one)
		}),
	}
	undo := false
	deprecate := &cobra.Command{
		Use: "deprecate NAME VERSION", Short: "Let nothing move to a version any more; what runs in it goes on", Args: cobra.ExactArgs(2),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			id, err := versionID(ctx, c, args[0], args[1])
			if err != nil {
				return err
			}
			deprecated := !undo
			return a.changeRuntime(ctx, c, args[0], client.RuntimeChange{Version: id, Deprecated: &deprecated})
		}),
	}
	deprecate.Flags().BoolVar(&undo, "undo", false, "take it back")
	cmd.AddCommand(list, show, a.runtimeAddCommand(), a.runtimePublishCommand(), deprecate)
	return cmd
}

// fromHelp tells what --from takes.
const fromHelp = `IMAGE is one of
  HOST/REPOSITORY:TAG     an image in a registry (credentials: "docker login" of the server's user)
  oci-layout:DIR[:TAG]    an OCI layout directory on the server
  archive:FILE            what "docker save" or "skopeo copy ... oci-archive:" made, on the server
  dir:DIR                 a directory on the server, as the root of a file system

Files on the server must lie below a directory that was allowed: berth serve --image-dir DIR. The image has the language's
program in /var/lang/bin, /usr/local/bin or /usr/bin and all that it needs; Berth adds its bootstrap at /var/runtime.`

func (a *app) runtimeAddCommand() *cobra.Command {
	var change client.RuntimeChange
	cmd := &cobra.Command{
		Use:   "add NAME --from IMAGE",
		Short: "Add a version to a runtime; no function moves by it",
		Long:  "Add a version to a runtime. No function moves by it: publish it, or name it in a function's runtime management.\n\n" + fromHelp,
		Example: `  berth runtime add python3.11 --from docker.io/library/python:3.11-slim
  berth runtime add nodejs22.x --from archive:/srv/images/node22.tar`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&change.From, "from", "", "the image")
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		if change.From == "" {
			return usagef("say what to make the version of: --from IMAGE")
		}
		return a.changeRuntime(ctx, c, args[0], change)
	})
	return cmd
}

func (a *app) runtimePublishCommand() *cobra.Command {
	var change client.RuntimeChange
	atOnce := false
	cmd := &cobra.Command{
		Use:   "publish NAME (--from IMAGE | --version VERSION)",
		Short: "Make the next version of a runtime, and move functions to it by trial",
		Long: `Make the next version of a runtime, and move functions to it. Those with the runtime management Auto are moved by trial: each runs
1 %, then 10, 50 and 100 % of its own calls in the new version, as long as they are no worse than in the old one, and is pinned to
the old one if they are. "berth rollout show NAME" tells how far that is, "berth rollout abort NAME" takes it back. At the end the
version is the runtime's current one; functions with FunctionUpdate move to it when they are updated.

With --at-once all Auto functions move without a trial: after a rollout, to go back to an older version, for example. Environments
of the version before end as they become idle. A rollout that goes on is ended by it.

VERSION is a number or digest that "berth runtime show" lists, or "host". --from host is the same as --version host.

` + fromHelp,
		Example: `  berth runtime publish python3.11 --from docker.io/library/python:3.11-slim
  berth runtime publish python3.11 --version 2
  berth runtime publish python3.11 --version host --at-once   # back to what the workers have installed`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&change.From, "from", "", "the image, or host")
	cmd.Flags().StringVar(&change.Version, "version", "", "a version that is there")
	cmd.Flags().BoolVar(&atOnce, "at-once", false, "move all functions now, without a trial")
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		if (change.From == "") == (change.Version == "") {
			return usagef("say which version: --from IMAGE or --version VERSION")
		}
		now, err := c.Runtime(ctx, args[0])
		nothing := err != nil || now.Current == client.HostRuntime && now.Installed == "" // for a trial to compare with
		change.Publish = atOnce || nothing
		change.Candidate = !change.Publish
		if change.Version, err = versionID(ctx, c, args[0], change.Version); err != nil {
			return err
		}
		if err := a.changeRuntime(ctx, c, args[0], change); err != nil {
			return err
		}
		switch {
		case change.Candidate:
			awaitRollout(ctx, c, args[0])
			a.err.Printf("functions move to it by trial: berth rollout show %s\n", args[0])
		case nothing && !atOnce:
			a.err.Printf("no version of %s could run functions before, so they run in this one at once\n", args[0])
		}
		return nil
	})
	return cmd
}

// awaitRollout waits until the rollout of a runtime's candidate is there, so that the next command may be to pause or abort it. It
// begins within a second or two, unless the server is in trouble: then it begins later.
func awaitRollout(ctx context.Context, c *client.Client, name string) {
	ctx, cancel := context.WithTimeout(ctx, rolloutBegins)
	defer cancel()
	for ctx.Err() == nil {
		now, err := c.Runtime(ctx, name)
		r, rerr := c.Rollout(ctx, name, 0)
		if err == nil && rerr == nil && (now.Candidate == "" || r.To == now.Candidate && r.Phase == "running") {
			return
		}
		select {
		case <-time.After(rolloutLook):
		case <-ctx.Done():
		}
	}
}

// rolloutBegins bounds the wait for a rollout's beginning, which is looked for every rolloutLook.
const (
	rolloutBegins = 5 * time.Second
	rolloutLook   = 100 * time.Millisecond
)

// versionID finds the digest of a version that is given by its number; what is no number is a digest already.
func versionID(ctx context.Context, c *client.Client, name, version string) (string, error) {
	n, err := strconv.Atoi(version)
	if err != nil || len(version) == 64 {
		return version, nil
	}
	one, err := c.Runtime(ctx, name)
	if err != nil {
		return "", err
	}
	for _, r := range one.Releases {
		if r.Number == n {
			return r.ID, nil
		}
	}
	return "", fmt.Errorf("%s has no version %d; `berth runtime show %[1]s` lists them", name, n)
}

func (a *app) changeRuntime(ctx context.Context, c *client.Client, name string, change client.RuntimeChange) error {
	if change.From != "" && change.From != client.HostRuntime {
		a.err.Progress("fetching %s", change.From)
	}
	one, err := c.ChangeRuntime(ctx, name, change)
	a.err.Progress("")
	if err != nil {
		return err
	}
	return a.showRuntime(one)
}

// versionLabel is how people see a version.
func versionLabel(r client.Runtime, id string) string {
	for _, release := range r.Releases {
		if release.ID == id {
			return fmt.Sprintf("%d (%.12s)", release.Number, id)
		}
	}
	if id == client.HostRuntime && r.Installed != "" {
		return fmt.Sprintf("host (%.12s)", r.Installed)
	}
	return id
}

func (a *app) showRuntimes(all []client.Runtime) error {
	rows := [][]string{}
	for _, r := range all {
		if a.json {
			if err := a.printJSON(r); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{r.Name, versionLabel(r, r.Current), versionLabel(r, r.Candidate), fmt.Sprint(len(r.Releases))})
	}
	if !a.json {
		a.out.Table([]string{"RUNTIME", "CURRENT", "CANDIDATE", "VERSIONS ADDED"}, rows)
	}
	return nil
}

func (a *app) showRuntime(r client.Runtime) error {
	if a.json {
		return a.printJSON(r)
	}
	mark := func(id string, deprecated bool) string {
		if deprecated {
			return "deprecated"
		}
		switch id {
		case r.Current:
			return "current"
		case r.Candidate:
			return "candidate"
		}
		return ""
	}
	rows := [][]string{}
	if r.Installed != "" {
		rows = append(rows, []string{"host", r.Installed, mark(client.HostRuntime, false), "", "", "installed on the workers"})
	}
	for _, v := range r.Releases {
		rows = append(rows, []string{fmt.Sprint(v.Number), v.ID, mark(v.ID, v.Deprecated), moment(v.Added), fmt.Sprintf("%.1f MB", float64(v.Bytes)/1e6), a.out.Untrusted(v.Source)})
	}
	a.out.Table([]string{"VERSION", "DIGEST", "", "ADDED", "SIZE", "SOURCE"}, rows)
	if r.Current == client.HostRuntime && r.Installed == "" {
		a.err.Printf("%s\n", a.err.Paint(ui.Yellow, "no worker has "+r.Name+" installed, and no version is published: functions with it cannot run"))
	}
	return nil
}
