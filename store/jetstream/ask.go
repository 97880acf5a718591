package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/store"
)

// errRetry marks failures after which the same request may succeed: no leader, a queue that is full, no answer in time.
var errRetry = errors.New("the engine did not answer")

// Error codes of the server (nats-server, server/errors.json) that say what to do next.
var (
	conflictCodes = []int{
		10071, // wrong last sequence
		10164, // the same, found while an earlier write of that subject is still being replicated
	}
	retryCodes = []int{
		10008, // JetStream is not available: no leader
		10009, // this server is not the leader
		10167, // too many requests in the server's queue
		10176, // the batch is incomplete: a part was lost with a leader, or was refused
		10210, // too many batches at one time
	}
	noMessageCode = 10037
)

type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) err() error {
	switch {
	case slices.Contains(conflictCodes, e.ErrCode):
		return store.ErrConflict
	case e.ErrCode == noMessageCode:
		return store.ErrNotFound
	case slices.Contains(retryCodes, e.ErrCode):
		return fmt.Errorf("%w: %s (%d)", errRetry, e.Description, e.ErrCode)
	default:
		return fmt.Errorf("the engine refuses: %s (%d)", e.Description, e.ErrCode)
	}
}

// parseAck returns the sequence that a publish was given.
func parseAck(data []byte) (uint64, error) {
	var ack struct {
		Error    *apiError `json:"error"`
		Sequence uint64    `json:"seq"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return 0, fmt.Errorf("the engine's acknowledgement %q: %w", data, err)
	}
	if ack.Error != nil {
		return 0, ack.Error.err()
	}
	if ack.Sequence == 0 {
		return 0, fmt.Errorf("the engine's acknowledgement %q has no sequence", data)
	}
	return ack.Sequence, nil
}

// publish writes one message until it is acknowledged, and returns its sequence. A message whose answer was lost is written
// again.
func (e *Engine) publish(ctx context.Context, m *nats.Msg) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		sequence, err := e.request(ctx, m)
		if !errors.Is(err, errRetry) {
			return sequence, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, fmt.Errorf("the write was not acknowledged in time (%w): %w", ctx.Err(), err)
		}
	}
}

// request publishes a message once and waits for its acknowledgement.
func (e *Engine) request(ctx context.Context, m *nats.Msg) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	answer, err := e.conn.RequestMsgWithContext(ctx, m)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errRetry, err)
	}
	return parseAck(answer.Data)
}

// message is a stored one.
type message struct {
	Subject  string
	Sequence uint64
	Header   nats.Header
	Data     []byte
	Time     time.Time
}

// lastMessage asks the stream's leader, which knows every acknowledged write, for the last message of a subject (which may
// have wildcards). It waits for a new leader. Error: store.ErrNotFound.
func (e *Engine) lastMessage(ctx context.Context, s jetstream.Stream, subject string) (*message, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	request, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		return nil, err
	}
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		m, err := e.readMessage(ctx, "$JS.API.STREAM.MSG.GET."+s.CachedInfo().Config.Name, request)
		if !errors.Is(err, errRetry) {
			return m, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func (e *Engine) readMessage(ctx context.Context, api string, request []byte) (*message, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	answer, err := e.conn.RequestWithContext(ctx, api, request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRetry, err)
	}
	var response struct {
		Error   *apiError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &response); err != nil {
		return nil, fmt.Errorf("the engine's answer: %w", err)
	}
	if response.Error != nil {
		return nil, response.Error.err()
	}
	found := response.Message
	if found == nil {
		return nil, errors.New("the engine's answer holds no message")
	}
	m := &message{Subject: found.Subject, Sequence: found.Sequence, Data: found.Data, Time: found.Time}
	if len(found.Header) > 0 {
		if m.Header, err = nats.DecodeHeadersMsg(found.Header); err != nil {
			return nil, fmt.Errorf("the engine's answer: %w", err)
		}
	}
	return m, nil
}
