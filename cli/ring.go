package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/admin"
	"berth/client"
)

func (a *app) ringCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ring",
		Short: "Show and deploy the ring of managers",
		Long: `Show and deploy the ring of managers.

The ring says which managers decide on which functions' calls, and how many calls of one pool (an account, or a function
with reserved concurrency) each runs before the next one is used. Each change is a new version: a process with the role
control makes one when managers join, are told to stop, or are lost. Environments move to their new managers, so a change
costs no call and no cold start.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(a.ringShow(), a.ringHistory(), a.ringDeploy(), a.ringRollback())
	return cmd
}

func (a *app) ringShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show the current ring version",
		Args:  cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			status, err := c.Cluster(ctx)
			if err != nil {
				return err
			}
			return a.showRing(status.Ring)
		}),
	}
}

func (a *app) ringHistory() *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "Show the ring versions that are kept, newest first",
		Args:  cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			rings, err := c.Rings(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(admin.Rings{Rings: rings})
			}
			rows := make([][]string, 0, len(rings))
			for _, r := range rings {
				rows = append(rows, []string{fmt.Sprint(r.Version), r.State, fmt.Sprint(r.Quota), members(r), r.Made.Local().Format(time.DateTime), r.Reason})
			}
			a.out.Table([]string{"VERSION", "STATE", "Q", "MANAGERS", "MADE", "WHY"}, rows)
			return nil
		}),
	}
}

func (a *app) ringDeploy() *cobra.Command {
	ask := admin.Deploy{}
	cmd := &cobra.Command{
		Use:   "deploy [--q N] [--managers ID,ID]",
		Short: "Make a ring version of some managers, or with another quota",
		Long: `Make a ring version.

With --managers the ring is of these: managers that join later are left out until you deploy again. Without, it is of all
that live, and of those that join later. With --q each manager runs N calls of one pool before the next one is used.`,
		Example: `  berth ring deploy --managers m4,m5,m6   # new managers take over; then stop the old ones
  berth ring deploy --q 40                # all managers, another quota`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("q") && ask.Quota < 1 {
				return usagef("--q %d is not a number above 0", ask.Quota)
			}
			return a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
				r, err := c.DeployRing(ctx, ask)
				if err != nil {
					return err
				}
				return a.showRing(r)
			})(cmd, args)
		},
	}
	cmd.Flags().IntVar(&ask.Quota, "q", 0, "calls of one pool that each manager runs (default: as it is)")
	cmd.Flags().StringSliceVar(&ask.Managers, "managers", nil, "ids of the managers (default: all that live, now and later)")
	return cmd
}

func (a *app) ringRollback() *cobra.Command {
	ask := admin.Rollback{}
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Make a ring version with the managers and the quota of an earlier one",
		Example: `  berth ring rollback          # to the last that differs from the current one
  berth ring rollback --to 7`,
		Args: cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			r, err := c.RollBackRing(ctx, ask)
			if err != nil {
				return err
			}
			return a.showRing(r)
		}),
	}
	cmd.Flags().Uint64Var(&ask.To, "to", 0, "version to go back to")
	return cmd
}

func (a *app) showRing(r admin.Ring) error {
	if a.json {
		return a.printJSON(r)
	}
	if len(r.Members) == 0 {
		a.out.Printf("no ring yet: it needs a manager and a process with the role control\n")
		return nil
	}
	rows := [][]string{{fmt.Sprint(r.Version), fmt.Sprint(r.Quota), members(r), r.Reason}}
	a.out.Table([]string{"VERSION", "Q", "MANAGERS", "WHY"}, rows)
	return nil
}

func members(r admin.Ring) string {
	text := strings.Join(r.Members, ",")
	if r.Pinned {
		text += " (pinned)"
	}
	return text
}
