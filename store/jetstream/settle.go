package jetstream

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"berth/store"
)

const (
	// closeLimit is for what waits to be written when the engine is closed, and again for the answers to be read.
	closeLimit = 2 * time.Second

	// answerAge is after how long a lane's last answer has been read, or was lost with its connection.
	answerAge   = 30 * time.Second
	keepAnswers = 4096 // before those that are older are forgotten
)

const (
	doneAnswer = "+ACK"
	noAnswer   = "?" // changes nothing; the server confirms that it has read it
)

// lastAnswer is where a lane's server was told last what became of a pack, and what may be said there again.
type lastAnswer struct {
	reply, again string
	at           time.Time
}

// note remembers a lane's last answer.
func (q *queue) note(l store.Lane, a lastAnswer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.answers[l]; !ok && len(q.answers) >= keepAnswers {
		q.forgetAnswers(a.at)
	}
	q.answers[l] = a
}

// forgetAnswers leaves those that the server may not have read yet, but not without limit. The caller holds mu.
func (q *queue) forgetAnswers(now time.Time) {
	maps.DeleteFunc(q.answers, func(_ store.Lane, a lastAnswer) bool { return now.Sub(a.at) > answerAge })
	if len(q.answers) >= keepLanes {
		clear(q.answers)
	}
}

// close ends the writers when nothing waits any more, or soon, and lets the server read what it was told: what receivers have put
// back should neither be lost until its lease ends nor come twice. Both have their limit; beyond it events come again.
func (q *queue) close(stop func()) {
	for _, p := range q.partitions {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
	}
	timer := time.AfterFunc(q.closeLimit, stop)
	defer timer.Stop()
	q.writers.Wait()
	stop()
	ctx, cancel := context.WithTimeout(context.Background(), q.closeLimit)
	defer cancel()
	if left := q.awaitAnswers(ctx); left > 0 {
		q.engine.log.Warn("the engine has not confirmed what became of events: some may come again", "functions", left)
	}
}

// awaitAnswers waits until the server has read all answers, and returns of how many lanes it does not know that. A server that
// ends drops what it has received and not read. It reads the answers of a lane in order, and confirms one that asks for it, in
// a cluster when it is replicated: so something is said again that changes nothing.
func (q *queue) awaitAnswers(ctx context.Context) (left int) {
	q.mu.Lock()
	q.forgetAnswers(time.Now())
	answers := slices.Collect(maps.Values(q.answers))
	q.mu.Unlock()
	conn := q.engine.conn
	if len(answers) == 0 || !conn.IsConnected() {
		return len(answers)
	}
	confirmed, err := conn.SubscribeSync(conn.NewInbox())
	if err != nil {
		return len(answers)
	}
	defer func() { _ = confirmed.Unsubscribe() }() // the connection is closed next
	for left = len(answers); len(answers) > 0; answers = answers[1:] {
		if err := conn.PublishRequest(answers[0].reply, confirmed.Subject, []byte(answers[0].again)); err != nil {
			return left
		}
	}
	for ; left > 0; left-- { // that nobody listens is an answer too: the lane's consumer is gone
		if _, err := confirmed.NextMsgWithContext(ctx); err != nil && !errors.Is(err, nats.ErrNoResponders) {
			return left
		}
	}
	return 0
}
