package e2e

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

// cliLists are the lists that the aws command reads page by page, with the member that holds the items.
var cliLists = []struct{ command, member, about string }{
	{"list-functions", "Functions", ""},
	{"list-versions-by-function", "Versions", "--function-name"},
	{"list-aliases", "Aliases", "--function-name"},
	{"list-function-event-invoke-configs", "FunctionEventInvokeConfigs", "--function-name"},
	{"list-function-url-configs", "FunctionUrlConfigs", "--function-name"},
	{"list-event-source-mappings", "EventSourceMappings", "--function-name"},
	{"list-layers", "Layers", ""},
	{"list-layer-versions", "LayerVersions", "--layer-name"},
}

// TestAWSCLIPages types every waiter, and reads lists in pages and goes on where a part ended.
func TestAWSCLIPages(t *testing.T) {
	a := newAWS(t)
	c := sharedClient(t)
	const name = "cli-pages"
	python(t, c, name, "def handler(event, context):\n    return 1\n")
	for i := range 3 {
		alias := fmt.Sprintf("a%d", i)
		layer(t, c, name, zipOf(t, "x", alias))
		layer(t, c, name+alias, zipOf(t, "x", alias))
		python(t, c, name+alias, "def handler(event, context):\n    return 1\n")
		aliased(t, c, name, alias)
	}
	for _, waiter := range []string{"function-exists", "function-active", "function-active-v2", "function-updated", "function-updated-v2", "published-version-active"} {
		a.run(t, "wait", waiter, "--function-name", name)
	}
	for _, list := range cliLists {
		args := []string{list.command}
		if list.about != "" {
			args = append(args, list.about, name)
		}
		part := a.run(t, append(args, "--page-size", "1", "--max-items", "2")...)
		token, _ := part["NextToken"].(string)
		rest := a.run(t, append(args, "--starting-token", token)...)
		seen := map[string]bool{}
		for _, item := range append(part[list.member].([]any), rest[list.member].([]any)...) {
			seen[text(item)] = true
		}
		if len(part[list.member].([]any)) != 2 || token == "" || len(seen) < 3 {
			t.Errorf("%s: %d of two items, the token %q, %d different ones in all", list.command, len(part[list.member].([]any)), token, len(seen))
		}
	}
}

// aliased publishes a version and makes an alias of it, with all that is listed by alias.
func aliased(t *testing.T, c *client.Client, name, alias string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Lambda.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Description: &alias})
	must(err)
	waitUpdated(t, c, name)
	version, err := c.Lambda.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: &name})
	must(err)
	_, err = c.Lambda.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: &name, Name: &alias, FunctionVersion: version.Version})
	must(err)
	_, err = c.Lambda.CreateFunctionUrlConfig(t.Context(), &lambda.CreateFunctionUrlConfigInput{FunctionName: &name, Qualifier: &alias, AuthType: types.FunctionUrlAuthTypeNone})
	must(err)
	_, err = c.Lambda.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: &name, Qualifier: &alias, MaximumRetryAttempts: aws.Int32(1)})
	must(err)
	mapping, err := c.Lambda.CreateEventSourceMapping(t.Context(), &lambda.CreateEventSourceMappingInput{FunctionName: &name, Enabled: aws.Bool(false),
		EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000001:" + name + alias)})
	must(err)
	t.Cleanup(func() {
		_, _ = c.Lambda.DeleteEventSourceMapping(contextWithoutCancel(t), &lambda.DeleteEventSourceMappingInput{UUID: mapping.UUID})
	})
}
