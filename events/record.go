package events

import (
	"bytes"
	"encoding/json"
	"time"

	"berth/catalog"
	"berth/destinations"
	"berth/lambda"
)

// Condition is why an invocation's record goes to a destination.
type Condition string

// The conditions, as recorded.
const (
	Success                 Condition = "Success"
	RetriesExhausted        Condition = "RetriesExhausted"
	EventAgeExceeded        Condition = "EventAgeExceeded"
	ZeroReservedConcurrency Condition = "ZeroReservedConcurrency"
)

// end is how an asynchronous invocation ended.
type end struct {
	condition Condition
	attempts  int             // of the function, the last included
	outcome   *lambda.Outcome // of the last attempt; nil when there was none
	at        time.Time
	trace     string // of the last attempt
}

// record is the body that a destination gets, its members in the recorded order.
type record struct {
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	RequestContext  requestContext   `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload"`
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
}

type requestContext struct {
	RequestID string    `json:"requestId"`
	Function  string    `json:"functionArn"`
	Condition Condition `json:"condition"`
	Attempts  int       `json:"approximateInvokeCount"`
}

type responseContext struct {
	Status  int    `json:"statusCode"`
	Version string `json:"executedVersion"`
	Error   string `json:"functionError,omitempty"`
}

// recordOf makes the record of an event's end. A record that is larger than limit goes without the response.
func recordOf(e *Event, how end, limit int) ([]byte, error) {
	r := record{
		Version: "1.0", Timestamp: how.at.UTC().Format("2006-01-02T15:04:05.000Z"),
		RequestContext: requestContext{RequestID: e.ID, Function: qualifiedARN(e), Condition: how.condition, Attempts: how.attempts},
		RequestPayload: rawJSON(e.Payload),
	}
	if o := how.outcome; o != nil {
		r.ResponseContext = &responseContext{Status: 200, Version: o.Version, Error: o.FunctionError}
		r.ResponsePayload = rawJSON(o.Payload)
	}
	body, err := marshal(r)
	if err == nil && len(body) > limit && r.ResponsePayload != nil {
		r.ResponsePayload = json.RawMessage("null")
		body, err = marshal(r)
	}
	return body, err
}

// marshal is json.Marshal without escaping <, > and &: payloads go on as they came.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// rawJSON makes JSON of what a function answered, which need not be any.
func rawJSON(payload []byte) json.RawMessage {
	switch {
	case len(payload) == 0:
		return json.RawMessage("null")
	case json.Valid(payload):
		return payload
	}
	text, _ := json.Marshal(string(payload)) // a string always has a form
	return text
}

func qualifiedARN(e *Event) string {
	ref := e.ref()
	if ref.Qualifier == "" {
		ref.Qualifier = lambda.Latest
	}
	return ref.ARN()
}

// deadOf makes a dead letter's attributes. An error of the server's own has no outcome.
func deadOf(how end) *destinations.Dead {
	d := &destinations.Dead{Code: 200}
	if how.outcome == nil {
		d.Code, d.Message = 429, string(how.condition)
		return d
	}
	var failure struct {
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal(how.outcome.Payload, &failure) == nil {
		d.Message = failure.Message
	}
	if len(d.Message) > destinations.MaxDeadMessage {
		d.Message = string(bytes.ToValidUTF8([]byte(d.Message[:destinations.MaxDeadMessage]), nil))
	}
	return d
}

// targetsOf lists where an end is to be told: destination and dead-letter queue are both used (developer guide).
func targetsOf(cat *catalog.Catalog, e *Event, how end) (list []wanted) {
	config, ok := cat.EventConfig(e.function(), e.Qualifier)
	if !ok {
		config = &catalog.EventConfig{}
	}
	arn := config.OnFailure
	if how.condition == Success {
		arn = config.OnSuccess
	}
	if arn != "" {
		list = append(list, wanted{arn: arn})
	}
	if how.condition == Success {
		return list
	}
	number := e.Qualifier
	if v := how.outcome; v != nil {
		number = v.Version
	} else if target, err := cat.Resolve(e.ref()); err == nil {
		number = target.Version.Number
	} else if number == "" {
		number = lambda.Latest
	}
	if arn := cat.DeadLetter(e.function(), number); arn != "" {
		list = append(list, wanted{arn: arn, dead: deadOf(how)})
	}
	return list
}

// wanted is one target to be told.
type wanted struct {
	arn  string
	dead *destinations.Dead // set for a dead-letter queue
}
