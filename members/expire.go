package members

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// maxEnded bounds what is remembered of processes that have ended: whoever follows the views has seen it long before.
const maxEnded = 1000

// expire drops the members that have been silent while this process heard itself, and has a look at those that may be.
func (m *Members) expire(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for key, e := range m.known {
		since := e.heard
		if m.regained.After(since) {
			since = m.regained
		}
		silent := m.ownHeard.Sub(since)
		if silent <= suspectAfter {
			continue
		}
		there := e.there.After(since)
		switch {
		case silent > HangExpiry, silent > Expiry && !there:
			m.drop(key, "it is silent")
			changed = true
		case !e.probing && e.Address != "":
			e.probing = true
			heard := e.heard
			m.probes.Go(func() { m.probe(ctx, key, e, heard) })
		}
	}
	if changed {
		m.publish()
	}
}

// probe looks whether a silent process is there: while it lives, its machine takes connections for it, however busy it is. One that
// has said nothing since it was heard last, and is not there, is gone.
func (m *Members) probe(ctx context.Context, key memberKey, e *entry, heard time.Time) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	err := m.cfg.Dial(ctx, e.Address)
	m.mu.Lock()
	defer m.mu.Unlock()
	e.probing = false
	switch {
	case err == nil:
		e.there = time.Now()
	case errors.Is(err, syscall.ECONNREFUSED) && m.known[key] == e && e.heard.Equal(heard):
		if len(m.ended) >= maxEnded {
			clear(m.ended)
		}
		m.ended[e.Boot] = true
		m.drop(key, "its process has ended")
		m.publish()
	}
}

func dial(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
