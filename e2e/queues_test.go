package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"berth/client"
)

// consumer is a function of queues: it logs its event, fails as a whole for "all", and reports the messages named "bad".
const consumer = `import json
def handler(event, context):
    print("EVENT " + json.dumps(event))
    if any(r["body"] == "all" for r in event["Records"]):
        raise Exception("on purpose")
    return {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in event["Records"] if r["body"].startswith("bad")]}
`

// TestQueueMappings feeds functions from queues of a server that speaks SQS.
func TestQueueMappings(t *testing.T) {
	sharedClient(t)
	services := startServices(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	s := start(t, t.TempDir(), "--aws-endpoint", "sqs="+services.url)
	c := client.New(s.Client)
	defer c.Close()
	python(t, c, "consumer", consumer, func(in *lambda.CreateFunctionInput) { in.Runtime = types.Runtime(pythonRuntime(t)) })
	q := &queueTest{t, c, services}

	_, err := c.Lambda.CreateEventSourceMapping(t.Context(), &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("consumer"), EventSourceArn: aws.String("arn:aws:sqs:us-east-1:123456789012:none")})
	wantCode(t, err, "InvalidParameterValueException")
	t.Run("messages with attributes", q.attributes)
	t.Run("partial failures and a dead-letter queue", q.partial)
	t.Run("filters", q.filters)
	t.Run("disable and enable", q.disable)
	t.Run("FIFO", q.fifo)
}

// TestQueueMappingsOfProcesses: the control role reads, in a process that has no frontend.
func TestQueueMappingsOfProcesses(t *testing.T) {
	sharedClient(t)
	services := startServices(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	p := startProcesses(t, 1, 1, "--aws-endpoint", "sqs="+services.url)
	python(t, p.frontends[0], "consumer", consumer)
	q := &queueTest{t, p.frontends[0], services}
	dead, deadARN := q.services.queue(t, "cluster-dead")
	url, _ := q.mapped(t, "cluster", map[string]string{"VisibilityTimeout": "5", "RedrivePolicy": `{"deadLetterTargetArn":"` + deadARN + `","maxReceiveCount":1}`},
		func(in *lambda.CreateEventSourceMappingInput) {
			in.FunctionResponseTypes = []types.FunctionResponseType{types.FunctionResponseTypeReportBatchItemFailures}
		})
	q.send(t, url, "good", "bad one", "fine")
	if got := q.services.receive(t, dead); *got.Body != "bad one" {
		t.Errorf("the dead letter is %s", *got.Body)
	}
	q.empty(t, url)
}

type queueTest struct {
	*testing.T
	c        *client.Client
	services *services
}

// mapped makes a queue and a mapping from it.
func (q *queueTest) mapped(t *testing.T, name string, attributes map[string]string, more func(*lambda.CreateEventSourceMappingInput)) (url string, id *string) {
	t.Helper()
	out, err := q.services.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	in := &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("consumer"), EventSourceArn: aws.String("arn:aws:sqs:us-east-1:123456789012:" + name)}
	if more != nil {
		more(in)
	}
	made, err := q.c.Lambda.CreateEventSourceMapping(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(made.State) != "Creating" {
		t.Errorf("the new mapping is %s", aws.ToString(made.State))
	}
	q.state(t, made.UUID, "Enabled")
	return *out.QueueUrl, made.UUID
}

// state waits for a mapping's state, without a problem.
func (q *queueTest) state(t *testing.T, id *string, want string) {
	t.Helper()
	got, err := q.c.Lambda.GetEventSourceMapping(t.Context(), &lambda.GetEventSourceMappingInput{UUID: id})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(got.State) != want || got.LastProcessingResult != nil {
		t.Errorf("the mapping is %s, %q; want %s", aws.ToString(got.State), aws.ToString(got.LastProcessingResult), want)
	}
}

func (q *queueTest) send(t *testing.T, url string, bodies ...string) {
	t.Helper()
	for i, body := range bodies {
		in := &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body}
		if strings.HasSuffix(url, ".fifo") {
			in.MessageGroupId, in.MessageDeduplicationId = aws.String("group"), aws.String(fmt.Sprint(i))
		}
		if _, err := q.services.sqs.SendMessage(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
}

// empty waits until nothing is in a queue, hidden or not.
func (q *queueTest) empty(t *testing.T, url string) {
	t.Helper()
	var held map[string]string
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, err := q.services.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{"All"}})
		if err != nil {
			t.Fatal(err)
		}
		if held = out.Attributes; held["ApproximateNumberOfMessages"] == "0" && held["ApproximateNumberOfMessagesNotVisible"] == "0" {
			return
		}
	}
	t.Errorf("the queue holds %s messages and %s hidden ones", held["ApproximateNumberOfMessages"], held["ApproximateNumberOfMessagesNotVisible"])
}

// records waits until the function has got a message, and returns all records of that source that it has got, in order.
func (q *queueTest) records(t *testing.T, source, text string) (all []map[string]any) {
	t.Helper()
	for _, line := range strings.Split(waitForLog(t, q.c, "/aws/lambda/consumer", text), "\n") {
		payload, ok := strings.CutPrefix(line, "EVENT ")
		if !ok {
			continue
		}
		for _, r := range object(t, []byte(payload))["Records"].([]any) {
			if record := r.(map[string]any); strings.HasSuffix(record["eventSourceARN"].(string), ":"+source) {
				all = append(all, record)
			}
		}
	}
	return all
}

func (q *queueTest) attributes(t *testing.T) {
	url, _ := q.mapped(t, "plain", nil, nil)
	if _, err := q.services.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("hello plain"),
		MessageAttributes: map[string]sqstypes.MessageAttributeValue{"Title": {DataType: aws.String("String"), StringValue: aws.String("The Whistler")}}}); err != nil {
		t.Fatal(err)
	}
	got := q.records(t, "plain", "hello plain")[0]
	system := got["attributes"].(map[string]any)
	for _, name := range []string{"ApproximateFirstReceiveTimestamp", "ApproximateReceiveCount", "SenderId", "SentTimestamp"} {
		if system[name] == nil {
			t.Errorf("no %s in %v", name, system)
		}
	}
	own := got["messageAttributes"]
	want := map[string]any{"Title": map[string]any{"stringValue": "The Whistler", "dataType": "String", "stringListValues": []any{}, "binaryListValues": []any{}}}
	if !same(own, want) || got["eventSource"] != "aws:sqs" || got["awsRegion"] != "us-east-1" || got["md5OfMessageAttributes"] == nil || got["md5OfBody"] == nil || got["receiptHandle"] == nil {
		t.Errorf("the record is %v", got)
	}
	q.empty(t, url)
}

func (q *queueTest) partial(t *testing.T) {
	dead, deadARN := q.services.queue(t, "dead-letters")
	redrive, err := json.Marshal(map[string]any{"deadLetterTargetArn": deadARN, "maxReceiveCount": 2})
	if err != nil {
		t.Fatal(err)
	}
	url, _ := q.mapped(t, "partial", map[string]string{"VisibilityTimeout": "5", "RedrivePolicy": string(redrive)}, func(in *lambda.CreateEventSourceMappingInput) {
		in.FunctionResponseTypes = []types.FunctionResponseType{types.FunctionResponseTypeReportBatchItemFailures}
	})
	q.send(t, url, "good", "bad one", "fine")
	if got := q.services.receive(t, dead); *got.Body != "bad one" {
		t.Errorf("the dead letter is %s", *got.Body)
	}
	q.empty(t, url)
	for _, r := range q.records(t, "partial", "bad one") {
		if count := r["attributes"].(map[string]any)["ApproximateReceiveCount"]; r["body"] != "bad one" && count != "1" {
			t.Errorf("%s was received %v times", r["body"], count)
		}
	}
}

func (q *queueTest) filters(t *testing.T) {
	url, _ := q.mapped(t, "filtered", nil, func(in *lambda.CreateEventSourceMappingInput) {
		in.FilterCriteria = &types.FilterCriteria{Filters: []types.Filter{{Pattern: aws.String(`{"body":{"n":[{"numeric":[">=",100]}]}}`)}}}
	})
	q.send(t, url, `{"n":5}`, `{"n":150}`, `no JSON`)
	if got := q.records(t, "filtered", `{\"n\":150}`); len(got) != 1 || got[0]["body"] != `{"n":150}` {
		t.Errorf("got %v", got)
	}
	q.empty(t, url)
}

func (q *queueTest) disable(t *testing.T) {
	url, id := q.mapped(t, "switched", map[string]string{"VisibilityTimeout": "5"}, nil)
	out, err := q.c.Lambda.UpdateEventSourceMapping(t.Context(), &lambda.UpdateEventSourceMappingInput{UUID: id, Enabled: aws.Bool(false)})
	if err != nil || aws.ToString(out.State) != "Disabling" {
		t.Fatalf("%v, %v", out, err)
	}
	q.state(t, id, "Disabled")
	time.Sleep(time.Second) // the reader looks twice a second; no wait makes this test fail
	q.send(t, url, "while disabled")
	time.Sleep(time.Second)
	for event, err := range q.c.Logs(t.Context(), "/aws/lambda/consumer", time.Time{}) {
		if err != nil || strings.Contains(event.Message, "while disabled") {
			t.Errorf("a disabled mapping is read: %s (%v)", event.Message, err)
		}
	}
	if _, err := q.c.Lambda.UpdateEventSourceMapping(t.Context(), &lambda.UpdateEventSourceMappingInput{UUID: id, Enabled: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	q.records(t, "switched", "while disabled")
	q.empty(t, url)
}

func (q *queueTest) fifo(t *testing.T) {
	url, _ := q.mapped(t, "ordered.fifo", map[string]string{"FifoQueue": "true"}, func(in *lambda.CreateEventSourceMappingInput) { in.BatchSize = aws.Int32(2) })
	q.send(t, url, "1st", "2nd", "3rd", "4th", "5th")
	q.empty(t, url)
	var got []string
	for _, r := range q.records(t, "ordered.fifo", "5th") {
		got = append(got, r["body"].(string))
		if a := r["attributes"].(map[string]any); a["MessageGroupId"] != "group" || a["SequenceNumber"] == nil {
			t.Errorf("the attributes are %v", a)
		}
	}
	if strings.Join(got, " ") != "1st 2nd 3rd 4th 5th" {
		t.Errorf("the group came as %v", got)
	}
}
