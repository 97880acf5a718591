package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/admin"
	"berth/client"
	"berth/ui"
)

func (a *app) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rollout",
		Aliases: []string{"rollouts"},
		Short:   "Show and steer rollouts of runtime versions",
		Long: `Show and steer rollouts of runtime versions.

"berth runtime publish NAME --from IMAGE" begins one. Each function with the runtime management Auto runs 1 %, then 10, 50 and
100 % of its own calls in the new version, as long as they are no worse than those in the old one. No call runs twice, except
when the new version failed before the function saw the event: it runs in the old one then, and the caller sees no error.

  Compatible     the function has moved
  Incompatible   its calls are worse in the new version: it is pinned to the old one until its code changes
  Undecided      it has too few calls to tell: moved last, a few functions at a time, and moved back if it fails

A function's owner is told by the tag berth:rollout-notice, the ARN of a destination.`,
		Args: cobra.NoArgs,
	}
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the last rollout of each runtime", Args: cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Rollouts(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(admin.Rollouts{Rollouts: all})
			}
			if len(all) == 0 {
				a.err.Printf("there was no rollout yet: \"berth runtime publish NAME --from IMAGE\" begins one\n")
				return nil
			}
			a.showRollouts(all...)
			return nil
		}),
	}
	cmd.AddCommand(list, a.rolloutShow(),
		a.rolloutChange(admin.PauseRollout, "Let no function go on; those that are worse in the new version are pinned still"),
		a.rolloutChange(admin.ResumeRollout, "Go on after a pause"),
		a.rolloutChange(admin.AbortRollout, "Bring every function back to the version that it came from, at once"))
	return cmd
}

func (a *app) rolloutShow() *cobra.Command {
	n := admin.RolloutFunctions
	cmd := &cobra.Command{
		Use:   "show RUNTIME",
		Short: "Show a runtime's last rollout, and the evidence of its functions",
		Long: `Show a runtime's last rollout, and the evidence of its functions: those found incompatible first, then those that are closest
to it. FACTOR is by how much the calls favour "worse in the new version" over "no worse"; from 1000 on a function is pinned.`,
		Example: `  berth rollout show python3.11
  berth rollout show python3.11 --json --limit 10000`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if n < 0 || n > admin.MaxRolloutFunctions {
				return usagef("--limit %d is not a number from 0 to %d", n, admin.MaxRolloutFunctions)
			}
			return a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
				r, err := c.Rollout(ctx, args[0], n)
				if err != nil {
					return err
				}
				return a.showRollout(r)
			})(cmd, args)
		},
	}
	cmd.Flags().IntVar(&n, "limit", n, "functions to show")
	return cmd
}

func (a *app) rolloutChange(action, short string) *cobra.Command {
	return &cobra.Command{
		Use: action + " RUNTIME", Short: short, Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.ChangeRollout(ctx, args[0], action)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			a.showRollouts(r)
			return nil
		}),
	}
}

func (a *app) showRollouts(all ...admin.Rollout) {
	rows := [][]string{}
	for _, r := range all {
		var counts []string
		for _, name := range slices.Sorted(maps.Keys(r.Functions)) {
			counts = append(counts, fmt.Sprintf("%s: %d", name, r.Functions[name]))
		}
		rows = append(rows, []string{r.Runtime, r.Phase, fmt.Sprintf("%.12s", r.From), fmt.Sprintf("%.12s", r.To), moment(r.Began), strings.Join(counts, ", ")})
	}
	a.out.Table([]string{"RUNTIME", "PHASE", "FROM", "TO", "BEGAN", "FUNCTIONS"}, rows)
}

func (a *app) showRollout(r admin.RolloutDetail) error {
	if a.json {
		return a.printJSON(r)
	}
	a.showRollouts(r.Rollout)
	if len(r.Evidence) == 0 {
		return nil
	}
	a.out.Printf("\n")
	rows := [][]string{}
	for _, f := range r.Evidence {
		name := f.Function
		if f.Version != "$LATEST" {
			name += ":" + f.Version
		}
		rows = append(rows, []string{
			f.Account, name, fmt.Sprintf("%.0f %%", 100*f.Fraction), f.Verdict, callsText(f.Old), callsText(f.New), fmt.Sprintf("%.3g", f.Factor), f.Reason,
		})
	}
	a.out.Table([]string{"ACCOUNT", "FUNCTION", "NEW", "VERDICT", "OLD: FAILED/CALLS, MEAN", "NEW: FAILED/CALLS, MEAN", "FACTOR", "WHY"}, rows)
	if r.More > 0 {
		a.err.Printf("%s\n", a.err.Paint(ui.Dim, fmt.Sprintf("%d more: --limit N", r.More)))
	}
	return nil
}

func callsText(c admin.RolloutCalls) string {
	failed := uint64(0)
	for _, n := range c.Failed {
		failed += n
	}
	return fmt.Sprintf("%d/%d, %.0f ms", failed, c.Calls, c.MeanMS)
}
