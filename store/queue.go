package store

import (
	"context"
	"fmt"
	"time"
)

// Limits of Queue.
const (
	MaxMessage = 960 << 10 // bytes of a message's data; the engine takes 1 MiB with headers
	MaxPull    = 1000      // messages in one Pull

	// DuplicateWindow is how long a queue knows a message by its ID: longer than a push is tried again.
	DuplicateWindow = 30 * time.Second

	// PullLease is how long a delivery is its receiver's alone without a Working.
	PullLease = 15 * time.Second
)

// Lane is a Key of two segments ("000000000001/hello") that messages wait under. Lanes do not wait for one another.
type Lane = Key

// Message is what waits in a queue. Messages of a lane come out roughly in the order in which they were pushed.
type Message struct {
	ID   string // pushed again within DuplicateWindow it is stored once; 1–128 bytes of printable ASCII without spaces
	Lane Lane
	Data []byte

	// Fresh promises that nobody has pushed this ID before nor will again: the queue may store it together with others of its
	// lane, which is cheaper, and then need not know it. They are delivered together.
	Fresh bool
}

// Queue keeps messages until somebody has done them: at least once, by any number of receivers who share the work.
type Queue interface {
	// Push stores a message. When it returns nil the message survives kill -9 of every process. Pushes that wait at the same
	// time share a sync. Errors: ErrInvalid, ErrFull: nothing was stored. After any other error it may or may not be.
	Push(ctx context.Context, m Message) error

	// Watch calls each with every lane that holds messages: those of now, then a lane when it gets one, and every few seconds
	// all that still hold some (delivered ones included), so that a receiver which has forgotten a lane hears of it again.
	// each is called on one goroutine and must not block. Watch returns ctx.Err() when ctx ends.
	Watch(ctx context.Context, each func(Lane)) error

	// Pull takes about n messages of a lane, at most MaxPull: those that wait now, or with none the first that comes within
	// wait. They are more where more were stored together. None is no error. Deliveries that are neither Done nor Later nor Working for PullLease come out again.
	Pull(ctx context.Context, lane Lane, n int, wait time.Duration) ([]Delivery, error)

	// Depth says how much a lane holds now.
	Depth(ctx context.Context, lane Lane) (Depth, error)
}

// Depth counts the messages of a lane.
type Depth struct {
	Held      int // all of them; what was stored together counts until all of it is done
	Delivered int // of these, about, with a receiver or waiting for their time (Later)
}

// Delivery is one message with its receiver. It ends with one Done or Later; errors of theirs mean that the message may come
// again, as it may anyway.
type Delivery struct {
	Message
	Count  int // how often this message has been delivered, this time included; counts may be lost with an engine
	Ticket Ticket
}

// Ticket ends or prolongs a delivery. Its calls do not wait for the engine.
type Ticket interface {
	Done() error                 // the message is removed
	Later(d time.Duration) error // it comes again after d
	Working() error              // PullLease begins anew
}

// CheckMessage refuses what Push must refuse. Error: ErrInvalid.
func CheckMessage(m Message) error {
	if len(m.Data) > MaxMessage {
		return fmt.Errorf("%w message of %d bytes: expected at most %d", ErrInvalid, len(m.Data), MaxMessage)
	}
	ok := len(m.ID) > 0 && len(m.ID) <= 128
	for i := range len(m.ID) {
		ok = ok && m.ID[i] > ' ' && m.ID[i] < 0x7f
	}
	if !ok {
		return fmt.Errorf("%w message id %.200q: expected 1 to 128 printable characters", ErrInvalid, m.ID)
	}
	return CheckLane(m.Lane)
}

// CheckLane refuses what is not a key of two segments. Error: ErrInvalid.
func CheckLane(l Lane) error {
	if err := CheckKey(l); err != nil {
		return err
	}
	slashes := 0
	for i := range len(l) {
		if l[i] == '/' {
			slashes++
		}
	}
	if slashes != 1 {
		return fmt.Errorf("%w lane %q: expected two segments", ErrInvalid, l)
	}
	return nil
}
