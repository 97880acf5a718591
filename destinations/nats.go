package destinations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsTargets publishes on subjects of the engine. A subject that a stream keeps gets the message durably; on another one a
// message counts as delivered when somebody listened.
type natsTargets struct {
	conn *nats.Conn
}

func newNATS(conn *nats.Conn) *natsTargets { return &natsTargets{conn} }

var errNobody = errors.New("no stream keeps this subject, and nobody listens to it")

func (n *natsTargets) send(ctx context.Context, t Target, m Message) error {
	if n.conn == nil {
		return errors.New("this server has no engine to publish on")
	}
	js, err := jetstream.New(n.conn)
	if err != nil {
		return err
	}
	_, err = js.StreamNameBySubject(ctx, t.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return n.publish(ctx, t, m)
	}
	if err != nil {
		return fmt.Errorf("looking for a stream that keeps %s: %w", t.Name, err)
	}
	_, err = js.PublishMsg(ctx, message(t, m), jetstream.WithMsgID(m.RequestID))
	return err
}

// publish sends to those who listen. With a reply subject the server says when there is nobody, before it answers the flush.
func (n *natsTargets) publish(ctx context.Context, t Target, m Message) error {
	answers, err := n.conn.SubscribeSync(n.conn.NewInbox())
	if err != nil {
		return err
	}
	defer func() { _ = answers.Unsubscribe() }() // it fails when the connection is closed, which does the same
	msg := message(t, m)
	msg.Reply = answers.Subject
	if err := n.conn.PublishMsg(msg); err != nil {
		return err
	}
	if err := n.conn.FlushWithContext(ctx); err != nil {
		return err
	}
	if pending, _, err := answers.Pending(); err == nil && pending == 0 {
		return nil
	}
	if _, err := answers.NextMsgWithContext(ctx); errors.Is(err, nats.ErrNoResponders) {
		return errNobody
	}
	return nil // somebody has answered
}

// message is the NATS form: the trace and a dead letter's attributes are headers.
func message(t Target, m Message) *nats.Msg {
	out := nats.NewMsg(t.Name)
	out.Data = m.Body
	out.Header.Set("Berth-Request-Id", m.RequestID)
	if m.Trace != "" {
		out.Header.Set("X-Amzn-Trace-Id", m.Trace)
	}
	for name, v := range m.Dead.attributes(m) {
		out.Header.Set("Berth-"+name, oneLine(v[1]))
	}
	return out
}

// oneLine makes a header's value of any text.
func oneLine(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		return ""
	}
	return string(quoted[1 : len(quoted)-1])
}
