package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"berth/client"
	"berth/ui"
)

func (a *app) scheduleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "schedule",
		Aliases: []string{"schedules"},
		Short:   "Call functions at times or at a rate",
		Long: `Call functions at times or at a rate. Each tick makes one asynchronous call, whatever the number of servers. A tick at
which no server ran fires up to a minute late; an older one is not made up for, but counted as missed.`,
		Args: cobra.NoArgs,
	}
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the schedules", Args: cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Schedules(ctx)
			if err != nil {
				return err
			}
			return a.showSchedules(all)
		}),
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show a schedule, when it fires next, and what it has missed", Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			one, err := c.Schedule(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showSchedule(one)
		}),
	}
	remove := &cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"}, Short: "Remove a schedule", Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			return c.RemoveSchedule(ctx, args[0])
		}),
	}
	cmd.AddCommand(a.scheduleAddCommand(), list, show, remove)
	return cmd
}

func (a *app) scheduleAddCommand() *cobra.Command {
	var in client.Schedule
	var payload string
	cmd := &cobra.Command{
		Use:   "add NAME --function F (--cron EXPRESSION | --rate DURATION)",
		Short: "Add a schedule",
		Long: `Add a schedule. --cron has five fields: minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly,
@monthly, @yearly. Its times are UTC unless it begins with CRON_TZ=ZONE. --rate counts from now on.

Without --payload the function gets {"schedule":NAME,"time":TICK}.`,
		Example: `  berth schedule add nightly --cron '15 3 * * *' --function cleanup
  berth schedule add mornings --cron 'CRON_TZ=Europe/Berlin 0 7 * * 1-5' --function report:live --payload '{"kind":"daily"}'
  berth schedule add poll --rate 5m --function poll`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		if in.Function == "" || (in.Cron == "") == (in.Rate == "") {
			return usagef("say which function to call and when: --function F and either --cron or --rate")
		}
		if payload != "" {
			raw, err := a.readPayload(payload)
			if err != nil {
				return err
			}
			in.Payload = json.RawMessage(raw)
		}
		in.Name = args[0]
		one, err := c.AddSchedule(ctx, in)
		if err != nil {
			return err
		}
		return a.showSchedule(one)
	})
	cmd.Flags().StringVarP(&in.Function, "function", "f", "", "name or ARN, with :VERSION or :ALIAS if need be")
	cmd.Flags().StringVar(&in.Cron, "cron", "", "when to call it")
	cmd.Flags().StringVar(&in.Rate, "rate", "", "how often to call it: 30s, 5m, 24h")
	cmd.Flags().StringVarP(&payload, "payload", "p", "", "JSON, @FILE, or - for standard input")
	return cmd
}

func cadence(s client.Schedule) string {
	if s.Rate != "" {
		return "every " + s.Rate
	}
	return s.Cron
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func (a *app) showSchedules(all []client.Schedule) error {
	rows := [][]string{}
	for _, s := range all {
		if a.json {
			if err := a.printJSON(s); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{s.Name, cadence(s), s.Function, moment(s.Next), fmt.Sprint(s.Fired), fmt.Sprint(s.Missed)})
	}
	switch {
	case a.json:
	case len(rows) == 0:
		a.err.Printf("%s\n", a.err.Paint(ui.Dim, "no schedules yet; see `berth schedule add --help`"))
	default:
		a.out.Table([]string{"NAME", "WHEN", "FUNCTION", "NEXT", "FIRED", "MISSED"}, rows)
	}
	return nil
}

func (a *app) showSchedule(s client.Schedule) error {
	if err := a.showSchedules([]client.Schedule{s}); err != nil || a.json {
		return err
	}
	if s.Missed > 0 {
		a.err.Printf("%s\n", a.err.Paint(ui.Yellow, fmt.Sprintf("%d ticks were missed because no server ran, the newest at %s", s.Missed, moment(s.LastMissed))))
	}
	if s.Failure != "" {
		a.err.Printf("%s %s\n", a.err.Paint(ui.Red, "the last tick failed:"), a.err.Untrusted(s.Failure))
	}
	return nil
}
