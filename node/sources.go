package node

import (
	"context"
	"os"

	"berth/catalog"
	"berth/queues"
	"berth/sources"
)

// newQueues makes the client of SQS; nil where this process was not told an endpoint.
func newQueues(cfg Config, l *lifecycle) (*queues.Client, error) {
	endpoint := cfg.AWSEndpoints["sqs"]
	if endpoint == "" {
		return nil, nil
	}
	c, err := queues.New(queues.Config{Endpoint: endpoint, Region: cfg.Region, Credentials: credentialsOf(os.Getenv)})
	if err != nil {
		return nil, err
	}
	l.onStop("connections to queues", func(context.Context) error { c.Close(); return nil })
	return c, nil
}

// queueCheck is how the API looks for a queue; nil where queues are not read.
func queueCheck(c *queues.Client) func(context.Context, string) error {
	if c == nil {
		return nil
	}
	return func(ctx context.Context, arn string) error {
		_, err := c.Visibility(ctx, arn)
		return err
	}
}

// startSources starts what reads event sources, where SQS has an endpoint. elected reports whether it is this process that reads.
func startSources(cfg Config, l *lifecycle, cat *catalog.Catalog, invoker sources.Invoker, elected func() bool) error {
	client, err := newQueues(cfg, l)
	if err != nil || client == nil {
		return err
	}
	r := sources.New(sources.Config{Catalog: cat, Invoker: invoker, Queues: client, Elected: elected, Log: cfg.Log.With("part", "sources")})
	l.run("event sources", r.Run)
	return nil
}
