package conformance

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// queueAccount is whose queues those of the tests are: moto's own account.
const queueAccount = "123456789012"

// Functions of these scenarios.
const (
	logsEvent = "import json\ndef handler(event, context):\n    print('EVENT ' + json.dumps(event))\n"
	raises    = "def handler(event, context):\n    raise Exception('Test exception (this is intentional)')\n"
	parses    = "import json\ndef handler(event, context):\n    for r in event['Records']:\n        json.loads(r['body'])\n"
	tells     = `def handler(event, context):
    names = "aws_request_id client_context function_name function_version invoked_function_arn log_group_name log_stream_name memory_limit_in_mb"
    return {"event": event, "context": {n: getattr(context, n) for n in names.split()}}
`
)

// filterTests are patterns, a body that each lets pass, and one that it does not.
var filterTests = []struct{ name, pattern, yes, no string }{
	{"and-filter", `{"body": {"test2": ["go"], "testItem": ["test24", "test45"]}}`, `{"test2":"go","testItem":"test45"}`, `{"test2":"stop","testItem":"test45"}`},
	{"exists", `{"body": {"my-key": [{"exists": true}]}}`, `{"my-key":"any-value-one"}`, `{"other":"x"}`},
	{"filter0-item_matching0-item_not_matching0", `{"body": {"testItem": ["test24"]}}`, `{"testItem":"test24"}`, `{"testItem":"tesWER"}`},
	{"filter4-item_matching4-this is a test string", `{"body": {"test2": [{"numeric": [">", 100]}]}}`, `{"test2":105}`, `this is a test string`},
	{"filter5-item_matching5-item_not_matching5", `{"body": {"test2": [{"numeric": ["<", 100]}]}}`, `{"test2":93}`, `{"test2":105}`},
	{"filter6-item_matching6-item_not_matching6", `{"body": {"test2": [{"numeric": [">=", 100, "<", 200]}]}}`, `{"test2":105}`, `{"test2":205}`},
	{"numeric-prefix", `{"body": {"test2": [{"prefix": "us-1"}]}}`, `{"test2":"us-1-48454"}`, `{"test2":"eu-1-48454"}`},
	{"numeric-range", `{"body": {"my-number": [{"numeric": [">=", 100, "<", 200]}]}}`, `{"my-number":100}`, `{"my-number":200}`},
	{"or-filter", `{"body": {"testItem": ["test24", "test45"]}}`, `{"testItem":"test45"}`, `{"testItem":"WERTD"}`},
	{"or", `{"body": {"my-key": ["my-value-one", "my-value-two"]}}`, `{"my-key":"my-value-two"}`, `{"my-key":"other-value"}`},
	{"valid-json-filter", `{"body": {"my-key": ["my-value"]}}`, `{"my-key":"my-value"}`, `{"my-key":"other-value"}`},
}

// queueScenarios need a server that speaks SQS, and functions that run.
func queueScenarios() []scenario {
	all := []scenario{
		{id: sqsTests + "test_sqs_event_source_mapping_batch_size[100]", run: batchOf100},
		{id: "sqs::test_esm_with_not_existing_sqs_queue", run: func(s *session) {
			name := "lambda_func-" + uid()
			s.fixture(name, nil)
			s.note("error", s.call("CreateEventSourceMapping", params{"FunctionName": name, "EventSourceArn": "arn:aws:sqs:" + region + ":" + queueAccount + ":none"}))
		}},
		{id: "sqs::test_report_batch_item_failures_on_lambda_error", run: failedBatch},
		{id: "sqs::test_sqs_queue_as_lambda_dead_letter_queue", run: deadLetter},
		{id: "destinations::TestLambdaDestinationSqs::test_assess_lambda_destination_invocation[Success-payload0]", run: destinationOfSuccess},
		{id: concurrencyTests + "test_reserved_concurrency", run: reservedZero},
	}
	for _, f := range filterTests {
		all = append(all, scenario{id: sqsTests + "test_sqs_event_filter[" + f.name + "]", run: func(s *session) {
			url, name := s.read("create_event_source_mapping_response", with(filter(f.pattern), params{"MaximumBatchingWindowInSeconds": 1}))
			s.send(url, f.no, f.yes)
			s.note("invocation_events", s.events(name, 1))
		}})
	}
	for i := range all {
		all[i].runtime, all[i].queue = "python3.12", true
	}
	return all
}

// queues is a client of the server that speaks SQS.
func (s *session) queues() *sqs.Client {
	return sqs.New(sqs.Options{BaseEndpoint: &s.target.SQS, Region: region, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
	})})
}

func (s *session) makeQueue(attributes map[string]string) (url, arn string) {
	s.Helper()
	name := "queue-" + uid()
	out, err := s.queues().CreateQueue(s.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		s.Fatal(err)
	}
	return *out.QueueUrl, "arn:aws:sqs:" + region + ":" + queueAccount + ":" + name
}

// read makes a queue, a function that logs its events, and a mapping between, whose description it notes.
func (s *session) read(label string, more params) (url, name string) {
	s.Helper()
	url, arn := s.makeQueue(nil)
	name = "lambda_func-" + uid()
	s.fixture(name, params{"Code": params{"ZipFile": zipped("handler.py", logsEvent)}})
	s.note(label, s.ok("CreateEventSourceMapping", with(params{"FunctionName": name, "EventSourceArn": arn}, more)))
	return url, name
}

func (s *session) send(url string, bodies ...string) {
	s.Helper()
	for _, body := range bodies {
		if _, err := s.queues().SendMessage(s.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body}); err != nil {
			s.Fatal(err)
		}
	}
}

// events waits until a function has logged events with so many records, and returns the events.
func (s *session) events(name string, records int) (all []any) {
	s.Helper()
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		n := 0
		all = nil
		for _, e := range s.logEvents("/aws/lambda/" + name) {
			text, ok := strings.CutPrefix(at(e, "message"), "EVENT ")
			var event map[string]any
			if !ok || json.Unmarshal([]byte(text), &event) != nil {
				continue
			}
			list, _ := event["Records"].([]any)
			n += len(list)
			all = append(all, event)
		}
		if n >= records {
			break
		}
	}
	return all
}

// received waits for messages, and shows them as botocore does.
func (s *session) received(url string, n int, system bool) (messages []any) {
	s.Helper()
	in := &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, WaitTimeSeconds: 1, MessageAttributeNames: []string{"All"}}
	if system {
		in.MessageSystemAttributeNames = []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll}
	}
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline) && len(messages) < n; {
		out, err := s.queues().ReceiveMessage(s.Context(), in)
		if err != nil {
			s.Fatal(err)
		}
		for _, m := range out.Messages {
			shown := map[string]any{"Body": *m.Body, "MD5OfBody": *m.MD5OfBody, "MessageId": *m.MessageId, "ReceiptHandle": *m.ReceiptHandle}
			if system {
				shown["Attributes"] = texts(m.Attributes)
			}
			if len(m.MessageAttributes) > 0 {
				own := map[string]any{}
				for name, a := range m.MessageAttributes {
					own[name] = map[string]any{"DataType": *a.DataType, "StringValue": *a.StringValue}
				}
				shown["MessageAttributes"], shown["MD5OfMessageAttributes"] = own, *m.MD5OfMessageAttributes
			}
			messages = append(messages, shown)
		}
	}
	return s.normalise(messages).([]any)
}

func texts(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// metadata is what botocore adds to every answer.
func metadata(answer map[string]any) map[string]any {
	answer["ResponseMetadata"] = map[string]any{"HTTPHeaders": map[string]any{}, "HTTPStatusCode": 200.0}
	return answer
}

func batchOf100(s *session) {
	url, name := s.read("create-event-source-mapping-response", params{"BatchSize": 100, "MaximumBatchingWindowInSeconds": 3})
	for n, round := range map[int]string{10: "0", 5: "1"} {
		var entries []types.SendMessageBatchRequestEntry
		for i := range n {
			id := string(rune('0'+i)) + "-" + round
			entries = append(entries, types.SendMessageBatchRequestEntry{Id: &id, MessageBody: aws.String(id + "-message-" + id[:1])})
		}
		out, err := s.queues().SendMessageBatch(s.Context(), &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: entries})
		if err != nil {
			s.Fatal(err)
		}
		var sent []any
		for _, e := range out.Successful {
			sent = append(sent, map[string]any{"Id": *e.Id, "MD5OfMessageBody": *e.MD5OfMessageBody, "MessageId": *e.MessageId})
		}
		s.note("send-message-batch-result-"+map[int]string{10: "10", 5: "5"}[n], metadata(map[string]any{"Successful": sent}))
	}
	var records []any
	for _, e := range s.events(name, 15) {
		records = append(records, e.(map[string]any)["Records"].([]any)...)
	}
	slices.SortFunc(records, func(a, b any) int { return cmp.Compare(at(a, "body"), at(b, "body")) })
	s.note("Records", records)
}

func failedBatch(s *session) {
	dead, deadARN := s.makeQueue(nil)
	url, arn := s.makeQueue(map[string]string{"VisibilityTimeout": "1", "RedrivePolicy": `{"deadLetterTargetArn":"` + deadARN + `","maxReceiveCount":1}`})
	name := "lambda_func-" + uid()
	s.fixture(name, params{"Timeout": 1, "Code": params{"ZipFile": zipped("handler.py", parses)}})
	s.send(url, "{not a json body", `{"message": 2, "fail_attempts": 0}`)
	s.ok("CreateEventSourceMapping", params{"FunctionName": name, "EventSourceArn": arn, "FunctionResponseTypes": []string{"ReportBatchItemFailures"}})
	messages := s.received(dead, 2, false)
	slices.SortFunc(messages, func(a, b any) int { return cmp.Compare(at(b, "Body")[:3], at(a, "Body")[:3]) }) // "{no" before `{"m`
	s.note("dlq_messages", messages)
}

func deadLetter(s *session) {
	url, arn := s.makeQueue(nil)
	name := "lambda_func-" + uid()
	made := s.create(name, params{"Handler": "handler.handler", "Code": params{"ZipFile": zipped("handler.py", raises)}, "DeadLetterConfig": params{"TargetArn": arn}})
	s.note("lambda-response-dlq-config", made["DeadLetterConfig"])
	s.ok("PutFunctionEventInvokeConfig", params{"FunctionName": name, "MaximumRetryAttempts": 0}) // the recorder waited for minutes
	s.ok("Invoke", params{"FunctionName": name, "InvocationType": "Event", "Payload": []byte(`{"raise_error": 1}`)})
	s.note("messages", metadata(map[string]any{"Messages": s.received(url, 1, false)}))
}

func destinationOfSuccess(s *session) {
	url, arn := s.makeQueue(nil)
	name := "lambda_func-" + uid()
	s.fixture(name, params{"Code": params{"ZipFile": zipped("handler.py", tells)}})
	to := params{"Destination": arn}
	s.note("put_function_event_invoke_config", s.ok("PutFunctionEventInvokeConfig", params{"FunctionName": name, "DestinationConfig": params{"OnSuccess": to, "OnFailure": to}}))
	s.ok("Invoke", params{"FunctionName": name, "InvocationType": "Event", "Payload": []byte(`{}`)})
	s.note("receive_message_result", metadata(map[string]any{"Messages": s.received(url, 1, false)}))
}

func reservedZero(s *session) {
	name := "test_lambda_" + uid()
	s.fixture(name, params{"Timeout": 20, "Code": params{"ZipFile": zipped("handler.py", initType)}})
	fn := s.ok("GetFunctionConfiguration", params{"FunctionName": name, "Qualifier": "$LATEST"})
	s.note("fn", maps.Clone(fn))
	arn := params{"FunctionName": fn["FunctionArn"]}
	url, queue := s.makeQueue(nil)
	s.note("put_event_invoke_conf", s.ok("PutFunctionEventInvokeConfig", params{"FunctionName": name, "MaximumRetryAttempts": 0, "DestinationConfig": params{"OnFailure": params{"Destination": queue}}}))
	s.note("put_reserved", s.ok("PutFunctionConcurrency", params{"FunctionName": name, "ReservedConcurrentExecutions": 0}))
	s.note("exc_no_cap_requestresponse", s.call("Invoke", with(arn, params{"InvocationType": "RequestResponse"})))
	s.note("invoke_result", s.call("Invoke", with(arn, params{"InvocationType": "Event", "Payload": []byte("{}")})))
	if all := s.received(url, 1, true); len(all) == 1 {
		s.note("msg", all[0])
	}
}
