// Command go is the Go function of the benchmark: the official runtime client, unmodified.
package main

import (
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

type event struct {
	Sleep float64 `json:"sleep"` // seconds
}

func handle(in event) (string, error) {
	time.Sleep(time.Duration(in.Sleep * float64(time.Second)))
	return "hello", nil
}

func main() { lambda.Start(handle) }
