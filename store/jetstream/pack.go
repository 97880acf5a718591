package jetstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"berth/store"
)

// What waits for the same lane at the same time becomes one message of the stream, a pack: one sync stores it, and one removes
// it when all of it is done, since the server syncs each removal for itself. The last token of a pack's subject is how many it
// holds, so that the server's counts by subject are counts of events.
const (
	maxPack      = 64        // events; a kill repeats up to as many that were done already
	maxPackBytes = 256 << 10 // an event that is larger goes alone
)

// member is one event of a pack: the length of its id (1 byte), its id, when it may be delivered (8 bytes, nanoseconds since
// 1970, 0 for at once), how often it was delivered before it came into this pack (4 bytes), the length of its data (4 bytes), its
// data. All big endian.
type member struct {
	id     string
	due    time.Time
	before int
	data   []byte
}

const memberHead = 1 + 8 + 4 + 4

func (m *member) size() int { return memberHead + len(m.id) + len(m.data) }

func (m *member) append(to []byte) []byte {
	due := int64(0)
	if !m.due.IsZero() {
		due = m.due.UnixNano()
	}
	to = append(append(to, byte(len(m.id))), m.id...)
	to = binary.BigEndian.AppendUint64(to, uint64(due))
	to = binary.BigEndian.AppendUint32(to, uint32(min(m.before, 1<<30)))
	to = binary.BigEndian.AppendUint32(to, uint32(len(m.data)))
	return append(to, m.data...)
}

var errPack = errors.New("the message is no pack of events")

// decodePack returns members that share data's memory.
func decodePack(data []byte) (members []member, err error) {
	for len(data) > 0 {
		n := int(data[0])
		if len(data) < memberHead+n || len(members) == maxPack {
			return nil, errPack
		}
		m := member{id: string(data[1 : 1+n])}
		head := data[1+n:]
		if due := binary.BigEndian.Uint64(head); due != 0 {
			m.due = time.Unix(0, int64(due))
		}
		m.before = int(binary.BigEndian.Uint32(head[8:]))
		size := binary.BigEndian.Uint32(head[12:])
		if data = head[16:]; uint64(size) > uint64(len(data)) {
			return nil, errPack
		}
		m.data, data = data[:size:size], data[size:]
		members = append(members, m)
	}
	if len(members) == 0 {
		return nil, errPack
	}
	return members, nil
}

// parcel is a pack on its way to the stream, with the pushes that it answers.
type parcel struct {
	message *nats.Msg
	pushes  []*push
}

// answer tells all who wait.
func (p *parcel) answer(err error) {
	for _, w := range p.pushes {
		w.done(err)
	}
}

// pack makes parcels of pushes, in the order in which they came. Only those that share a lane and are fresh share a parcel: the
// server knows a message by one id.
func (p *partition) pack(pushes []*push) []*parcel {
	var out []*parcel
	open := map[store.Lane]*parcel{}
	sizes := map[*parcel]int{}
	for _, w := range pushes {
		one := open[w.lane]
		if one == nil || !w.fresh || len(one.pushes) == maxPack || sizes[one]+w.size() > maxPackBytes {
			one = new(parcel)
			out = append(out, one)
			if w.fresh {
				open[w.lane] = one
			}
		}
		one.pushes = append(one.pushes, w)
		sizes[one] += w.size()
	}
	for _, one := range out {
		p.seal(one, sizes[one])
	}
	return out
}

// seal makes a parcel's message. Its id lets a try whose answer was lost be repeated.
func (p *partition) seal(one *parcel, size int) {
	first, n := one.pushes[0], len(one.pushes)
	one.message = nats.NewMsg(p.subject(first.lane) + "." + strconv.Itoa(n))
	value := make([]byte, 0, size)
	for _, w := range one.pushes {
		value = w.append(value)
	}
	one.message.Data = encodeRecord(one.message.Subject, value)
	id := first.id
	if n > 1 {
		id += "+" + strconv.Itoa(n-1)
	}
	one.message.Header[nats.MsgIdHdr] = []string{id}
}

// delivered is a pack that has been delivered, while some of it is not done.
type delivered struct {
	partition *partition
	lane      store.Lane
	reply     string
	alone     bool         // the only one of its pack
	left      atomic.Int32 // members that have not ended
	renewed   atomic.Int64 // nanoseconds since 1970
}

// renewPause is how often the lease of a pack is renewed at most: each of its members asks for it.
const renewPause = time.Second

func (d *delivered) publish(answer string) error {
	return d.partition.queue.engine.conn.Publish(d.reply, []byte(answer))
}

// later lets the server deliver the whole pack again after a while.
func (d *delivered) later(wait time.Duration) error {
	d.partition.queue.note(d.lane, lastAnswer{d.reply, noAnswer, time.Now()})
	return d.publish(fmt.Sprintf(`-NAK {"delay": %d}`, max(wait, time.Millisecond).Nanoseconds()))
}

// end notes that one member has ended; the last lets the stream forget the pack.
func (d *delivered) end() error {
	if d.left.Add(-1) == 0 {
		d.partition.queue.note(d.lane, lastAnswer{d.reply, doneAnswer, time.Now()})
		return d.publish(doneAnswer)
	}
	return nil
}

// ticket ends the delivery of one member.
type ticket struct {
	*delivered
	member
	count int // as in store.Delivery
}

func (t *ticket) Done() error { return t.end() }

func (t *ticket) Working() error {
	now, last := time.Now().UnixNano(), t.renewed.Load()
	if now-last < int64(renewPause) || !t.renewed.CompareAndSwap(last, now) {
		return nil
	}
	return t.publish("+WPI")
}

// Later lets the server wait for who is alone. The others must not wait with it, so it becomes a message of its own; until that is
// stored the pack is not done.
func (t *ticket) Later(d time.Duration) error {
	if t.alone {
		return t.later(d)
	}
	next := t.member
	next.before, next.due = t.count, time.Time{}
	if d > 0 {
		next.due = time.Now().Add(d)
	} else {
		next.before-- // it was taken and not begun
	}
	return t.partition.enqueue(&push{member: next, lane: t.lane, done: func(err error) {
		if err == nil {
			err = t.end()
		}
		if err != nil {
			t.partition.queue.engine.log.Warn("an event could not be put back: it will come again with those that came with it", "lane", t.lane, "message", t.id, "err", err)
		}
	}})
}
