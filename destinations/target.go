// Package destinations sends what became of asynchronous invocations to where their owners want it: SQS queues, SNS topics, S3
// buckets, at endpoints that the server was told, and subjects of the engine. Functions are targets too, but not sent to here.
package destinations

import (
	"fmt"
	"strings"
)

// Kind is a service that can be a target.
type Kind string

// The kinds of targets.
const (
	Lambda Kind = "lambda"
	SQS    Kind = "sqs"
	SNS    Kind = "sns"
	S3     Kind = "s3"
	NATS   Kind = "nats"
)

// Target is a parsed ARN.
type Target struct {
	ARN     string
	Kind    Kind
	Region  string
	Account string
	// Name is the queue's name, the topic's, the bucket's, the subject, or of a function what follows "function:".
	Name string
}

// natsPrefix begins the name of a subject: arn:berth:nats:::orders.failed.
const natsPrefix = "arn:berth:nats:::"

// maxARN is the longest ARN of a target (API model, DestinationArn).
const maxARN = 350

// Parse reads the ARN of a target. The error says what was expected.
func Parse(arn string) (Target, error) {
	if len(arn) > maxARN {
		return Target{}, fmt.Errorf("the ARN has %d characters, at most %d are allowed", len(arn), maxARN)
	}
	if subject, ok := strings.CutPrefix(arn, natsPrefix); ok {
		if err := checkSubject(subject); err != nil {
			return Target{}, err
		}
		return Target{ARN: arn, Kind: NATS, Name: subject}, nil
	}
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || !strings.HasPrefix(parts[1], "aws") {
		return Target{}, fmt.Errorf("%q is no ARN of a target: expected arn:aws:SERVICE:REGION:ACCOUNT:NAME or %sSUBJECT", arn, natsPrefix)
	}
	t := Target{ARN: arn, Kind: Kind(parts[2]), Region: parts[3], Account: parts[4], Name: parts[5]}
	switch t.Kind {
	case Lambda:
		name, ok := strings.CutPrefix(t.Name, "function:")
		if t.Name = name; !ok {
			t.Name = ""
		}
	case SQS, SNS, S3:
	default:
		return Target{}, fmt.Errorf("%q cannot be a target: expected one of the services lambda, sqs, sns, s3, or %sSUBJECT", t.Kind, natsPrefix)
	}
	if t.Name == "" || t.Kind != S3 && (t.Region == "" || t.Account == "") {
		return Target{}, fmt.Errorf("the ARN %q lacks its region, account or name", arn)
	}
	return t, nil
}

// checkSubject refuses subjects that are Berth's own or the engine's, and those with wildcards.
func checkSubject(subject string) error {
	for _, token := range strings.Split(subject, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n\x00") {
			return fmt.Errorf("%q is no subject to publish on: expected words joined by dots, without wildcards", subject)
		}
	}
	first, _, _ := strings.Cut(subject, ".")
	if strings.HasPrefix(first, "$") || strings.EqualFold(first, "berth") || strings.HasPrefix(first, "_INBOX") {
		return fmt.Errorf("the subject %q is kept for the engine itself", subject)
	}
	return nil
}
