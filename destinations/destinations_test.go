package destinations

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"berth/store/jetstream"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

func TestParse(t *testing.T) {
	for arn, want := range map[string]Target{
		"arn:aws:sqs:us-east-1:000000000001:q":             {Kind: SQS, Region: "us-east-1", Account: "000000000001", Name: "q"},
		"arn:aws:sns:us-east-1:000000000001:t":             {Kind: SNS, Region: "us-east-1", Account: "000000000001", Name: "t"},
		"arn:aws:s3:::bucket":                              {Kind: S3, Name: "bucket"},
		"arn:aws:lambda:us-east-1:000000000001:function:f": {Kind: Lambda, Region: "us-east-1", Account: "000000000001", Name: "f"},
		"arn:berth:nats:::orders.failed":                   {Kind: NATS, Name: "orders.failed"},
	} {
		want.ARN = arn
		if got, err := Parse(arn); err != nil || got != want {
			t.Errorf("Parse(%s) = %+v, %v", arn, got, err)
		}
	}
	for _, arn := range []string{"", "q", "arn:aws:sqs", "arn:aws:sqs:us-east-1:000000000001:", "arn:aws:iam::1:role/x", "arn:berth:nats:::",
		"arn:berth:nats:::a..b", "arn:berth:nats:::a.*", "arn:berth:nats:::>", "arn:berth:nats:::$SYS.x", "arn:berth:nats:::berth.events.0.a.b",
		"arn:berth:nats:::_INBOX.x", "arn:berth:nats:::a b", "arn:aws:lambda:us-east-1:1:layer:x", "arn:aws:sqs:us-east-1:1:" + strings.Repeat("q", 400)} {
		if got, err := Parse(arn); err == nil {
			t.Errorf("Parse(%q) = %+v", arn, got)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, endpoints := range []map[string]string{{"sqs": "localhost:4566"}, {"sqs": "ftp://x"}, {"dynamodb": "http://localhost"}} {
		if _, err := New(Config{Endpoints: endpoints}); err == nil {
			t.Errorf("New accepts %v", endpoints)
		}
	}
	set, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	for _, arn := range []string{"arn:aws:sqs:us-east-1:000000000001:q", "arn:aws:sns:us-east-1:000000000001:t", "arn:aws:s3:::b"} {
		target, err := Parse(arn)
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Send(t.Context(), target, Message{Body: []byte("{}")}); err == nil || !strings.Contains(err.Error(), "--aws-endpoint "+string(target.Kind)+"=") {
			t.Errorf("%s without an endpoint: %v", arn, err)
		}
	}
}

// TestSubjects: a subject that nobody keeps or hears is unreachable; listeners get the message, streams keep it once.
func TestSubjects(t *testing.T) {
	e, err := jetstream.Open(context.Background(), jetstream.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	set, err := New(Config{Conn: e.Conn()})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	target := Target{ARN: natsPrefix + "orders.failed", Kind: NATS, Name: "orders.failed"}
	m := Message{Body: []byte(`{"a":1}`), RequestID: "id", Trace: "Root=1", Dead: &Dead{Code: 200, Message: "two\r\nlines"}}
	if err := set.Send(t.Context(), target, m); !errors.Is(err, errNobody) {
		t.Errorf("with nobody there: %v", err)
	}
	got := make(chan *nats.Msg, 1)
	sub, err := e.Conn().ChanSubscribe("orders.>", got)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Send(t.Context(), target, m); err != nil {
		t.Fatal(err)
	}
	select {
	case one := <-got:
		if string(one.Data) != `{"a":1}` || one.Header.Get("Berth-RequestID") != "id" || one.Header.Get("Berth-ErrorMessage") != `two\r\nlines` || one.Header.Get("X-Amzn-Trace-Id") != "Root=1" {
			t.Errorf("got %s %v", one.Data, one.Header)
		}
	case <-time.After(time.Minute):
		t.Fatal("the listener got nothing")
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	streams, err := js.New(e.Conn())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := streams.CreateStream(t.Context(), js.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // told twice, it is kept once
		if err := set.Send(t.Context(), target, m); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := kept.Info(t.Context()); err != nil || info.State.Msgs != 1 {
		t.Errorf("the stream holds %+v, %v", info, err)
	}
}
