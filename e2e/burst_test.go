package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"golang.org/x/sync/errgroup"
)

// A burst of deployments: so many functions, from so many clients at a time.
const burstFunctions, burstClients = 400, 32

// TestCreateBurst creates many functions at once, each with code of its own, and prints how fast they were acknowledged and
// Active. The figure is for people: CI's machine may be busy, so only the outcome is judged.
func TestCreateBurst(t *testing.T) {
	c := sharedClient(t)
	runtime := types.Runtime(pythonRuntime(t))
	began := time.Now()
	var group errgroup.Group
	group.SetLimit(burstClients)
	for i := range burstFunctions {
		group.Go(func() error {
			_, err := c.Lambda.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
				FunctionName: aws.String(fmt.Sprintf("burst-%d", i)), Runtime: runtime, Handler: aws.String("app.handler"),
				Role: aws.String("arn:aws:iam::000000000001:role/burst"),
				Code: &types.FunctionCode{ZipFile: zipOf(t, "app.py", fmt.Sprintf("def handler(event, context):\n    return %d\n", i))},
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	acknowledged := time.Since(began)
	for i := range burstFunctions {
		waitActive(t, c, fmt.Sprintf("burst-%d", i))
	}
	active := time.Since(began)
	t.Logf("%d functions from %d clients: acknowledged in %s (%.0f/s), Active in %s (%.0f/s)", burstFunctions, burstClients,
		acknowledged.Round(time.Millisecond), burstFunctions/acknowledged.Seconds(), active.Round(time.Millisecond), burstFunctions/active.Seconds())
	if got := string(invoke(t, c, &lambda.InvokeInput{FunctionName: aws.String(fmt.Sprintf("burst-%d", burstFunctions-1))}).Payload); got != fmt.Sprint(burstFunctions-1) {
		t.Errorf("the last one answered %s", got)
	}
}
