// Package events is the role that runs asynchronous invocations: it takes them from a durable queue, runs them through the
// same data path as everyone's, again when they fail, and tells their destinations. Any number of processes share the work.
// Its schedules make events of their own.
package events

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/google/uuid"

	"berth/catalog"
	"berth/destinations"
	"berth/lambda"
	"berth/store"
)

// Event is one asynchronous invocation, or what is left to do for it: telling a target.
type Event struct {
	ID            string           `json:"id"` // request id, the same at each attempt
	Account       lambda.AccountID `json:"account"`
	Region        string           `json:"region"`
	Function      string           `json:"function"`
	Qualifier     string           `json:"qualifier,omitempty"` // as the caller wrote it
	Accepted      time.Time        `json:"accepted"`
	Failures      int              `json:"failures,omitempty"` // attempts at which the function failed
	NotBefore     time.Time        `json:"notBefore,omitzero"` // of the next attempt
	Trace         string           `json:"trace,omitempty"`
	ClientContext string           `json:"context,omitempty"`
	Tenant        string           `json:"tenant,omitempty"`
	Telling       *telling         `json:"telling,omitempty"`

	Payload []byte `json:"-"` // of the invocation, or what to tell
}

// telling is a message for a target that could not be told at once.
type telling struct {
	Target string             `json:"target"` // ARN
	Dead   *destinations.Dead `json:"dead,omitempty"`
	At     time.Time          `json:"at"` // when the invocation ended
	Until  time.Time          `json:"until"`
}

func (e *Event) ref() lambda.Ref {
	return lambda.Ref{Account: e.Account, Region: e.Region, Function: e.Function, Qualifier: e.Qualifier}
}

func (e *Event) function() catalog.ID { return catalog.ID{Account: e.Account, Name: e.Function} }

// lane is where the event waits: its function's lane or, of a tenant, one of the function's tenants' lanes, so that one tenant's
// backlog delays few of the others. A lane for each tenant would cost the queue a consumer for each.
func (e *Event) lane() store.Lane {
	if e.Tenant == "" {
		return laneOf(e.function())
	}
	h := fnv.New32a()
	h.Write([]byte(e.Tenant))
	return tenantLane(e.function(), h.Sum32()%tenantLanes)
}

func laneOf(id catalog.ID) store.Lane { return store.Lane(string(id.Account) + "/" + id.Name) }

// tenantLanes is how many lanes the tenants of one function share. laneMark is in no function's name.
const (
	tenantLanes = 16
	laneMark    = "="
)

func tenantLane(id catalog.ID, n uint32) store.Lane {
	return store.Lane(fmt.Sprintf("%s%s%x", laneOf(id), laneMark, n))
}

// Lanes are all lanes of a function: its own, then its tenants'.
func Lanes(id catalog.ID) []store.Lane {
	all := []store.Lane{laneOf(id)}
	for n := range uint32(tenantLanes) {
		all = append(all, tenantLane(id, n))
	}
	return all
}

// functionOf is the function's own lane.
func functionOf(l store.Lane) store.Lane {
	own, _, _ := strings.Cut(string(l), laneMark)
	return store.Lane(own)
}

// messageID tells the attempts and tellings of one event apart: each is a message of its own.
func (e *Event) messageID() string {
	switch {
	case e.Telling != nil:
		return e.ID + "#" + uuid.NewSHA1(uuid.NameSpaceOID, []byte(e.Telling.Target)).String()[:8]
	case e.Failures > 0:
		return fmt.Sprintf("%s#%d", e.ID, e.Failures)
	}
	return e.ID
}

// maxHead bounds the part of a message before its payload, in bytes.
const maxHead = 32 << 10

// encode: the length of the head, the head as JSON, the payload as it is.
func (e *Event) encode() ([]byte, error) {
	head, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if len(head) > maxHead {
		return nil, fmt.Errorf("the event's head has %d bytes, at most %d are allowed", len(head), maxHead)
	}
	data := make([]byte, 4, 4+len(head)+len(e.Payload))
	binary.BigEndian.PutUint32(data, uint32(len(head)))
	return append(append(data, head...), e.Payload...), nil
}

func decode(data []byte) (*Event, error) {
	if len(data) < 4 {
		return nil, errors.New("the message is too short for an event")
	}
	size := int(binary.BigEndian.Uint32(data))
	if size > maxHead || size > len(data)-4 {
		return nil, fmt.Errorf("the event's head cannot have %d bytes", size)
	}
	e := new(Event)
	if err := json.Unmarshal(data[4:4+size], e); err != nil {
		return nil, fmt.Errorf("the event's head: %w", err)
	}
	e.Payload = data[4+size:]
	return e, nil
}

func (e *Event) message() (store.Message, error) {
	data, err := e.encode()
	if err != nil {
		return store.Message{}, err
	}
	return store.Message{ID: e.messageID(), Lane: e.lane(), Data: data}, nil
}
