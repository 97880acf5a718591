package cli

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"

	"berth/client"
)

// urlStatement is the id of the permission that `url add` gives everybody and `url remove` takes back.
const urlStatement = "berth-url"

func (a *app) urlCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "url",
		Aliases: []string{"urls"},
		Short:   "Give functions addresses for browsers, webhooks and curl",
		Long: `Give functions addresses for browsers, webhooks and curl. The function gets each request as an event (payload format 2.0:
rawPath, headers, queryStringParameters, body, …) and answers with {"statusCode", "headers", "body"}, or with any JSON.

A client that finds no names under localhost uses the path form of the same address: /lambda-url/ID/ on the server.`,
		Example: `  berth url add hello                 # anyone who reaches the server may call it
  curl "$(berth url add hello:live)"  # an alias has one of its own
  berth url list hello
  berth url remove hello`,
		Args: cobra.NoArgs,
	}
	list := &cobra.Command{
		Use: "list FUNCTION", Aliases: []string{"ls"}, Short: "List the addresses of a function and its aliases", Args: cobra.ExactArgs(1), RunE: a.withClient(a.listURLs),
	}
	remove := &cobra.Command{
		Use: "remove FUNCTION[:ALIAS]", Aliases: []string{"rm"}, Short: "Take an address away", Args: cobra.ExactArgs(1), RunE: a.withClient(a.removeURL),
	}
	cmd.AddCommand(a.urlAddCommand(), list, remove)
	return cmd
}

func (a *app) urlAddCommand() *cobra.Command {
	var signed, stream bool
	cmd := &cobra.Command{
		Use:   "add FUNCTION[:ALIAS]",
		Short: "Give a function an address, and print it",
		Args:  cobra.ExactArgs(1),
	}
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		return a.addURL(ctx, c, args[0], signed, stream)
	})
	cmd.Flags().BoolVar(&signed, "signed", false, "take requests with an AWS signature only (AWS_IAM)")
	cmd.Flags().BoolVar(&stream, "stream", false, "send what the function streams as it comes (RESPONSE_STREAM)")
	return cmd
}

func (a *app) addURL(ctx context.Context, c *client.Client, name string, signed, stream bool) error {
	in := &lambda.CreateFunctionUrlConfigInput{FunctionName: &name, AuthType: types.FunctionUrlAuthTypeNone}
	if signed {
		in.AuthType = types.FunctionUrlAuthTypeAwsIam
	}
	if stream {
		in.InvokeMode = types.InvokeModeResponseStream
	}
	out, err := c.Lambda.CreateFunctionUrlConfig(ctx, in)
	if err != nil {
		return err
	}
	if !signed {
		_, err = c.Lambda.AddPermission(ctx, &lambda.AddPermissionInput{FunctionName: &name, StatementId: aws.String(urlStatement),
			Action: aws.String("lambda:InvokeFunctionUrl"), Principal: aws.String("*"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone})
		var there *types.ResourceConflictException
		if err != nil && !errors.As(err, &there) {
			return err
		}
	}
	if a.json {
		return a.printJSON(map[string]any{"function": name, "url": aws.ToString(out.FunctionUrl), "auth": in.AuthType})
	}
	a.out.Printf("%s\n", aws.ToString(out.FunctionUrl))
	return nil
}

func (a *app) listURLs(ctx context.Context, c *client.Client, args []string) error {
	var rows [][]string
	pages := lambda.NewListFunctionUrlConfigsPaginator(c.Lambda, &lambda.ListFunctionUrlConfigsInput{FunctionName: &args[0]})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, u := range page.FunctionUrlConfigs {
			if a.json {
				if err := a.printJSON(map[string]any{"arn": aws.ToString(u.FunctionArn), "url": aws.ToString(u.FunctionUrl), "auth": u.AuthType, "mode": u.InvokeMode}); err != nil {
					return err
				}
				continue
			}
			rows = append(rows, []string{aws.ToString(u.FunctionUrl), string(u.AuthType), string(u.InvokeMode), aws.ToString(u.FunctionArn)})
		}
	}
	switch {
	case a.json:
	case len(rows) == 0:
		a.out.Printf("%s has no addresses: `berth url add %s` gives it one\n", args[0], args[0])
	default:
		a.out.Table([]string{"URL", "AUTH", "MODE", "FUNCTION"}, rows)
	}
	return nil
}

func (a *app) removeURL(ctx context.Context, c *client.Client, args []string) error {
	if _, err := c.Lambda.DeleteFunctionUrlConfig(ctx, &lambda.DeleteFunctionUrlConfigInput{FunctionName: &args[0]}); err != nil {
		return err
	}
	_, err := c.Lambda.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: &args[0], StatementId: aws.String(urlStatement)})
	var absent *types.ResourceNotFoundException
	if errors.As(err, &absent) { // it asked for signatures
		err = nil
	}
	return err
}
