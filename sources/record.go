package sources

import (
	"encoding/json"
	"maps"
	"strings"

	"berth/lambda"
	"berth/queues"
)

// record is one message as functions see it, recorded in test_message_body_and_attributes_passed_correctly.
type record struct {
	MessageID         string               `json:"messageId"`
	ReceiptHandle     string               `json:"receiptHandle"`
	Body              string               `json:"body"`
	Attributes        map[string]string    `json:"attributes"`
	MessageAttributes map[string]attribute `json:"messageAttributes"`
	MD5OfBody         string               `json:"md5OfBody"`
	MD5OfAttributes   *string              `json:"md5OfMessageAttributes"`
	EventSource       string               `json:"eventSource"`
	EventSourceARN    string               `json:"eventSourceARN"`
	AWSRegion         string               `json:"awsRegion"`
}

type attribute struct {
	StringValue      *string  `json:"stringValue,omitempty"`
	BinaryValue      []byte   `json:"binaryValue,omitempty"`
	StringListValues []string `json:"stringListValues"`
	BinaryListValues [][]byte `json:"binaryListValues"`
	DataType         string   `json:"dataType"`
}

func (r *reader) record(m *queues.Message) *record {
	out := &record{MessageID: m.ID, ReceiptHandle: m.Receipt, Body: m.Body, Attributes: m.System, MessageAttributes: map[string]attribute{},
		MD5OfBody: m.MD5, EventSource: "aws:sqs", EventSourceARN: r.arn, AWSRegion: strings.SplitN(r.arn, ":", 5)[3]}
	if m.AttributeMD5 != "" {
		out.MD5OfAttributes = &m.AttributeMD5
	}
	for name, a := range m.Attributes {
		shown := attribute{DataType: a.Type, StringListValues: []string{}, BinaryListValues: [][]byte{}, BinaryValue: a.Binary}
		if a.Binary == nil {
			shown.StringValue = &a.Text
		}
		out.MessageAttributes[name] = shown
	}
	return out
}

// part is what one invocation gets of a batch.
type part struct {
	messages []queues.Message
	payload  []byte
}

// payloads makes the events of a batch: one, or as many as an invocation's limit of bytes asks for.
func (r *reader) payloads(batch []queues.Message) []part {
	const head, tail = `{"Records":[`, `]}`
	var parts []part
	for i := range batch {
		text, err := json.Marshal(r.record(&batch[i]))
		if err != nil { // our own types: cannot be
			r.log.Error("a message cannot be encoded", "err", err)
			continue
		}
		if n := len(parts); n == 0 || len(parts[n-1].payload)+len(text)+len(tail)+1 > lambda.MaxPayload {
			parts = append(parts, part{payload: []byte(head)})
		}
		p := &parts[len(parts)-1]
		if len(p.messages) > 0 {
			p.payload = append(p.payload, ',')
		}
		p.payload = append(p.payload, text...)
		p.messages = append(p.messages, batch[i])
	}
	for i := range parts {
		parts[i].payload = append(parts[i].payload, tail...)
	}
	return parts
}

// filterable is a message as filters see it: the record, with its body as an object if it is one (developer guide, "Using
// event filtering with an Amazon SQS event source").
func filterable(m *queues.Message) map[string]any {
	attributes := map[string]any{}
	for name, v := range m.System {
		attributes[name] = v
	}
	own := map[string]any{}
	for name, a := range m.Attributes {
		own[name] = map[string]any{"stringValue": a.Text, "dataType": a.Type}
	}
	out := map[string]any{"messageId": m.ID, "body": m.Body, "attributes": attributes, "messageAttributes": own, "md5OfBody": m.MD5, "eventSource": "aws:sqs"}
	var body map[string]any
	if json.Unmarshal([]byte(m.Body), &body) == nil && body != nil {
		out["body"] = body
	}
	return out
}

// succeeded returns the messages that a function does not report as failed. A report that is no report, or that names what was
// not in the batch, fails all of them (developer guide, "Implementing partial batch responses"; the same is recorded of streams).
func succeeded(batch []queues.Message, answer []byte) []queues.Message {
	var report *struct {
		Failures []map[string]json.RawMessage `json:"batchItemFailures"`
	}
	if len(answer) == 0 || json.Unmarshal(answer, &report) != nil {
		return otherAnswer(batch, answer)
	}
	if report == nil {
		return batch
	}
	open := map[string]queues.Message{}
	for _, m := range batch {
		open[m.ID] = m
	}
	known := maps.Clone(open)
	for _, f := range report.Failures {
		var id string
		if json.Unmarshal(f["itemIdentifier"], &id) != nil || id == "" {
			return nil
		}
		if _, ok := known[id]; !ok {
			return nil
		}
		delete(open, id)
	}
	var out []queues.Message
	for _, m := range batch {
		if _, ok := open[m.ID]; ok {
			out = append(out, m)
		}
	}
	return out
}

// otherAnswer: what is no object at all reports nothing, as an empty list does; an object of another form is a broken report.
func otherAnswer(batch []queues.Message, answer []byte) []queues.Message {
	var object map[string]json.RawMessage
	if len(answer) > 0 && json.Unmarshal(answer, &object) == nil {
		return nil
	}
	return batch
}
