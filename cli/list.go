package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"

	"berth/client"
)

// summary is a function as `berth list --json` shows it.
type summary struct {
	Function string `json:"function"`
	ARN      string `json:"arn"`
	Runtime  string `json:"runtime"`
	Handler  string `json:"handler"`
	MemoryMB int32  `json:"memoryMB"`
	TimeoutS int32  `json:"timeoutSeconds"`
	CodeSize int64  `json:"codeSize"` // bytes
	Modified string `json:"lastModified"`
}

func summarize(f *types.FunctionConfiguration) summary {
	return summary{
		Function: aws.ToString(f.FunctionName), ARN: aws.ToString(f.FunctionArn), Runtime: string(f.Runtime),
		Handler: aws.ToString(f.Handler), MemoryMB: aws.ToInt32(f.MemorySize), TimeoutS: aws.ToInt32(f.Timeout),
		CodeSize: f.CodeSize, Modified: aws.ToString(f.LastModified),
	}
}

func (a *app) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the functions",
		Example: `  berth list
  berth list --json | jq -r .function    # one JSON object a line`,
		Args: cobra.NoArgs,
		RunE: a.withClient(a.list),
	}
}

func (a *app) list(ctx context.Context, c *client.Client, _ []string) error {
	var rows [][]string
	pages := lambda.NewListFunctionsPaginator(c.Lambda, &lambda.ListFunctionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for i := range page.Functions {
			f := summarize(&page.Functions[i])
			if a.json {
				if err := a.printJSON(f); err != nil {
					return err
				}
				continue
			}
			rows = append(rows, []string{f.Function, f.Runtime, f.Handler, fmt.Sprintf("%d MB", f.MemoryMB),
				fmt.Sprintf("%d s", f.TimeoutS), size(f.CodeSize), when(f.Modified)})
		}
	}
	switch {
	case a.json:
	case len(rows) == 0:
		a.out.Printf("no functions yet: `berth deploy DIR` makes one\n")
	default:
		a.out.Table([]string{"NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "CODE", "MODIFIED"}, rows)
	}
	return nil
}

// size shows bytes as people read them.
func size(bytes int64) string {
	const kilo = 1000
	switch {
	case bytes < kilo:
		return fmt.Sprintf("%d B", bytes)
	case bytes < kilo*kilo:
		return fmt.Sprintf("%.1f kB", float64(bytes)/kilo)
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/(kilo*kilo))
}

// when shows the API's LastModified in local time, or as it came if it has another form.
func when(modified string) string {
	t, err := time.Parse("2006-01-02T15:04:05.000-0700", modified)
	if err != nil {
		return modified
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
