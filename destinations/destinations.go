package destinations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/nats-io/nats.go"
)

// sendLimit bounds one try to reach a target.
const sendLimit = 10 * time.Second

// Message is what goes to a target: the record of an invocation, or for a dead-letter queue its event.
type Message struct {
	Body      []byte // JSON
	RequestID string
	Function  string // name, for the keys of a bucket
	Trace     string // X-Amzn-Trace-Id, "" for none
	At        time.Time
	Dead      *Dead // set for dead-letter queues
}

// Dead is why an event goes to a dead-letter queue, sent as attributes. Names and types as recorded in
// test_sqs_queue_as_lambda_dead_letter_queue.
type Dead struct {
	Code    int    `json:"code"` // HTTP status of the last attempt
	Message string `json:"message,omitempty"`
}

// MaxDeadMessage is how many bytes of a function's error go along (developer guide, "Dead-letter queues": the first 1 KB).
const MaxDeadMessage = 1024

// Config says where the services are.
type Config struct {
	Endpoints   map[string]string       // "sqs", "sns", "s3" → URL
	Region      string                  // where a target's ARN names none
	Credentials aws.CredentialsProvider // nil sends unsigned requests
	Conn        *nats.Conn              // nil: subjects cannot be reached
}

// Set sends to targets. It starts nothing; its methods are safe for concurrent use.
type Set struct {
	aws  *awsTargets
	nats *natsTargets
}

// New makes a Set. The error says which endpoint is none.
func New(cfg Config) (*Set, error) {
	targets, err := newAWS(cfg)
	if err != nil {
		return nil, err
	}
	return &Set{targets, newNATS(cfg.Conn)}, nil
}

// Close drops idle connections.
func (s *Set) Close() { s.aws.close() }

// Send tries once to deliver a message, for sendLimit at most. Error: the target did not take it.
func (s *Set) Send(ctx context.Context, t Target, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	var err error
	switch t.Kind {
	case SQS:
		err = s.aws.sendSQS(ctx, t, m)
	case SNS:
		err = s.aws.sendSNS(ctx, t, m)
	case S3:
		err = s.aws.sendS3(ctx, t, m)
	case NATS:
		err = s.nats.send(ctx, t, m)
	default:
		err = errors.New("this kind of target is not sent to here")
	}
	if err != nil {
		return fmt.Errorf("sending to %s: %w", t.ARN, err)
	}
	return nil
}
