// Command hello is an unmodified Lambda function in Go, for the tests of package runtimeapi.
package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do   string
	Text string
}

type answer struct {
	Text, RequestID, ARN, Tenant string
	Deadline                     int64
	Custom                       map[string]string
}

type broken struct{ sent bool }

func (b *broken) Read(p []byte) (int, error) {
	if b.sent {
		return 0, errors.New("broke off")
	}
	b.sent = true
	return copy(p, "half"), nil
}

func handle(ctx context.Context, e event) (any, error) {
	switch e.Do {
	case "error":
		return nil, errors.New(e.Text)
	case "panic":
		panic(e.Text)
	case "large":
		return strings.Repeat("x", 7<<20), nil
	case "stream":
		return io.Reader(strings.NewReader(e.Text)), nil
	case "broken stream":
		return &broken{}, nil
	}
	c, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return answer{Text: e.Text, RequestID: c.AwsRequestID, ARN: c.InvokedFunctionArn, Tenant: c.TenantID,
		Deadline: deadline.Truncate(time.Millisecond).UnixMilli(), Custom: c.ClientContext.Custom}, nil
}

func main() { lambda.Start(handle) }
