package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"berth/client"
)

// services are SQS, SNS and S3 in a process of their own: moto's, where it is installed, or fauxqs.
type services struct {
	url string
	sqs *sqs.Client
	sns *sns.Client
	s3  *s3.Client
}

// startServices skips the test where none is installed.
func startServices(t *testing.T) *services {
	t.Helper()
	s := servicesIfInstalled(t)
	if s == nil {
		t.Skip("there is no SQS, SNS and S3 to test with (make services, or make moto)")
	}
	return s
}

// servicesIfInstalled is startServices for tests that can do without: then it returns nil.
func servicesIfInstalled(t *testing.T) *services {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	cmd := servicesCommand(port)
	if cmd == nil {
		return nil
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it fails if they have ended by themselves
		_ = cmd.Wait()
	})
	url := "http://127.0.0.1:" + port
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(50 * time.Millisecond) {
		res, err := http.Get(url)
		if err == nil {
			res.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the services do not answer: %v", err)
		}
	}
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
	})
	return &services{url,
		sqs.New(sqs.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: creds}),
		sns.New(sns.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: creds}),
		s3.New(s3.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: creds, UsePathStyle: true}),
	}
}

// servicesCommand is whichever is installed, with everything in memory; nil for neither.
func servicesCommand(port string) *exec.Cmd {
	for _, moto := range []string{"../bin/moto/bin/moto_server", "moto_server"} {
		if path, err := exec.LookPath(moto); err == nil {
			return exec.Command(path, "-H", "127.0.0.1", "-p", port)
		}
	}
	const program = "services/node_modules/fauxqs/dist/cli.js"
	if _, err := os.Stat(program); err != nil {
		return nil
	}
	cmd := exec.Command("node", program)
	cmd.Env = append(os.Environ(), "FAUXQS_HOST=127.0.0.1", "FAUXQS_PORT="+port, "FAUXQS_DEFAULT_REGION=us-east-1", "FAUXQS_LOGGER=false")
	return cmd
}

// queue makes a queue, and returns its URL and ARN.
func (s *services) queue(t *testing.T, name string) (url, arn string) {
	t.Helper()
	out, err := s.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name})
	if err != nil {
		t.Fatal(err)
	}
	attributes, err := s.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: out.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	if err != nil {
		t.Fatal(err)
	}
	return *out.QueueUrl, attributes.Attributes["QueueArn"]
}

// receive waits for a message.
func (s *services) receive(t *testing.T, url string) sqstypes.Message {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, err := s.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MessageAttributeNames: []string{"All"},
			MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) > 0 {
			return out.Messages[0]
		}
	}
	t.Fatalf("no message came to %s", url)
	return sqstypes.Message{}
}

const wantFailure = `^\{"version":"1\.0","timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","requestContext":\{"requestId":"[0-9a-f-]{36}",` +
	`"functionArn":"arn:aws:lambda:us-east-1:\d{12}:function:told:\$LATEST","condition":"RetriesExhausted","approximateInvokeCount":1\},` +
	`"requestPayload":\{"raise_error":1\},"responseContext":\{"statusCode":200,"executedVersion":"\$LATEST","functionError":"Unhandled"\},` +
	`"responsePayload":\{.*"errorMessage": ?"on purpose".*\}\}$`

// TestDestinationsOfServices tells a real SQS, SNS and S3 how events ended. Bodies and attributes are as recorded in
// test_lambda_destination_default_retries, test_maxeventage and test_sqs_queue_as_lambda_dead_letter_queue.
func TestDestinationsOfServices(t *testing.T) {
	sharedClient(t)
	services := startServices(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	s := start(t, t.TempDir(), "--aws-endpoint", "sqs="+services.url+",sns="+services.url, "--aws-endpoint", "s3="+services.url)
	c := client.New(s.Client)
	defer c.Close()
	deadURL, deadARN := services.queue(t, "dead")
	python(t, c, "told", "def handler(event, context):\n    if 'raise_error' in event:\n        raise Exception('on purpose')\n    return 'fine'\n",
		func(in *lambda.CreateFunctionInput) {
			in.DeadLetterConfig = &types.DeadLetterConfig{TargetArn: &deadARN}
		})

	t.Run("SQS and the dead-letter queue", func(t *testing.T) {
		url, arn := services.queue(t, "records")
		configure(t, c, "told", arn)
		event(t, c, "told", `{"raise_error":1}`)
		record := services.receive(t, url)
		if !regexp.MustCompile(wantFailure).MatchString(*record.Body) || record.Attributes["AWSTraceHeader"] == "" {
			t.Errorf("the record is %s with %v", *record.Body, record.Attributes)
		}
		dead := services.receive(t, deadURL)
		a := dead.MessageAttributes
		if *dead.Body != `{"raise_error":1}` || len(a) != 3 || *a["ErrorCode"].StringValue != "200" || *a["ErrorCode"].DataType != "Number" ||
			*a["ErrorMessage"].StringValue != "on purpose" || len(*a["RequestID"].StringValue) != 36 {
			t.Errorf("the dead letter is %s with %v", *dead.Body, a)
		}
	})
	t.Run("SNS", func(t *testing.T) {
		url, arn := services.queue(t, "subscribed")
		topic, err := services.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("topic")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := services.sns.Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("sqs"), Endpoint: &arn}); err != nil {
			t.Fatal(err)
		}
		configure(t, c, "told", *topic.TopicArn)
		event(t, c, "told", `{}`)
		var notice struct{ Message string }
		body := *services.receive(t, url).Body
		if err := json.Unmarshal([]byte(body), &notice); err != nil || !regexp.MustCompile(`"condition":"Success".*"responsePayload":"fine"`).MatchString(notice.Message) {
			t.Errorf("the topic got %s", body)
		}
	})
	t.Run("S3", func(t *testing.T) {
		if _, err := services.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("records")}); err != nil {
			t.Fatal(err)
		}
		configure(t, c, "told", "arn:aws:s3:::records")
		event(t, c, "told", `{}`)
		body := services.object(t, "records", `^aws/lambda/async/told/\d{4}/\d\d/\d\d/\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d-[0-9a-f-]{36}$`)
		if !regexp.MustCompile(`"condition":"Success".*"responsePayload":"fine"`).MatchString(body) {
			t.Errorf("the object is %s", body)
		}
	})
	t.Run("a queue that comes later", func(t *testing.T) {
		configure(t, c, "told", "arn:aws:sqs:us-east-1:123456789012:later")
		event(t, c, "told", `{}`)
		time.Sleep(time.Second) // the first try fails: no wait makes this test fail
		url, _ := services.queue(t, "later")
		if body := *services.receive(t, url).Body; !regexp.MustCompile(`"condition":"Success"`).MatchString(body) {
			t.Errorf("the record is %s", body)
		}
	})
}

func event(t *testing.T, c *client.Client, name, payload string) {
	t.Helper()
	invoke(t, c, &lambda.InvokeInput{FunctionName: &name, InvocationType: types.InvocationTypeEvent, Payload: []byte(payload)})
}

// object waits for a bucket's object, and returns what is in it.
func (s *services) object(t *testing.T, bucket, key string) string {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		list, err := s.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Contents) == 0 {
			continue
		}
		if found := *list.Contents[0].Key; !regexp.MustCompile(key).MatchString(found) {
			t.Errorf("the object's key is %s", found)
		}
		out, err := s.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: list.Contents[0].Key})
		if err != nil {
			t.Fatal(err)
		}
		defer out.Body.Close()
		body, err := io.ReadAll(out.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	t.Fatalf("no object came to %s", bucket)
	return ""
}
