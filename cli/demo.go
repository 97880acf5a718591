package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/client"
	"berth/internal/serverproc"
	"berth/ui"
)

// example is one function that the demo shows: its directory under examples/, the runtimes that can run it, and what to
// do when there is none.
type example struct{ name, runtime, missing string }

var demoExamples = []example{
	{"python-hello", "python3.", "Python 3 is missing (apt-get install python3)"},
	{"node-hello", "nodejs", "Node.js 20 or newer is missing (nodejs.org)"},
	{"go-hello", "provided.", "the go tool is missing (go.dev/dl)"},
}

func (a *app) demoCommand() *cobra.Command {
	examples := ""
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show all of it: a throwaway server, three functions, versions and weights",
		Long: `Start a server on a free port with data that is thrown away, deploy a Python, a Node and a Go function through the
Lambda API, call them, and show versions behind a weighted alias. Nothing is left when it ends.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), examples) },
	}
	cmd.Flags().StringVar(&examples, "examples", "", "directory of the example functions (default: examples, here or beside the binary's directory)")
	return cmd
}

func (a *app) demo(ctx context.Context, examples string) (err error) {
	started := time.Now()
	if examples, err = findExamples(examples); err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the berth binary: %w", err)
	}
	dir, err := os.MkdirTemp("", "berth-demo-*")
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.RemoveAll(dir); err == nil {
			err = removeErr
		}
	}()
	a.err.Progress("starting a server …")
	server, err := serverproc.Start(ctx, serverproc.Config{Binary: binary, DataDir: dir, Args: []string{"--log-level", "warn"}})
	if err != nil {
		return err
	}
	a.data = dir // errors speak of this server
	a.heading("server", fmt.Sprintf("ready on %s in %s", server.URL, took(server.StartTook)))
	err = a.showAll(ctx, client.New(server.Client), examples)
	a.err.Progress("stopping the server …")
	if stopErr := server.Stop(); err == nil {
		err = stopErr
	}
	if err == nil {
		a.heading("done", fmt.Sprintf("server stopped, data removed; all of it took %s", took(time.Since(started))))
	}
	return err
}

// findExamples returns the directory of the example functions.
func findExamples(named string) (string, error) {
	candidates := []string{named}
	if named == "" {
		candidates = []string{"examples"}
		if binary, err := os.Executable(); err == nil {
			candidates = append(candidates, filepath.Join(filepath.Dir(binary), "..", "examples"))
		}
	}
	for _, dir := range candidates {
		if info, err := os.Stat(filepath.Join(dir, demoExamples[0].name)); err == nil && info.IsDir() {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the example functions are not in %s: run the demo in Berth's source directory, or name theirs with --examples DIR",
		strings.Join(candidates, " or "))
}

// possible reports whether this machine can build and run an example. A server that does not tell its runtimes is tried.
func (e example) possible(c *client.Client) bool {
	if _, err := exec.LookPath("go"); err != nil && e.runtime == "provided." {
		return false
	}
	has := c.Server().Runtimes
	return len(has) == 0 || slices.ContainsFunc(has, func(name string) bool { return strings.HasPrefix(name, e.runtime) })
}

func (a *app) showAll(ctx context.Context, c *client.Client, examples string) error {
	defer c.Close()
	shown := ""
	for _, e := range demoExamples {
		if !e.possible(c) {
			a.heading(e.name, a.out.Paint(ui.Yellow, "left out: "+e.missing))
			continue
		}
		if err := a.showFunction(ctx, c, e.name, filepath.Join(examples, e.name)); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		shown = orElse(shown, e.name)
	}
	if shown == "" {
		return errors.New("none of the example functions can run here")
	}
	return a.showVersions(ctx, c, shown)
}

func (a *app) heading(title, text string) {
	a.out.Printf("%s %s\n", a.out.Paint(ui.Bold, fmt.Sprintf("%-13s", title)), text)
}

func (a *app) detail(label, format string, args ...any) {
	a.out.Printf("  %s %s\n", a.out.Paint(ui.Cyan, fmt.Sprintf("%-11s", label)), fmt.Sprintf(format, args...))
}

// took shows a time with three digits or so.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// median returns the middle one of some times.
func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
