// Command echo is the Go function of the end-to-end tests: the official runtime client, unmodified.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

func handle(ctx context.Context, event json.RawMessage) (map[string]any, error) {
	if strings.Contains(string(event), "fail") {
		return nil, errors.New("asked to fail")
	}
	answer, err := os.ReadFile("/var/task/answer.txt")
	out := map[string]any{"answer": string(answer), "event": event}
	if c, ok := lambdacontext.FromContext(ctx); ok && c.TenantID != "" {
		out["tenant"] = c.TenantID
	}
	return out, err
}

func main() { lambda.Start(handle) }
