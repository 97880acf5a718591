// Package client speaks to a Berth server as every other client does, over its public API: Lambda through the AWS SDK, the
// one operation of CloudWatch Logs that reads log lines back, and Berth's own paths.
package client

import (
	"context"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/clientfile"
)

// maxIdle is how many connections a client keeps open for reuse.
const maxIdle = 128

// Client speaks to one server as one account. It is safe for concurrent use.
type Client struct {
	Lambda *lambda.Client
	server clientfile.File
	http   *http.Client
}

// New returns a client of the server that the file describes. It opens no connection yet, and never retries by itself: a
// person waits for the answer, and a test wants to see the first one.
func New(server clientfile.File) *Client {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = maxIdle, maxIdle
	})
	return &Client{
		server: server,
		http:   &http.Client{Transport: transport.GetTransport()},
		Lambda: lambda.New(lambda.Options{
			BaseEndpoint: aws.String(server.Endpoint),
			Region:       server.Region,
			Credentials:  aws.CredentialsProviderFunc(credentials(server)),
			Retryer:      aws.NopRetryer{},
			HTTPClient:   transport,
		}),
	}
}

// Server returns what the client was made with.
func (c *Client) Server() clientfile.File { return c.server }

// Close drops the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func credentials(server clientfile.File) func(context.Context) (aws.Credentials, error) {
	return func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{
			AccessKeyID:     server.AccessKeyID,
			SecretAccessKey: server.SecretAccessKey,
			Source:          "berth",
		}, nil
	}
}
