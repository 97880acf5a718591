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

// demoExamples are the functions that the demo shows, by their directories under examples/.
var demoExamples = []string{"python-hello", "node-hello", "go-hello"}

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
	if missing := missingTools(); len(missing) > 0 {
		return errors.New("the demo needs what is missing here: " + strings.Join(missing, "; "))
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
		if info, err := os.Stat(filepath.Join(dir, demoExamples[0])); err == nil && info.IsDir() {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the example functions are not in %s: run the demo in Berth's source directory, or name theirs with --examples DIR",
		strings.Join(candidates, " or "))
}

// missingTools names what the three functions need and this machine lacks.
func missingTools() []string {
	var missing []string
	for _, need := range []struct{ tool, hint string }{
		{"python3", "python3 (apt-get install python3)"},
		{"node", "Node.js 20 or newer (apt-get install nodejs, or from nodejs.org)"},
		{"go", "the go tool (go.dev/dl)"},
	} {
		if _, err := exec.LookPath(need.tool); err != nil {
			missing = append(missing, need.hint)
		}
	}
	return missing
}

func (a *app) showAll(ctx context.Context, c *client.Client, examples string) error {
	defer c.Close()
	for _, name := range demoExamples {
		if err := a.showFunction(ctx, c, name, filepath.Join(examples, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return a.showVersions(ctx, c, demoExamples[0])
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
