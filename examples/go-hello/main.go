// Command go-hello is the smallest useful function in Go: it greets, and shows the context that every call gets. It uses
// the official runtime client unmodified.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name string `json:"name"`
	Fail bool   `json:"fail"`
}

type answer struct {
	Message string `json:"message"`
	From    string `json:"from"`
	Version string `json:"version"`
}

func handle(ctx context.Context, in event) (answer, error) {
	if in.Fail {
		return answer{}, errors.New("asked to fail")
	}
	name, greeting := in.Name, os.Getenv("GREETING")
	if name == "" {
		name = "world"
	}
	if greeting == "" {
		greeting = "Hello"
	}
	deadline, _ := ctx.Deadline()
	fmt.Printf("greeting %s, %d ms left\n", name, time.Until(deadline).Milliseconds())
	return answer{
		Message: greeting + ", " + name + "!",
		From:    "Go " + runtime.Version()[len("go"):],
		Version: lambdacontext.FunctionVersion,
	}, nil
}

func main() { lambda.Start(handle) }
