// Command gofunction is a function for provided runtimes, as people write it with aws-lambda-go.
package main

import (
	"context"
	"fmt"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(_ context.Context, event string) (string, error) {
		fmt.Println("first", event)
		fmt.Println("second", event)
		return "go: " + event, nil
	})
}
