// Package queues reads from SQS queues, for event source mappings: any server that speaks SQS's protocol.
package queues

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// Limits of SQS (API reference, ReceiveMessage and DeleteMessageBatch).
const (
	MaxReceive = 10               // messages
	MaxWait    = 20 * time.Second // for the first message
	maxDelete  = 10
)

// callLimit bounds a call beyond what it may wait for a message.
const callLimit = 10 * time.Second

// ErrNoQueue says that a queue does not exist.
var ErrNoQueue = errors.New("the specified queue does not exist")

// Config says where SQS is.
type Config struct {
	Endpoint    string                  // URL; "" means that there is none, and every call fails
	Region      string                  // for signatures
	Credentials aws.CredentialsProvider // nil sends unsigned requests
}

// Client reads queues. It starts nothing; its methods are safe for concurrent use.
type Client struct {
	http *awshttp.BuildableClient
	sqs  *sqs.Client
	urls sync.Map // ARN → URL
}

// New makes a Client. The error says that the endpoint is none.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the endpoint %q of sqs is no URL like http://HOST:PORT", cfg.Endpoint)
	}
	credentials := cfg.Credentials
	if credentials == nil {
		credentials = aws.AnonymousCredentials{}
	}
	c := &Client{http: awshttp.NewBuildableClient()}
	c.sqs = sqs.New(sqs.Options{BaseEndpoint: &cfg.Endpoint, Region: cfg.Region, Credentials: credentials, Retryer: aws.NopRetryer{}, HTTPClient: c.http})
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.GetTransport().CloseIdleConnections() }

// Message is one message as it was received. Names and types are the API's.
type Message struct {
	ID, Receipt, Body string
	MD5, AttributeMD5 string // AttributeMD5 is "" without attributes
	System            map[string]string
	Attributes        map[string]Attribute
}

// Attribute is a message's own attribute.
type Attribute struct {
	Type   string // String, Number, Binary, with what follows a dot
	Text   string
	Binary []byte
}

// url asks once for each queue where it is. Error: ErrNoQueue.
func (c *Client) url(ctx context.Context, arn string) (string, error) {
	if known, ok := c.urls.Load(arn); ok {
		return known.(string), nil
	}
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[2] != "sqs" {
		return "", fmt.Errorf("%.200q is no ARN of a queue: expected arn:aws:sqs:REGION:ACCOUNT:NAME", arn)
	}
	out, err := c.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &parts[5], QueueOwnerAWSAccountId: &parts[4]})
	if err != nil {
		return "", c.failed(arn, err)
	}
	c.urls.Store(arn, aws.ToString(out.QueueUrl))
	return aws.ToString(out.QueueUrl), nil
}

// failed forgets where a queue was: it may have been made anew elsewhere.
func (c *Client) failed(arn string, err error) error {
	c.urls.Delete(arn)
	var none *types.QueueDoesNotExist
	if errors.As(err, &none) {
		return ErrNoQueue
	}
	return err
}

// Visibility is for how long a received message is hidden from others. Error: ErrNoQueue.
func (c *Client) Visibility(ctx context.Context, arn string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	url, err := c.url(ctx, arn)
	if err != nil {
		return 0, err
	}
	const name = types.QueueAttributeNameVisibilityTimeout
	out, err := c.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{name}})
	if err != nil {
		return 0, c.failed(arn, err)
	}
	seconds, err := strconv.Atoi(out.Attributes[string(name)])
	if err != nil {
		return 0, fmt.Errorf("the queue's %s is %q", name, out.Attributes[string(name)])
	}
	return time.Duration(seconds) * time.Second, nil
}

// Receive takes up to n messages (MaxReceive at most), and waits up to wait (MaxWait at most) for the first. What was received
// is hidden from others for the queue's visibility timeout. Error: ErrNoQueue.
func (c *Client) Receive(ctx context.Context, arn string, n int, wait time.Duration) ([]Message, error) {
	wait = min(wait, MaxWait)
	ctx, cancel := context.WithTimeout(ctx, callLimit+wait)
	defer cancel()
	url, err := c.url(ctx, arn)
	if err != nil {
		return nil, err
	}
	out, err := c.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: int32(min(n, MaxReceive)), WaitTimeSeconds: int32(wait / time.Second),
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll}})
	if err != nil {
		return nil, c.failed(arn, err)
	}
	messages := make([]Message, len(out.Messages))
	for i, m := range out.Messages {
		messages[i] = message(&m)
	}
	return messages, nil
}

func message(m *types.Message) Message {
	out := Message{ID: aws.ToString(m.MessageId), Receipt: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body), MD5: aws.ToString(m.MD5OfBody),
		AttributeMD5: aws.ToString(m.MD5OfMessageAttributes), System: m.Attributes}
	for name, v := range m.MessageAttributes {
		if out.Attributes == nil {
			out.Attributes = make(map[string]Attribute, len(m.MessageAttributes))
		}
		out.Attributes[name] = Attribute{Type: aws.ToString(v.DataType), Text: aws.ToString(v.StringValue), Binary: v.BinaryValue}
	}
	return out
}

// Delete removes messages by their receipts. The error names one that was not removed.
func (c *Client) Delete(ctx context.Context, arn string, receipts []string) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	url, err := c.url(ctx, arn)
	if err != nil {
		return err
	}
	var failures error
	for len(receipts) > 0 {
		part := receipts[:min(len(receipts), maxDelete)]
		receipts = receipts[len(part):]
		entries := make([]types.DeleteMessageBatchRequestEntry, len(part))
		for i := range part {
			entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &part[i]}
		}
		out, err := c.sqs.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &url, Entries: entries})
		if err != nil {
			return c.failed(arn, err)
		}
		for _, f := range out.Failed {
			failures = fmt.Errorf("%d messages were not deleted: %s", len(out.Failed), aws.ToString(f.Message))
		}
	}
	return failures
}
