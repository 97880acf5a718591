package node

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"berth/frontend"
	"berth/lambda"
	"berth/members"
)

// loadSubject is where frontends ask one another for a pool's load (design B), on core messages of the engine.
const loadSubject = "berth.load"

// maxLoadMessage bounds a question or an answer, in bytes.
const maxLoadMessage = 4 << 10

type loadQuestion struct {
	Asker string        `json:"asker"`
	Pool  lambda.PoolID `json:"pool"`
}

type loadAnswer struct {
	ID       string `json:"id"`
	InFlight int    `json:"in_flight"`
	Size     int    `json:"size"`
}

// peers are the other frontends, as one frontend asks them.
type peers struct {
	id   string
	conn *nats.Conn
	view func() *members.View
}

// PoolLoad asks all living frontends at once and waits for their answers until ctx ends.
func (p *peers) PoolLoad(ctx context.Context, id lambda.PoolID) frontend.PeerLoad {
	waiting := map[string]bool{}
	for _, f := range p.view().Frontends {
		if f.ID != p.id {
			waiting[f.ID] = true
		}
	}
	var sum frontend.PeerLoad
	if len(waiting) == 0 {
		return frontend.PeerLoad{Complete: true}
	}
	question, err := json.Marshal(loadQuestion{p.id, id})
	if err != nil {
		return sum
	}
	answers, err := p.conn.SubscribeSync(p.conn.NewInbox())
	if err != nil {
		return sum
	}
	defer func() { _ = answers.Unsubscribe() }() // it fails when the connection is closed, which does the same
	if err := p.conn.PublishRequest(loadSubject, answers.Subject, question); err != nil {
		return sum
	}
	for len(waiting) > 0 {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return sum
		}
		var a loadAnswer
		if len(m.Data) > maxLoadMessage || json.Unmarshal(m.Data, &a) != nil || !waiting[a.ID] || a.InFlight < 0 {
			continue
		}
		delete(waiting, a.ID)
		sum.InFlight += a.InFlight
		sum.MaxSize = max(sum.MaxSize, a.Size)
	}
	sum.Complete = true
	return sum
}

// serveLoad answers the other frontends. The subscription ends with the connection.
func (p *peers) serveLoad(load func(lambda.PoolID) (inFlight, size int)) error {
	_, err := p.conn.Subscribe(loadSubject, func(m *nats.Msg) {
		var q loadQuestion
		if len(m.Data) > maxLoadMessage || json.Unmarshal(m.Data, &q) != nil || q.Asker == p.id {
			return
		}
		a := loadAnswer{ID: p.id}
		a.InFlight, a.Size = load(q.Pool)
		if data, err := json.Marshal(a); err == nil {
			_ = m.Respond(data) // who gets no answer decides without it
		}
	})
	if err != nil {
		return fmt.Errorf("listening to the other frontends: %w", err)
	}
	return nil
}
