package destinations

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
)

// awsTargets are the clients of the services with an endpoint. Nothing retries: who calls does, for hours if need be.
type awsTargets struct {
	http *awshttp.BuildableClient
	sqs  *sqs.Client // nil without an endpoint; the others too
	sns  *sns.Client
	s3   *s3.Client

	queues sync.Map // ARN → URL
}

func newAWS(cfg Config) (*awsTargets, error) {
	for service, endpoint := range cfg.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("the endpoint %q of %s is no URL like http://HOST:PORT", endpoint, service)
		}
		if k := Kind(service); k != SQS && k != SNS && k != S3 {
			return nil, fmt.Errorf("there are no targets of the service %q: endpoints can be given for sqs, sns and s3", service)
		}
	}
	credentials := cfg.Credentials
	if credentials == nil {
		credentials = aws.AnonymousCredentials{}
	}
	a := &awsTargets{http: awshttp.NewBuildableClient()}
	if e := cfg.Endpoints[string(SQS)]; e != "" {
		a.sqs = sqs.New(sqs.Options{BaseEndpoint: &e, Region: cfg.Region, Credentials: credentials, Retryer: aws.NopRetryer{}, HTTPClient: a.http})
	}
	if e := cfg.Endpoints[string(SNS)]; e != "" {
		a.sns = sns.New(sns.Options{BaseEndpoint: &e, Region: cfg.Region, Credentials: credentials, Retryer: aws.NopRetryer{}, HTTPClient: a.http})
	}
	if e := cfg.Endpoints[string(S3)]; e != "" {
		a.s3 = s3.New(s3.Options{BaseEndpoint: &e, Region: cfg.Region, Credentials: credentials, Retryer: aws.NopRetryer{}, HTTPClient: a.http,
			UsePathStyle: true}) // servers that are not AWS seldom have a host name per bucket
	}
	return a, nil
}

func (a *awsTargets) close() { a.http.GetTransport().CloseIdleConnections() }

// noEndpoint says what the operator has to do.
func noEndpoint(k Kind) error {
	return fmt.Errorf("this server was not told where %s is: start it with --aws-endpoint %s=URL", k, k)
}

// attributes of a dead letter.
func (d *Dead) attributes(m Message) map[string][2]string {
	if d == nil {
		return nil
	}
	out := map[string][2]string{"RequestID": {"String", m.RequestID}, "ErrorCode": {"Number", strconv.Itoa(d.Code)}}
	if d.Message != "" { // an attribute must not be empty
		out["ErrorMessage"] = [2]string{"String", d.Message}
	}
	return out
}

func (a *awsTargets) sendSQS(ctx context.Context, t Target, m Message) error {
	if a.sqs == nil {
		return noEndpoint(SQS)
	}
	queue, err := a.queueURL(ctx, t)
	if err != nil {
		return err
	}
	in := &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: aws.String(string(m.Body))}
	for name, v := range m.Dead.attributes(m) {
		if in.MessageAttributes == nil {
			in.MessageAttributes = map[string]sqstypes.MessageAttributeValue{}
		}
		in.MessageAttributes[name] = sqstypes.MessageAttributeValue{DataType: aws.String(v[0]), StringValue: aws.String(v[1])}
	}
	if m.Trace != "" { // as recorded in test_maxeventage
		in.MessageSystemAttributes = map[string]sqstypes.MessageSystemAttributeValue{
			"AWSTraceHeader": {DataType: aws.String("String"), StringValue: aws.String(m.Trace)}}
	}
	if strings.HasSuffix(t.Name, ".fifo") {
		in.MessageGroupId, in.MessageDeduplicationId = aws.String(m.Function), aws.String(m.RequestID)
	}
	if _, err = a.sqs.SendMessage(ctx, in); err != nil {
		a.queues.Delete(t.ARN) // the queue may have been made anew elsewhere
	}
	return err
}

// queueURL asks once for each queue where it is.
func (a *awsTargets) queueURL(ctx context.Context, t Target) (string, error) {
	if known, ok := a.queues.Load(t.ARN); ok {
		return known.(string), nil
	}
	out, err := a.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &t.Name, QueueOwnerAWSAccountId: &t.Account})
	if err != nil {
		return "", err
	}
	a.queues.Store(t.ARN, aws.ToString(out.QueueUrl))
	return aws.ToString(out.QueueUrl), nil
}

func (a *awsTargets) sendSNS(ctx context.Context, t Target, m Message) error {
	if a.sns == nil {
		return noEndpoint(SNS)
	}
	in := &sns.PublishInput{TopicArn: &t.ARN, Message: aws.String(string(m.Body))}
	for name, v := range m.Dead.attributes(m) {
		if in.MessageAttributes == nil {
			in.MessageAttributes = map[string]snstypes.MessageAttributeValue{}
		}
		in.MessageAttributes[name] = snstypes.MessageAttributeValue{DataType: aws.String(v[0]), StringValue: aws.String(v[1])}
	}
	_, err := a.sns.Publish(ctx, in)
	return err
}

// sendS3 stores the record under the key that the developer guide shows ("Configuring destinations"):
// aws/lambda/async/FUNCTION/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-UUID.
func (a *awsTargets) sendS3(ctx context.Context, t Target, m Message) error {
	if a.s3 == nil {
		return noEndpoint(S3)
	}
	at := m.At.UTC()
	// One event makes one object, however often it is sent.
	id := uuid.NewSHA1(uuid.NameSpaceOID, []byte(m.RequestID))
	key := "aws/lambda/async/" + m.Function + "/" + at.Format("2006/01/02/2006-01-02T15.04.05") + "-" + id.String()
	_, err := a.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &t.Name, Key: &key, Body: bytes.NewReader(m.Body),
		ContentType: aws.String("application/json")})
	return err
}
