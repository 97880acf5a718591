package jetstream

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"berth/store"
)

// roomSubject is where a process with an engine directory answers how many bytes may still be written there. The server
// does not survive a full disk, so those who write from other processes must ask.
const roomSubject = "berth.engine.room"

const roomTimeout = 2 * time.Second

// room refuses a write of so many bytes that would reach into the reserve.
func (e *Engine) room(size int) error {
	if e.dir != nil {
		return e.dir.room(size)
	}
	return e.askRoom(size)
}

// serveRoom answers other processes' questions with "" or with what the refusal says.
func (e *Engine) serveRoom() error {
	_, err := e.conn.Subscribe(roomSubject, func(m *nats.Msg) {
		size, err := strconv.Atoi(string(m.Data))
		if err != nil || size < 0 {
			return
		}
		answer := ""
		if err := e.dir.room(size); err != nil {
			answer = err.Error()
		}
		_ = m.Respond([]byte(answer)) // who gets none asks again, or goes on
	})
	return err
}

func (e *Engine) askRoom(size int) error {
	ctx, cancel := context.WithTimeout(context.Background(), roomTimeout)
	defer cancel()
	answer, err := e.conn.RequestWithContext(ctx, roomSubject, []byte(strconv.Itoa(size)))
	if err != nil || len(answer.Data) == 0 {
		return nil // with an error the write itself will say what is wrong; a server of somebody else's has nobody who answers
	}
	return fmt.Errorf("%w: the engine says: %s", store.ErrFull, answer.Data)
}
