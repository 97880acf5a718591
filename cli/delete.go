package cli

import (
	"bufio"
	"context"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth/client"
)

func (a *app) deleteCommand() *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Aliases: []string{"rm"},
		Short:   "Delete a function with all of its versions and aliases",
		Example: `  berth delete hello
  berth delete hello --yes      # without asking, for scripts`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		return a.deleteFunction(ctx, c, args[0], yes)
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) deleteFunction(ctx context.Context, c *client.Client, name string, yes bool) error {
	// Look before asking: a wrong name is told at once.
	if _, err := c.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name}); err != nil {
		return explainMissing(err, name)
	}
	if !yes {
		if sure, err := a.confirm(ctx, "Delete function "+name+" with all of its versions? [y/N] "); err != nil || !sure {
			return err
		}
	}
	if _, err := c.Lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String(name)}); err != nil {
		return explainMissing(err, name)
	}
	if a.json {
		return a.printJSON(map[string]string{"deleted": name})
	}
	a.out.Printf("deleted %s\n", name)
	return nil
}

// confirm asks the person at the terminal; without one it refuses.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	file, ok := a.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return false, usagef("nobody is there to ask: say --yes to delete without asking")
	}
	a.err.Printf("%s", question)
	answer := make(chan string, 1)
	go func() { // a read from a terminal cannot be cancelled: on Ctrl-C it ends with the process
		line, _ := bufio.NewReader(file).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		a.err.Printf("\n")
		return false, ctx.Err()
	case line := <-answer:
		return line == "y" || line == "yes", nil
	}
}
