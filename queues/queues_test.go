package queues

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const arn = "arn:aws:sqs:us-east-1:000000000001:jobs"

// server is a double: as much of SQS as the client asks for.
type server struct {
	mu     sync.Mutex
	asked  []string // operations
	inputs []map[string]any
	gone   bool
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
	var in map[string]any
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &in)
	s.asked, s.inputs = append(s.asked, operation), append(s.inputs, in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if s.gone {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}`)
		return
	}
	switch operation {
	case "GetQueueUrl":
		fmt.Fprint(w, `{"QueueUrl":"http://sqs/000000000001/jobs"}`)
	case "GetQueueAttributes":
		fmt.Fprint(w, `{"Attributes":{"VisibilityTimeout":"45"}}`)
	case "ReceiveMessage": // the digests are those of the body and the attribute: the SDK checks them
		fmt.Fprint(w, `{"Messages":[{"MessageId":"1","ReceiptHandle":"r1","Body":"hello","MD5OfBody":"5d41402abc4b2a76b9719d911017c592","Attributes":{"SentTimestamp":"1700000000000"}}]}`)
	case "DeleteMessageBatch":
		failed := ""
		if entries := in["Entries"].([]any); entries[0].(map[string]any)["ReceiptHandle"] == "bad" {
			failed = `{"Id":"0","Code":"ReceiptHandleIsInvalid","Message":"no such receipt","SenderFault":true}`
		}
		fmt.Fprintf(w, `{"Successful":[],"Failed":[%s]}`, failed)
	}
}

func (s *server) calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func newClient(t *testing.T) (*Client, *server) {
	s := &server{}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	c, err := New(Config{Endpoint: h.URL, Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, s
}

func TestReceiveAndDelete(t *testing.T) {
	c, s := newClient(t)
	if d, err := c.Visibility(t.Context(), arn); d != 45*time.Second || err != nil {
		t.Errorf("visibility %s, %v", d, err)
	}
	got, err := c.Receive(t.Context(), arn, 100, time.Hour)
	if err != nil || len(got) != 1 || got[0].Body != "hello" || got[0].Receipt != "r1" || got[0].System["SentTimestamp"] == "" {
		t.Fatalf("%v, %v", got, err)
	}
	s.mu.Lock()
	in := s.inputs[len(s.inputs)-1]
	s.mu.Unlock()
	if in["MaxNumberOfMessages"] != 10.0 || in["WaitTimeSeconds"] != 20.0 {
		t.Errorf("beyond the limits of SQS: %v", in)
	}
	receipts := make([]string, 23)
	for i := range receipts {
		receipts[i] = fmt.Sprint("r", i)
	}
	if err := c.Delete(t.Context(), arn, receipts); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(s.calls()); got != "[GetQueueUrl GetQueueAttributes ReceiveMessage DeleteMessageBatch DeleteMessageBatch DeleteMessageBatch]" {
		t.Errorf("asked %s", got)
	}
	if err := c.Delete(t.Context(), arn, []string{"bad"}); err == nil || !strings.Contains(err.Error(), "no such receipt") {
		t.Errorf("a receipt that is none: %v", err)
	}
}

// TestQueueThatIsGone: it is said so, and asked anew where a queue is.
func TestQueueThatIsGone(t *testing.T) {
	c, s := newClient(t)
	if _, err := c.Visibility(t.Context(), arn); err != nil {
		t.Fatal(err)
	}
	set := func(gone bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gone = gone
	}
	set(true)
	if _, err := c.Receive(t.Context(), arn, 1, 0); !errors.Is(err, ErrNoQueue) {
		t.Errorf("got %v", err)
	}
	set(false)
	before := len(s.calls())
	if _, err := c.Receive(t.Context(), arn, 1, 0); err != nil || s.calls()[before] != "GetQueueUrl" {
		t.Errorf("%v, asked %v", err, s.calls()[before:])
	}
}

func TestRefused(t *testing.T) {
	for _, endpoint := range []string{"", "localhost:1", "ftp://x", "http://"} {
		if _, err := New(Config{Endpoint: endpoint}); err == nil {
			t.Errorf("the endpoint %q is taken", endpoint)
		}
	}
	c, _ := newClient(t)
	if _, err := c.Receive(t.Context(), "arn:aws:sns:us-east-1:000000000001:t", 1, 0); err == nil {
		t.Error("a topic is read")
	}
}
