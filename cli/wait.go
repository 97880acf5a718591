package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

// A function is asked for its state after waitFirst, then ever more rarely, and for waitLimit at most.
const (
	waitFirst = 20 * time.Millisecond
	waitMost  = time.Second
	waitLimit = 5 * time.Minute
)

// configuration is a function's state as the API tells it.
type configuration lambda.GetFunctionConfigurationOutput

// waitSettled waits until nothing is in progress any more, whether it went well or not.
func (a *app) waitSettled(ctx context.Context, c *client.Client, name string) (configuration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, waitLimit,
		fmt.Errorf("%s was not ready after %s; `berth deploy` again waits on", name, waitLimit))
	defer cancel()
	for pause := waitFirst; ; pause = min(pause*2, waitMost) {
		out, err := c.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return configuration{}, err
		}
		if out.State != types.StatePending && out.LastUpdateStatus != types.LastUpdateStatusInProgress {
			return configuration(*out), nil
		}
		a.err.Progress("waiting until %s is ready: %s …", name, orElse(aws.ToString(out.StateReason), string(out.State)))
		select {
		case <-ctx.Done():
			return configuration{}, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// waitReady waits until a function can be called, and fails with the server's reason if it cannot.
func (a *app) waitReady(ctx context.Context, c *client.Client, name string) (configuration, error) {
	now, err := a.waitSettled(ctx, c, name)
	switch {
	case err != nil:
		return now, err
	case now.State == types.StateFailed:
		return now, failed(name, aws.ToString(now.StateReason), string(now.StateReasonCode))
	case now.LastUpdateStatus == types.LastUpdateStatusFailed:
		return now, failed(name, aws.ToString(now.LastUpdateStatusReason), string(now.LastUpdateStatusReasonCode))
	}
	return now, nil
}

func failed(name, reason, code string) error {
	if reason == "" {
		return errors.New(name + " failed: " + orElse(code, "the server gave no reason"))
	}
	return errors.New(name + " failed: " + reason)
}
