package cli

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/spf13/cobra"

	"berth/client"
	"berth/ui"
)

const (
	// followEvery is how often --follow asks for new lines.
	followEvery = 500 * time.Millisecond
	// followOverlap is how far back each question of --follow reaches behind the newest line seen: lines of other
	// environments may arrive late.
	followOverlap = 5 * time.Second
)

func (a *app) logsCommand() *cobra.Command {
	follow, since := false, 10*time.Minute
	cmd := &cobra.Command{
		Use:   "logs FUNCTION",
		Short: "Print a function's log",
		Example: `  berth logs hello
  berth logs hello --since 24h
  berth logs hello -f                  # until Ctrl-C`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		return a.logs(ctx, c, args[0], time.Now().Add(-since), follow)
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing new lines until Ctrl-C")
	cmd.Flags().DurationVar(&since, "since", since, "how far back to go, like 30s, 10m, 24h")
	return cmd
}

func (a *app) logs(ctx context.Context, c *client.Client, name string, since time.Time, follow bool) error {
	config, err := c.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
	if err != nil {
		return explainMissing(err, name)
	}
	group := "/aws/lambda/" + name
	if config.FunctionName != nil { // the name may have been an ARN
		group = "/aws/lambda/" + *config.FunctionName
	}
	if config.LoggingConfig != nil && config.LoggingConfig.LogGroup != nil {
		group = *config.LoggingConfig.LogGroup
	}
	var seen map[string]int64 // with follow: event id → time in milliseconds, of what the next question may answer again
	if follow {
		seen = map[string]int64{}
	}
	for {
		newest, err := a.printLogs(ctx, c, group, since, seen)
		if err != nil || !follow {
			return err
		}
		if overlapped := newest.Add(-followOverlap); overlapped.After(since) {
			since = overlapped
			for id, at := range seen {
				if at < since.UnixMilli() {
					delete(seen, id)
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// printLogs prints what was not seen yet, and returns the time of the newest line. A group that does not exist yet is an
// empty log: it is made by the first call.
func (a *app) printLogs(ctx context.Context, c *client.Client, group string, since time.Time, seen map[string]int64) (time.Time, error) {
	newest := since
	for event, err := range c.Logs(ctx, group, since) {
		if isNotFound(err) {
			break
		}
		if err != nil {
			return newest, err
		}
		if at := time.UnixMilli(event.Time); at.After(newest) {
			newest = at
		}
		if _, again := seen[event.ID]; again && event.ID != "" {
			continue
		}
		if seen != nil {
			seen[event.ID] = event.Time
		}
		if a.json {
			if err := a.printJSON(event); err != nil {
				return newest, err
			}
			continue
		}
		at := time.UnixMilli(event.Time).Format("15:04:05.000")
		a.out.Printf("%s %s\n", a.out.Paint(ui.Dim, at), a.logLine(event.Message))
	}
	return newest, nil
}

// logLine shows one line of a log, the platform's own lines paler than the function's.
func (a *app) logLine(message string) string {
	text := a.out.Untrusted(strings.TrimRight(message, "\n"))
	for _, prefix := range []string{"INIT_START ", "START RequestId", "END RequestId", "REPORT RequestId"} {
		if strings.HasPrefix(text, prefix) {
			return a.out.Paint(ui.Cyan, text)
		}
	}
	return text
}
