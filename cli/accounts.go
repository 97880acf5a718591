package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth/client"
)

// accountManagement are the commands that only the account that manages the server may give.
func (a *app) accountManagement() []*cobra.Command {
	create := &cobra.Command{
		Use:   "create [ACCOUNT]",
		Short: "Make an account, of twelve digits or a random number",
		Long: `Make an account. Accounts share nothing: functions, layers, schedules, logs and limits are each one's own, and a call from
one to another needs a permission (aws lambda add-permission). Make its first key with berth key create --account ACCOUNT.`,
		Example: `  berth account create 000000000002
  berth key create --account 000000000002`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			number := ""
			if len(args) > 0 {
				number = args[0]
			}
			made, err := c.CreateAccount(ctx, number)
			if err != nil {
				return err
			}
			return a.showAccounts([]client.AccountEntry{made})
		}),
	}
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the server's accounts", Args: cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Accounts(ctx)
			if err != nil {
				return err
			}
			return a.showAccounts(all)
		}),
	}
	remove := &cobra.Command{
		Use: "delete ACCOUNT", Aliases: []string{"rm"}, Short: "Delete an account that owns nothing any more, and its keys", Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error { return c.DeleteAccount(ctx, args[0]) }),
	}
	return []*cobra.Command{create, list, remove}
}

func (a *app) showAccounts(all []client.AccountEntry) error {
	rows := [][]string{}
	for _, one := range all {
		if a.json {
			if err := a.printJSON(one); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{one.Account, fmt.Sprint(one.Functions), fmt.Sprint(one.Keys), fmt.Sprint(one.Concurrency)})
	}
	if !a.json {
		a.out.Table([]string{"ACCOUNT", "FUNCTIONS", "KEYS", "CONCURRENCY"}, rows)
	}
	return nil
}
