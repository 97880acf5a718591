package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/client"
	"berth/ui"
)

func (a *app) eventsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "events NAME",
		Short: "Show how a function's asynchronous calls are",
		Long: `Show how many asynchronous calls of a function (berth invoke --async, schedules, destinations) there are:

  queued      wait for their turn
  in flight   run now
  retrying    failed or throttled, or their destination could not be reached; they wait for the next attempt
  dropped     nobody will hear of them any more, since the servers started: failed-untold (failed for good, and the
              function has no destination), target-unreachable, function-gone, unreadable`,
		Example: `  berth events hello
  berth events hello --json`,
		Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			status, err := c.Events(ctx, args[0])
			if err != nil {
				return explainMissing(err, args[0])
			}
			return a.showEvents(status)
		}),
	}
}

func (a *app) showEvents(status client.EventStatus) error {
	if a.json {
		return a.printJSON(status)
	}
	sum, why := 0, []string{}
	for _, reason := range slices.Sorted(maps.Keys(status.Dropped)) {
		sum += status.Dropped[reason]
		why = append(why, fmt.Sprintf("%d %s", status.Dropped[reason], reason))
	}
	dropped := fmt.Sprint(sum)
	if sum > 0 {
		dropped += " (" + strings.Join(why, ", ") + ")"
	}
	a.out.Table([]string{"QUEUED", "IN FLIGHT", "RETRYING", "DROPPED"}, [][]string{{
		fmt.Sprint(status.Queued), fmt.Sprint(status.InFlight), fmt.Sprint(status.Retrying), dropped}})
	if status.Partial {
		a.err.Printf("%s\n", a.err.Paint(ui.Yellow, "not every server answered: in flight and dropped may be more"))
	}
	return nil
}
