package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"berth/client"
	"berth/ui"
)

// maxPolicyFile bounds a policy's file, in bytes; the server allows fewer characters still.
const maxPolicyFile = 128 << 10

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key",
		Aliases: []string{"keys"},
		Short:   "Make, list and delete access keys",
		Long: `Make, list and delete access keys: what clients sign their requests with.

A key without a policy may do everything in its account, as the root of an AWS account may; a policy says what a key may do,
and nothing else. Between accounts, a key's policy and the policy of the function (aws lambda add-permission) must both allow it.`,
		Args: cobra.NoArgs,
	}
	account := ""
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List an account's keys", Args: cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Keys(ctx, account)
			if err != nil {
				return err
			}
			return a.showKeys(all)
		}),
	}
	list.Flags().StringVar(&account, "account", "", "twelve digits (default your own)")
	show := &cobra.Command{
		Use: "show ID", Short: "Show a key and its policy; secrets are never shown again", Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			key, err := c.Key(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showKey(key)
		}),
	}
	remove := &cobra.Command{
		Use: "delete ID", Aliases: []string{"rm"}, Short: "Delete a key: requests signed with it are refused from then on", Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(ctx context.Context, c *client.Client, args []string) error { return c.DeleteKey(ctx, args[0]) }),
	}
	cmd.AddCommand(a.keyCreateCommand(), list, show, remove)
	return cmd
}

func (a *app) keyCreateCommand() *cobra.Command {
	account, user, file := "", "", ""
	cmd := &cobra.Command{
		Use:   "create [--account ACCOUNT] [--user NAME] [--policy FILE]",
		Short: "Make a key, and show its secret once",
		Long: `Make an access key, and show its secret: now and never again.

--policy takes an IAM policy, with the actions of Lambda (lambda:InvokeFunction), CloudWatch Logs (logs:FilterLogEvents) and
Berth's own (berth:CreateKey). Without it the key may do everything in its account. Whoever may berth:CreateKey can make keys
that may do more than their own.

  {"Version": "2012-10-17",
   "Statement": [{"Effect": "Allow", "Action": "lambda:InvokeFunction",
                  "Resource": "arn:aws:lambda:*:*:function:public-*"}]}`,
		Example: `  berth key create --user ann --policy invoke-only.json
  berth key create --account 000000000002        # the root of another account`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
		var policy json.RawMessage
		if file != "" {
			var err error
			if policy, err = a.readPolicy(file); err != nil {
				return err
			}
		}
		key, err := c.CreateKey(ctx, account, user, policy)
		if err != nil {
			return err
		}
		return a.showNewKey(key)
	})
	cmd.Flags().StringVar(&account, "account", "", "twelve digits (default your own)")
	cmd.Flags().StringVar(&user, "user", "", "the user who holds the key (default the account's root)")
	cmd.Flags().StringVar(&file, "policy", "", "a file with what the key may do, or - for standard input (default everything in its account)")
	return cmd
}

func (a *app) readPolicy(file string) (json.RawMessage, error) {
	in := a.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("reading the policy: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxPolicyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	if len(text) > maxPolicyFile || !json.Valid(text) {
		return nil, fmt.Errorf("the policy in %s must be one JSON document of at most %d bytes", file, maxPolicyFile)
	}
	return text, nil
}

func (a *app) showNewKey(key client.Key) error {
	if a.json {
		return a.printJSON(key)
	}
	a.out.Table([]string{"ACCESS KEY ID", "SECRET ACCESS KEY", "ARN"}, [][]string{{key.ID, key.Secret, key.ARN}})
	a.err.Printf("%s\n", a.err.Paint(ui.Yellow, "keep the secret now: it is not shown again"))
	return nil
}

// rights says in a word what a key may do.
func rights(key client.Key) string {
	if key.Policy == nil {
		return "everything"
	}
	return "by policy"
}

func (a *app) showKeys(all []client.Key) error {
	rows := [][]string{}
	for _, key := range all {
		if a.json {
			if err := a.printJSON(key); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{key.ID, key.ARN, rights(key), moment(key.Created)})
	}
	if a.json {
		return nil
	}
	if len(rows) == 0 {
		a.err.Printf("%s\n", a.err.Paint(ui.Dim, "no keys; see `berth key create --help`"))
		return nil
	}
	a.out.Table([]string{"ACCESS KEY ID", "ARN", "MAY DO", "CREATED"}, rows)
	return nil
}

func (a *app) showKey(key client.Key) error {
	if err := a.showKeys([]client.Key{key}); err != nil || a.json || key.Policy == nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, key.Policy, "", "  "); err != nil {
		return fmt.Errorf("the server's answer has a policy that is not JSON: %w", err)
	}
	a.out.Printf("%s\n", a.out.Untrusted(pretty.String()))
	return nil
}
