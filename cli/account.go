package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth/client"
)

func (a *app) accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Show and set the limits of your account; make, list and delete accounts",
		Args:  cobra.NoArgs,
	}
	show := &cobra.Command{
		Use:   "show",
		Short: "Show how many calls may run at once",
		Args:  cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			account, err := c.Account(ctx)
			if err != nil {
				return err
			}
			return a.showAccount(account)
		}),
	}
	concurrency := 0
	set := &cobra.Command{
		Use:     "set --concurrency N",
		Short:   "Set how many calls may run at once, of all functions together",
		Example: `  berth account set --concurrency 5000`,
		Args:    cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			if concurrency <= 0 {
				return usagef("say how many calls may run at once: --concurrency N")
			}
			account, err := c.SetConcurrency(ctx, concurrency)
			if err != nil {
				return err
			}
			return a.showAccount(account)
		}),
	}
	set.Flags().IntVar(&concurrency, "concurrency", 0, "calls at once; 100 of them stay unreserved")
	cmd.AddCommand(show, set)
	cmd.AddCommand(a.accountManagement()...)
	return cmd
}

func (a *app) showAccount(account client.Account) error {
	if a.json {
		return a.printJSON(account)
	}
	a.out.Table([]string{"ACCOUNT", "CONCURRENCY", "RESERVED", "PROVISIONED", "UNRESERVED"}, [][]string{{account.Account,
		fmt.Sprint(account.Concurrency), fmt.Sprint(account.Reserved), fmt.Sprint(account.Provisioned), fmt.Sprint(account.Unreserved)}})
	return nil
}
